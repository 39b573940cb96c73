# SPDX-License-Identifier: Apache-2.0
"""From an encoder's levels back to 2D maps at half the image's resolution (the paper's 2D cue decoders)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .resnet import BACKBONES, ConvBlock

__all__ = ["delayers", "up_and_merge"]


def delayers(backbone: str) -> nn.ModuleList:
    """Make the convolutions that follow each doubling of the resolution: 16, 8, 4, 2 pixels a cell."""
    fine_to_coarse = BACKBONES[backbone].channels
    steps = [ConvBlock(coarse + fine, fine) for fine, coarse in pairwise(fine_to_coarse)]
    return nn.ModuleList([*reversed(steps), ConvBlock(fine_to_coarse[0], fine_to_coarse[0])])


def up_and_merge(layers: nn.ModuleList, levels: Sequence[Tensor]) -> Tensor:
    """Decode levels of strides 4, 8, 16, 32 into features (B, C, S / 2, S / 2)."""
    *finer, x = levels
    for layer in layers:
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        x = layer(torch.cat([x, finer.pop()], 1) if finer else x)
    return x
