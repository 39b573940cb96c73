# SPDX-License-Identifier: Apache-2.0
"""Timings that compare the runtime with its peers on the machine at hand. Run from a checkout; not installed."""
