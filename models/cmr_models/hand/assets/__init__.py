# SPDX-License-Identifier: Apache-2.0
"""The baked hand; see PROVENANCE.md."""
