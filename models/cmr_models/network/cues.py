# SPDX-License-Identifier: Apache-2.0
"""Semantic aggregation of 2D cues: sums of joint heat maps in groups, the paper's sub-poses (section 3.2)."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor, nn

__all__ = ["BODY_SUB_POSES", "SUB_POSES", "Aggregation", "sub_poses"]

_TIPS, _BODY_TIPS = (4, 8, 12, 16, 20), (3, 6, 13, 16, 10)
#: Groups of joints by name: each finger with the wrist, or without; the joints of one level; pairs of finger tips.
SUB_POSES = {
    "part": tuple((0, *range(4 * f + 1, 4 * f + 5)) for f in range(5)),
    "finger": tuple(tuple(range(4 * f + 1, 4 * f + 5)) for f in range(5)),
    "level": tuple(tuple(4 * f + k for f in range(5)) for k in range(1, 5)),
    "tip": tuple(combinations(_TIPS, 2)),
}
#: The same for the 17 joints of Human3.6M: limbs and spine from the pelvis; legs' and arms' joints of one level; pairs
#: of feet, hands and head.
BODY_SUB_POSES = {
    "part": ((0, 1, 2, 3), (0, 4, 5, 6), (0, 7, 8, 9, 10), (0, 7, 8, 11, 12, 13), (0, 7, 8, 14, 15, 16)),
    "level": tuple((1 + k, 4 + k, 11 + k, 14 + k) for k in range(3)),
    "tip": tuple(combinations(_BODY_TIPS, 2)),
}
_BY_JOINTS = {21: SUB_POSES, 17: BODY_SUB_POSES}


def sub_poses(name: str, joints: int = 21) -> tuple[tuple[int, ...], ...]:
    """Return the groups of one name or of a union such as ``"part+tip"``, for a hand (21 joints) or a body (17).

    Raises
    ------
    ValueError
        If a name or the number of joints is unknown.
    """
    if joints not in _BY_JOINTS:
        raise ValueError(f"no sub-poses for {joints} joints; need one of {sorted(_BY_JOINTS)}")
    known = _BY_JOINTS[joints]
    groups: tuple[tuple[int, ...], ...] = ()
    for part in name.split("+"):
        if part not in known:
            raise ValueError(f"unknown sub-pose {part!r}; choose from {sorted(known)} or join them with '+'")
        groups += known[part]
    return groups


class Aggregation(nn.Module):
    """Concatenate heat maps, the silhouette if there is one, and aggregated sub-poses: (B, J + 1 + groups, H, H)."""

    def __init__(self, name: str, joints: int = 21, silhouette: bool = True) -> None:
        super().__init__()
        groups = sub_poses(name, joints)
        matrix = torch.zeros(len(groups), joints)
        for row, group in enumerate(groups):
            matrix[row, list(group)] = 1
        self.register_buffer("matrix", matrix[:, :, None, None], persistent=False)
        self.channels = joints + silhouette + len(groups)

    def forward(self, heatmaps: Tensor, *silhouette: Tensor) -> Tensor:
        """Aggregate probabilities (B, J, H, H) and, if there is a silhouette, (B, 1, H, H)."""
        aggregated = nn.functional.conv2d(heatmaps, self.matrix.to(heatmaps.dtype))
        return torch.cat([heatmaps, *silhouette, aggregated], 1)
