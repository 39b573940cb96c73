# SPDX-License-Identifier: Apache-2.0
"""Holds the default bundle, ``hand.cmr``."""
