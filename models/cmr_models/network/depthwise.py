# SPDX-License-Identifier: Apache-2.0
"""Depthwise 5×5 convolutions whose weights learn quicker on a processor.

PyTorch has a quick gradient for the weights of depthwise 3×3 kernels there, and one that takes ten times as long for
any others: a quarter of a training step. A 5×5 kernel is four 3×3 kernels that overlap in its middle, each over an
image shifted by two pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Depthwise5"]

_backward = torch.ops.aten.convolution_backward


class _Depthwise5(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, 1, 2, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        channels, (height, width) = len(weight), x.shape[2:]
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            about = [1, 1], [2, 2], [1, 1], False, [0, 0], channels
            of_x = _backward(gradient, x, weight, None, *about, [True, False, False])[0]
        if ctx.needs_input_grad[1]:
            of_weight, small = torch.empty_like(weight), weight.new_empty(channels, 1, 3, 3)
            wide = F.pad(x, (2, 2, 2, 2))
            about = [1, 1], [0, 0], [1, 1], False, [0, 0], channels
            for top in (0, 2):
                for left in (0, 2):
                    part = wide[:, :, top : top + height + 2, left : left + width + 2]
                    part = part.contiguous(memory_format=torch.channels_last)
                    found = _backward(gradient, part, small, None, *about, [False, True, False])[1]
                    of_weight[:, :, top : top + 3, left : left + 3] = found
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum((0, 2, 3))
        return of_x, of_weight, of_bias


class Depthwise5(nn.Conv2d):
    """5×5 convolution of each channel by itself, the size kept: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 5, padding=2, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve; zeros beyond the border."""
        if not (torch.is_grad_enabled() and self.weight.requires_grad and x.device.type == "cpu"):
            return super().forward(x)
        out: Tensor = _Depthwise5.apply(x, self.weight, self.bias)
        return out
