# SPDX-License-Identifier: Apache-2.0
"""Depthwise 5×5 convolutions whose weights learn quicker on a processor.

PyTorch has a quick gradient there for the weights of depthwise kernels that are up to three wide and step by one, and
one that takes ten times as long for any others: a fifth of a training step. A 5×5 kernel is one of 5×3 and one of 5×2
side by side; one that steps by two is four that step by one, each over every other row and column.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Depthwise5"]

_backward = torch.ops.aten.convolution_backward


def _of_kernel(gradient: Tensor, x: Tensor, height: int, width: int) -> Tensor:
    """Gradient of a kernel (C, 1, height, width) that steps by one over x, which ends where the kernel does."""
    rows, columns = gradient.shape[2] + height - 1, gradient.shape[3] + width - 1
    x = x[:, :, :rows, :columns].contiguous(memory_format=torch.channels_last)
    kernel = gradient.new_empty(len(x[0]), 1, height, width)
    usual = [1, 1], [0, 0], [1, 1], False, [0, 0], len(kernel)
    found: Tensor = _backward(gradient, x, kernel, None, *usual, [False, True, False])[1]
    return found


class _Depthwise5(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, bias, stride, padding, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding = ctx.stride, ctx.padding
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            usual = [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], len(weight)
            of_x = _backward(gradient, x, weight, None, *usual, [True, False, False])[0]
        if ctx.needs_input_grad[1]:
            x = F.pad(x, (padding,) * 4) if padding else x
            if stride == 1:
                parts = [_of_kernel(gradient, x, 5, 3), _of_kernel(gradient, x[:, :, :, 3:], 5, 2)]
                of_weight = torch.cat(parts, 3)
            else:
                of_weight = torch.empty_like(weight)
                for top in (0, 1):
                    for left in (0, 1):
                        every_other = x[:, :, top::2, left::2]
                        of_weight[:, :, top::2, left::2] = _of_kernel(gradient, every_other, 3 - top, 3 - left)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum((0, 2, 3))
        return of_x, of_weight, of_bias, None, None


class Depthwise5(nn.Conv2d):
    """5×5 convolution of each channel by itself.

    Parameters
    ----------
    channels : int
        Of input and output.
    stride : int
        1 or 2.
    padding : int
        Zeros beyond each border; 2 keeps the size at a stride of 1.
    """

    def __init__(self, channels: int, stride: int = 1, padding: int = 2) -> None:
        super().__init__(channels, channels, 5, stride, padding, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, (H + 2 padding - 5) // stride + 1, likewise)."""
        if not (torch.is_grad_enabled() and self.weight.requires_grad and x.device.type == "cpu"):
            return super().forward(x)
        out: Tensor = _Depthwise5.apply(x, self.weight, self.bias, self.stride[0], self.padding[0])
        return out
