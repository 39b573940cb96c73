# SPDX-License-Identifier: Apache-2.0
"""Prior stage: image -> joint heat maps, silhouette, presence, handedness, shallow features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from .hourglass import Decoder
from .trunk import BLOCKS, Trunk

__all__ = ["SHALLOW_BLOCK", "Prior", "PriorOutput"]

#: The mesh stage goes on behind this block: stride 8, 24 channels.
SHALLOW_BLOCK = 3


class PriorOutput(NamedTuple):
    """Logits of the prior, and the features that the mesh stage goes on with.

    For images (B, 3, S, S), H = S / 4 and G = S / 8.
    """

    heatmaps: Tensor  # (B, 21, H, H) logits
    silhouette: Tensor  # (B, 1, H, H) logits
    presence: Tensor  # (B, 1) logits
    right: Tensor  # (B, 1) logits
    features: Tensor  # (B, 24, G, G)


class Prior(nn.Module):
    """Hourglass on the mobile trunk; presence and handedness come from its pooled features."""

    def __init__(
        self,
        widths: tuple[int, ...] = (32, 48, 64, 96),
        joints: int = 21,
        blocks: Sequence[int] | None = None,
        stem: tuple[int, int] | None = None,
        clipped: bool = True,
    ) -> None:
        super().__init__()
        self.trunk = Trunk(blocks=blocks, stem=stem)
        self.decoder = Decoder((16, 24, 64, 112), widths, clipped)
        self.head = nn.Conv2d(widths[0], joints + 1, 1)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.constant_(self.head.bias, -4.0)  # most cells are empty
        self.presence = nn.Linear(self.trunk.pooled, 1)
        self.right = nn.Linear(self.trunk.pooled, 1)

    def forward(self, image: Tensor) -> PriorOutput:
        """Run the prior on normalised images (B, 3, S, S), S a multiple of 32."""
        levels, pooled = self.trunk(image)
        levels = levels[-4:]  # without the map of half the resolution, which a dense stem skips
        maps = self.head(self.decoder(levels)[0])
        return PriorOutput(maps[:, :-1], maps[:, -1:], self.presence(pooled), self.right(pooled), levels[1])


assert BLOCKS[SHALLOW_BLOCK + 1].stride == 2, "shallow features are the last map of their resolution"
