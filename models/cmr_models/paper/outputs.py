# SPDX-License-Identifier: Apache-2.0
"""What the paper's networks give in training: logits and vertices in the hierarchy's unit."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["Maps", "PaperOutput"]


class Maps(NamedTuple):
    """Logits of one pass over the image, H = S / 2; None where the pass does not predict them."""

    heatmaps: Tensor | None  # (B, J, H, H)
    silhouette: Tensor | None  # (B, 1, H, H)


class PaperOutput(NamedTuple):
    """All that losses look at; a network fills what it has."""

    levels: list[Tensor]  # (B, V_l, 3) root-relative, in the hierarchy's unit, finest first
    refined: Maps | None = None  # of the mesh stage
    priors: tuple[Maps, ...] = ()  # in the order in which they are made
    keypoints: Tensor | None = None  # (B, J, 2) fractions of the image
