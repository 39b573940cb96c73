# SPDX-License-Identifier: Apache-2.0
"""The networks of the paper and their successors, built from shared parts (Chen et al., CVPR 2021 and 2022)."""
