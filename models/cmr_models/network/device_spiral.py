# SPDX-License-Identifier: Apache-2.0
"""The spiral decoder as a device runs it: the same function, for one hand, in a third of the operators.

Three identities, none of which changes the result beyond rounding:

- What lies between two levels is linear: the pointwise layer that leaves a module, the head, the mean with the coarser
  prediction and the layer that enters the next module. They become one matrix, and as up-sampling is linear too and its
  weights sum to one, it is applied in front of up-sampling, where there are half as many vertices.
- Half of a finer level's vertices are those of the coarser one. Numbered first, they are not computed but kept.
- A depthwise sum over a spiral is a product with a matrix that is mostly zero; on large levels a processor is sooner
  done with that than with the product and the sum each by itself.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .spiral import DepthwiseSpiral, InceptionSpiral, SpiralDecoder

__all__ = ["DeviceSpiral"]

#: Levels of at least so many vertices, which networks with layers on three or four levels have, take spirals as
#: matrices. Measured in ONNX Runtime with AVX-512: above, the matrix is sooner done; below, the sum.
_MANY = 300


class _Branch(nn.Module):
    """One depthwise spiral with its bias and activation: (V, C) -> (V, C)."""

    def __init__(self, branch: DepthwiseSpiral, bias: Tensor, order: Tensor, place: Tensor) -> None:
        super().__init__()
        length = branch.weight.shape[0]
        self.vertices = len(order)
        self.register_buffer("index", place[branch.spirals.view(-1, length)[order]].flatten())
        self.dense = self.vertices >= _MANY
        weight = branch.weight.detach()
        if self.dense:
            weight = torch.cat([torch.diag(row) for row in weight], 1)  # (C, length C)
        self.register_buffer("weight", weight.clone())
        self.register_buffer("bias", bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        walks = x[self.index]
        if self.dense:
            return F.relu(F.linear(walks.reshape(self.vertices, -1), self.weight, self.bias))
        return F.relu((walks.reshape(self.vertices, -1, x.shape[1]) * self.weight).sum(1) + self.bias)


class _Level(nn.Module):
    """One module, and all that is linear behind it: (V, C), and the coarser prediction (V, 3) -> (V, out + 3).

    Without a finer module behind it there is the prediction alone, (V, 3).
    """

    def __init__(
        self,
        module: InceptionSpiral,
        head: nn.Linear,
        finer: InceptionSpiral | None,
        coarsest: bool,
        order: Tensor,
        place: Tensor,
    ) -> None:
        super().__init__()
        width = module.enter.out_features
        self.branches = nn.ModuleList(
            _Branch(branch, module.bias[k * width : (k + 1) * width], order, place)
            for k, branch in enumerate(module.branches)
        )
        share = 1.0 if coarsest else 0.5  # of this level in the mean of its prediction and the coarser one
        head_weight, head_bias = share * _double(head.weight), share * _double(head.bias)
        handed = share * torch.eye(3, dtype=torch.float64)
        if finer is None:
            own, coarser, bias = head_weight, handed, head_bias
        else:
            features, vertices = _double(finer.enter.weight).split([width, 3], 1)
            own = torch.cat([features + vertices @ head_weight, head_weight])
            coarser = torch.cat([vertices @ handed, handed])
            bias = torch.cat([vertices @ head_bias + _double(finer.enter.bias), head_bias])
        bias = bias + own @ _double(module.leave.bias)
        parts = [own, own @ _double(module.leave.weight)] + ([] if coarsest else [coarser])
        self.register_buffer("weight", torch.cat(parts, 1).float())
        self.register_buffer("bias", bias.float())

    def forward(self, x: Tensor, *coarser: Tensor) -> Tensor:
        parts = [x, *(branch(x) for branch in self.branches), *coarser]
        return F.linear(torch.cat(parts, 1), self.weight, self.bias)


class _Finer(nn.Module):
    """Up-sampling: the coarser vertices as they are, then those that are new, each from three: (V', C) -> (V, C)."""

    def __init__(self, index: Tensor, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("index", index.flatten())
        self.register_buffer("weight", weight[:, :, None].clone())

    def forward(self, x: Tensor) -> Tensor:
        corners = x[self.index].reshape(-1, 3, x.shape[1])
        return torch.cat([x, (corners * self.weight).sum(1)])


class DeviceSpiral(nn.Module):
    """The mesh of a `SpiralDecoder`, of one hand.

    Parameters
    ----------
    decoder : SpiralDecoder
        Trained; its weights are copied.
    lift : (V_L, J) Tensor
        From the joints' features to those of the coarsest level.
    root : (1, V) Tensor or None
        The root joint as a sum of vertices: they come out relative to it. None leaves them as the decoder has them.
    unit : float
        Their unit, in the one that is wanted.

    Raises
    ------
    ValueError
        If a coarser level's vertices are not all among those of the finer one.
    """

    def __init__(self, decoder: SpiralDecoder, lift: Tensor, root: Tensor | None = None, unit: float = 1.0) -> None:
        super().__init__()
        coarsest, finest = decoder.levels, decoder.finest
        enter = decoder.modules_[str(coarsest)].enter
        self.register_buffer("lift", lift.detach().clone())
        self.register_buffer("enter", enter.weight.detach().clone())
        self.register_buffer("bias", enter.bias.detach().clone())
        # order: the decoder's number of each vertex of ours; place: the other way round.
        order = place = torch.arange(len(lift))
        levels, finer = [], []
        for level in range(coarsest, finest - 1, -1):
            levels.append(
                _Level(
                    decoder.modules_[str(level)],
                    decoder.heads[str(level)],
                    decoder.modules_[str(level - 1)] if level > finest else None,
                    level == coarsest,
                    order,
                    place,
                )
            )
            if level > finest:
                up = decoder.up[str(level - 1)]
                index, weight = up.index.view(-1, 3), up.weight[0, :, :, 0]
                new, finer_order = _number(index, weight, order)
                finer.append(_Finer(place[index[new]], weight[new]))
                order, place = finer_order, torch.argsort(finer_order)
        self.levels, self.finer = nn.ModuleList(levels), nn.ModuleList(finer)
        surface, self.unit = decoder.surface, unit
        self.register_buffer("place", place if surface is None else None)
        self.register_buffer("root", None if root is None else root.detach().clone())
        if surface is not None:  # its matrix does the rest as well
            surface = unit * _double(surface)[:, order]
            surface = (surface if root is None else surface - _double(root) @ surface).float()
        self.register_buffer("surface", surface)

    def forward(self, tokens: Tensor) -> Tensor:
        """Features of the joints (J, inp) -> vertices (V, 3), in the decoder's order."""
        x = F.relu(self.lift @ F.linear(tokens, self.enter) + self.bias)
        coarser: tuple[Tensor, ...] = ()
        for level, finer in zip(self.levels[:-1], self.finer, strict=True):
            handed = finer(level(x, *coarser))
            features, prediction = handed.split([handed.shape[1] - 3, 3], 1)
            x, coarser = F.relu(features), (prediction,)
        vertices = self.levels[-1](x, *coarser)
        if self.surface is not None:  # three long rows take half the time of as many short ones
            return (vertices.T @ self.surface.T).T
        vertices = self.unit * vertices[self.place]
        return vertices if self.root is None else vertices - self.root @ vertices


def _number(index: Tensor, weight: Tensor, coarser: Tensor) -> tuple[Tensor, Tensor]:
    """Vertices of a finer level that are new, and its order: the coarser ones in theirs, then the new ones."""
    copies: dict[int, int] = {}
    for vertex in torch.nonzero(weight.max(1).values > 1 - 1e-6)[:, 0].tolist():
        copies.setdefault(int(index[vertex, weight[vertex].argmax()]), vertex)
    if lacking := [vertex for vertex in coarser.tolist() if vertex not in copies]:
        raise ValueError(f"{len(lacking)} of {len(coarser)} coarser vertices are not among the finer ones")
    kept = torch.tensor([copies[vertex] for vertex in coarser.tolist()])
    new = torch.ones(len(index), dtype=torch.bool)
    new[kept] = False
    new = torch.nonzero(new)[:, 0]
    return new, torch.cat([kept, new])


def _double(parameter: Tensor) -> Tensor:
    return parameter.detach().double()
