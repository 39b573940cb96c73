# SPDX-License-Identifier: Apache-2.0
"""A hand of our own: shape, pose, mesh levels. See `topology` for the frame and `bake` for where it comes from."""

from .model import HandModel, HandOutput
from .topology import JOINT_NAMES, JOINT_PARENTS, ROOT_JOINT, HandTopology, load_hand

__all__ = ["JOINT_NAMES", "JOINT_PARENTS", "ROOT_JOINT", "HandModel", "HandOutput", "HandTopology", "load_hand"]
