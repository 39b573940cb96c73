# SPDX-License-Identifier: Apache-2.0
"""Poses of photographed hands; see PROVENANCE.md."""
