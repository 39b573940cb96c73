# SPDX-License-Identifier: Apache-2.0
"""Semantic aggregation of 2D cues: sums of joint heat maps in groups, the paper's sub-poses (section 3.2)."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor, nn

__all__ = ["SUB_POSES", "Aggregation", "sub_poses"]

_TIPS = (4, 8, 12, 16, 20)
#: Groups of joints by name: each finger with the wrist; the joints of one level; pairs of finger tips.
SUB_POSES = {
    "part": tuple((0, *range(4 * f + 1, 4 * f + 5)) for f in range(5)),
    "level": tuple(tuple(4 * f + k for f in range(5)) for k in range(1, 5)),
    "tip": tuple(combinations(_TIPS, 2)),
}


def sub_poses(name: str) -> tuple[tuple[int, ...], ...]:
    """Return the groups of one name or of a union such as ``"part+tip"``.

    Raises
    ------
    ValueError
        If a name is unknown.
    """
    groups: tuple[tuple[int, ...], ...] = ()
    for part in name.split("+"):
        if part not in SUB_POSES:
            raise ValueError(f"unknown sub-pose {part!r}; choose from {sorted(SUB_POSES)} or join them with '+'")
        groups += SUB_POSES[part]
    return groups


class Aggregation(nn.Module):
    """Concatenate heat maps, silhouette and aggregated sub-poses: (B, 21 + 1 + groups, H, H)."""

    def __init__(self, name: str, joints: int = 21) -> None:
        super().__init__()
        groups = sub_poses(name)
        matrix = torch.zeros(len(groups), joints)
        for row, group in enumerate(groups):
            matrix[row, list(group)] = 1
        self.register_buffer("matrix", matrix[:, :, None, None], persistent=False)
        self.channels = joints + 1 + len(groups)

    def forward(self, heatmaps: Tensor, silhouette: Tensor) -> Tensor:
        """Aggregate probabilities (B, 21, H, H) and (B, 1, H, H)."""
        aggregated = nn.functional.conv2d(heatmaps, self.matrix.to(heatmaps.dtype))
        return torch.cat([heatmaps, silhouette, aggregated], 1)
