# SPDX-License-Identifier: Apache-2.0
"""Spiral decoder: from per-vertex features of the coarsest level to the mesh (the paper's section 3.3, made mobile).

Each level is an Inception Spiral Module whose branches are depthwise over spirals of several lengths, followed by one
pointwise layer. Every level predicts its vertices; a prediction is averaged with the up-sampled coarser one, and is
handed to the next level together with the features (autoregressive). The finest levels need no layers of their own: the
mesh follows from a quarter of its vertices by a matrix that the hand brings (`HandTopology.surface`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..hand import HandTopology

__all__ = ["SpiralDecoder", "UpSample"]


class UpSample(nn.Module):
    """Barycentric up-sampling: three coarse vertices for every fine one."""

    def __init__(self, index: Tensor, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("index", index.long().flatten())
        self.register_buffer("weight", weight.float()[None, :, :, None])

    def forward(self, x: Tensor) -> Tensor:
        """(B, V_coarse, C) -> (B, V_fine, C)."""
        corners = x.index_select(1, self.index).unflatten(1, (-1, 3))
        return (corners * self.weight.to(x.dtype)).sum(2)


class _WeightedSum(torch.autograd.Function):
    """Vertices (B, V, C), spirals (U, L) and weights (L, C) -> sums over each spiral (B, U, C).

    One position at a time: all of them at once, (B, U, L, C), take twice as long on a processor.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, spirals: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, spirals, weight)
        first, *others = spirals.unbind(1)
        total = x.index_select(1, first) * weight[0]
        for column, each in zip(others, weight[1:], strict=True):
            total.addcmul_(x.index_select(1, column), each)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor]:
        x, spirals, weight = ctx.saved_tensors
        of_x, of_weight = torch.zeros_like(x), torch.empty_like(weight)
        for k, column in enumerate(spirals.unbind(1)):
            of_weight[k] = (x.index_select(1, column) * gradient).sum((0, 1))
            of_x.index_add_(1, column, gradient * weight[k])
        return of_x, None, of_weight


class DepthwiseSpiral(nn.Module):
    """One weight per spiral position and channel: (B, V, C) -> (B, V, C)."""

    def __init__(self, spirals: Tensor, channels: int) -> None:
        super().__init__()
        self.length = spirals.shape[1]
        self.register_buffer("spirals", spirals.flatten())
        self.weight = nn.Parameter(torch.randn(self.length, channels) / self.length**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Gather each vertex' spiral and sum it with its weights."""
        return _WeightedSum.apply(x, self.spirals.unflatten(0, (-1, self.length)), self.weight)


class InceptionSpiral(nn.Module):
    """Branches over spirals of several lengths, concatenated, then a pointwise layer; residual where widths agree."""

    def __init__(self, spirals: Sequence[Tensor], inp: int, out: int) -> None:
        super().__init__()
        self.enter = nn.Linear(inp, out)
        self.branches = nn.ModuleList(DepthwiseSpiral(s, out) for s in spirals)
        self.bias = nn.Parameter(torch.zeros(out * len(spirals)))
        self.leave = nn.Linear(out * len(spirals), out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, V, inp) -> (B, V, out)."""
        x = F.relu(self.enter(x))
        y = F.relu(torch.cat([branch(x) for branch in self.branches], 2) + self.bias)
        return x + self.leave(y)


class SpiralDecoder(nn.Module):
    """Features on the coarsest mesh level to vertices.

    Parameters
    ----------
    hand : HandTopology
        Mesh hierarchy, L coarser levels.
    inp : int
        Channels of the features at the coarsest level.
    widths : sequence of int
        Channels of the levels that have layers, finest first; the last is level L. With L + 1 of them the mesh is the
        first; with L or L - 1 each of its vertices is a sum of vertices of the first.
    spirals : sequence of (length, dilation)
        Branches of each module.

    Attributes
    ----------
    levels : int
        L.
    finest : int
        The finest level with layers.
    shown : tuple of int
        Levels whose vertices come out.

    Raises
    ------
    ValueError
        If the mesh does not follow from so few levels, or the hand has not as many.
    """

    def __init__(
        self,
        hand: HandTopology,
        inp: int,
        widths: Sequence[int],
        spirals: Sequence[tuple[int, int]] = ((5, 1), (9, 2)),
    ) -> None:
        super().__init__()
        self.levels = len(hand.level_index)
        self.finest = self.levels + 1 - len(widths)
        if not 0 <= self.finest <= len(hand.surface_index):
            least, most = self.levels + 1 - len(hand.surface_index), self.levels + 1
            raise ValueError(f"layers on {len(widths)} mesh levels; need {least} to {most}, the coarsest ones")
        own = range(self.finest, self.levels + 1)
        self.shown = tuple(own) if self.finest == 0 else (0, *own)
        # By level: weights keep their names whatever the finest one is.
        self.up, self.modules_, self.heads = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        self.register_buffer("surface", torch.as_tensor(hand.surface(self.finest)) if self.finest else None)
        for level in own:
            walks = [torch.as_tensor(hand.spirals(level, length, dilation)) for length, dilation in spirals]
            width, coarsest = widths[level - self.finest], level == self.levels
            channels = inp if coarsest else widths[level - self.finest + 1] + 3
            self.modules_[str(level)] = InceptionSpiral(walks, channels, width)
            head = nn.Linear(width, 3)
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)
            self.heads[str(level)] = head
            if not coarsest:
                index, weight = torch.as_tensor(hand.up_index[level]), torch.as_tensor(hand.up_weight[level])
                self.up[str(level)] = UpSample(index, weight)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Decode (B, V_L, inp); returns vertices (B, V_l, 3) of each level in ``shown``, the mesh first."""
        predictions: list[Tensor] = []
        for level in reversed(range(self.finest, self.levels + 1)):
            if predictions:
                x = self.up[str(level)](torch.cat([x, predictions[0]], 2))
                coarser = x[:, :, -3:]
            x = self.modules_[str(level)](x)
            prediction = self.heads[str(level)](x)
            predictions.insert(0, (prediction + coarser) / 2 if predictions else prediction)
        if self.surface is not None:
            predictions.insert(0, self.surface @ predictions[0])
        return predictions
