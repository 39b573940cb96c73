# SPDX-License-Identifier: Apache-2.0
"""What the mesh stage said of the last frame, as its cues in this one: the prior need not be asked in every frame.

In training there is no last frame. Its maps are those of the prior, moved a little, as the hand has moved since; in
pictures without a hand they are another's: the hand has gone.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["recalled"]

#: Joints that move together: each finger; the wrist goes with the outline.
_FINGERS, _JOINTS = 5, 4


def recalled(
    heatmaps: Tensor, silhouette: Tensor, source: Tensor, moved: Tensor, chosen: Tensor
) -> tuple[Tensor, Tensor]:
    """Cues of some samples replaced by those that the last frame may have left.

    Parameters
    ----------
    heatmaps, silhouette : (B, 21, H, H) and (B, 1, H, H) Tensor
        Probabilities.
    source : (B,) Tensor
        Of which sample the maps are.
    moved : (B, 6, 2, 3) Tensor
        Affine maps, for `torch.nn.functional.affine_grid`, of each finger and of the rest.
    chosen : (B,) Tensor
        Whether a sample's cues are replaced.

    Returns
    -------
    heatmaps, silhouette : Tensor
        As given, or replaced.
    """
    count, _, cells, _ = heatmaps.shape
    last = torch.cat([heatmaps, silhouette], 1).detach()[source]

    def move(maps: Tensor, motion: Tensor) -> Tensor:
        grid = F.affine_grid(motion, [len(maps), 1, cells, cells], align_corners=False)
        return F.grid_sample(maps, grid.to(maps), align_corners=False)

    fingers = move(last[:, 1:-1].reshape(-1, _JOINTS, cells, cells), moved[:, :_FINGERS].flatten(0, 1))
    rest = move(last[:, [0, -1]], moved[:, _FINGERS])
    maps = torch.cat([rest[:, :1], fingers.reshape(count, -1, cells, cells)], 1)
    where = chosen[:, None, None, None]
    return torch.where(where, maps, heatmaps), torch.where(where, rest[:, 1:], silhouette)
