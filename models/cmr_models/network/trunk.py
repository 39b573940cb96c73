# SPDX-License-Identifier: Apache-2.0
"""Mobile trunk: inverted residual blocks without batch norm, with TensorFlow's SAME padding.

The architecture is that of MediaPipe's hand landmark network (lite), so that training can start from its weights
(Apache-2.0, see `convert_mediapipe`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .depthwise import Depthwise5

__all__ = ["BLOCKS", "DENSE", "EXPANDED", "LAST", "Block", "BlockSpec", "Conv", "Trunk", "load_pretrained"]


class BlockSpec(NamedTuple):
    """One inverted residual block."""

    expanded: int
    kernel: int
    stride: int
    out: int


#: After the stem (stride 2, 16 channels); MediaPipe hand landmark lite.
BLOCKS = (
    BlockSpec(64, 3, 2, 16),
    BlockSpec(96, 3, 1, 16),
    BlockSpec(96, 5, 2, 24),
    BlockSpec(144, 5, 1, 24),
    BlockSpec(144, 3, 2, 48),
    BlockSpec(288, 3, 1, 48),
    BlockSpec(288, 3, 1, 48),
    BlockSpec(288, 5, 1, 64),
    BlockSpec(384, 5, 1, 64),
    BlockSpec(384, 5, 1, 64),
    BlockSpec(384, 5, 2, 112),
    BlockSpec(672, 5, 1, 112),
    BlockSpec(672, 5, 1, 112),
    BlockSpec(672, 5, 1, 112),
)
#: Channels of the last, expanded feature map.
EXPANDED = 672
#: Stands for its layers where the blocks of a trunk are listed.
LAST = len(BLOCKS)
STEM = 16
#: The first block behind a dense stem, which stands for the blocks before it too.
DENSE = 2
#: Images at a time in layers that do not learn: the large maps between them then stay in a processor's cache.
FEW = 2


class Conv(nn.Module):
    """Convolution with SAME padding as TensorFlow pads (the odd pixel right and below), ReLU6 optional."""

    def __init__(self, inp: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True) -> None:
        super().__init__()
        total = max(kernel - stride, 0)
        self.before, self.after = total // 2, total - total // 2
        symmetric = self.before == self.after
        padding = self.before if symmetric else 0
        if groups == inp == out and kernel == 5:
            self.conv: nn.Conv2d = Depthwise5(inp, stride, padding)
        else:
            self.conv = nn.Conv2d(inp, out, kernel, stride, padding, groups=groups)
        self.pad = not symmetric
        self.act = act
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_in", nonlinearity="relu" if act else "linear")
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve; the input's size is a multiple of the stride."""
        if self.pad:
            x = F.pad(x, (self.before, self.after, self.before, self.after))
        x = self.conv(x)
        return F.relu6(x, inplace=True) if self.act else x


class Block(nn.Module):
    """Expand, depthwise, project; added to the input where the shapes allow.

    The first block of the trunk halves the resolution and still adds: its input is max-pooled.
    """

    def __init__(self, inp: int, spec: BlockSpec) -> None:
        super().__init__()
        self.expand = Conv(inp, spec.expanded)
        self.depthwise = Conv(spec.expanded, spec.expanded, spec.kernel, spec.stride, spec.expanded)
        self.project = Conv(spec.expanded, spec.out, act=False)
        self.residual = inp == spec.out
        self.pooled = self.residual and spec.stride == 2

    def forward(self, x: Tensor) -> Tensor:
        """(B, inp, H, W) -> (B, out, H / stride, W / stride)."""
        y = self.project(self.depthwise(self.expand(x)))
        if not self.residual:
            return y
        return y + (F.max_pool2d(x, 2) if self.pooled else x)


class Trunk(nn.Module):
    """The trunk, its part from one block on, or some of that part's blocks.

    Parameters
    ----------
    first : int
        Index of the first block; 0 includes the stem and takes an image.
    blocks : sequence of int, optional
        Blocks from there on that it has, and `LAST` if it has the expanded layers behind them; default: all. A block
        that neither halves the resolution nor changes the channels adds to its input, and can be left out.
    stem : (int, int), optional
        Channels of two dense convolutions that stand for the stem and the blocks before `DENSE`; default: MediaPipe's
        stem and blocks. They have two thirds of the multiply-adds, and none at full width on the largest map, where
        depthwise layers wait for memory: half the time.

    Attributes
    ----------
    chosen : tuple of int
        Its blocks, and `LAST` if it has that.
    pooled : int
        Channels of the pooled features.

    Raises
    ------
    ValueError
        If the blocks do not follow one another.
    """

    def __init__(
        self, first: int = 0, blocks: Sequence[int] | None = None, stem: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.first, self.dense = first, first == 0 and stem is not None
        every = range(DENSE if self.dense else first, LAST + 1)
        self.chosen = chosen = tuple(every) if blocks is None else tuple(blocks)
        self.places = tuple(k for k in chosen if k != LAST)
        channels = STEM if first == 0 else BLOCKS[first - 1].out
        if self.dense:
            fine, coarse = stem
            self.stem = nn.Sequential(Conv(3, fine, 3, 2), Conv(fine, coarse, 3, 2), Conv(coarse, STEM, act=False))
        elif first == 0:
            self.stem = nn.Sequential(Conv(3, 24, 3, 2), Conv(24, 24, 3, 1, 24), Conv(24, STEM, act=False))
        skipped = [k for k in every[:-1] if k not in chosen]
        needed = [k for k in skipped if BLOCKS[k].stride == 2 or BLOCKS[k].out != (BLOCKS[k - 1].out if k else STEM)]
        if needed or list(chosen) != sorted({*chosen} & {*every}):
            raise ValueError(f"blocks {chosen}: need some of {every[0]} to {LAST} in order, and not without {needed}")
        self.blocks = nn.ModuleList()
        for place in self.places:
            self.blocks.append(Block(channels, BLOCKS[place]))
            channels = BLOCKS[place].out
        self.last = None
        if LAST in chosen:
            self.last = nn.Sequential(Conv(channels, EXPANDED), Conv(EXPANDED, EXPANDED, 3, 1, EXPANDED))
        self.pooled = channels if self.last is None else EXPANDED

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Run the trunk.

        Returns
        -------
        levels : list of Tensor
            The last feature map of each resolution, finest first.
        pooled : Tensor (B, pooled)
            Mean of the last feature map, expanded where the trunk has `LAST`.
        """
        layers = [*((self.stem,) if self.first == 0 else ()), *self.blocks]
        still = 0 if x.requires_grad or x.device.type != "cpu" or len(x) <= FEW else _still(layers)
        levels = [x]
        if still:
            parts = [_run(layers[:still], [part]) for part in x.split(FEW)]
            levels = [torch.cat(level) for level in zip(*parts, strict=True)]
        levels = _run(layers[still:], levels)
        if self.first == 0:
            del levels[0]  # the image
        x = levels[-1]
        return levels, (x if self.last is None else self.last(x)).mean((2, 3))

    def shallow(self, image: Tensor, last: int) -> list[Tensor]:
        """Last maps of the two finest resolutions that come out, by the layers up to the block of place ``last``."""
        layers = [block for place, block in zip(self.places, self.blocks, strict=True) if place <= last]
        return _run([self.stem, *layers], [image])[-2:]

    def convolutions(self) -> Iterator[tuple[int, nn.Conv2d]]:
        """All convolutions in the order in which they run, each with its number in MediaPipe's trunk.

        A dense stem has none there.
        """
        parts = [(3 + 3 * place, block) for place, block in zip(self.places, self.blocks, strict=True)]
        if self.first == 0 and not self.dense:
            parts.insert(0, (0, self.stem))
        if self.last is not None:
            parts.append((3 + 3 * LAST, self.last))
        for start, part in parts:
            yield from enumerate((m for m in part.modules() if isinstance(m, nn.Conv2d)), start)


def _run(layers: Sequence[nn.Module], levels: list[Tensor]) -> list[Tensor]:
    """Run layers on the last of the feature maps so far; of each resolution the last map is kept."""
    for layer in layers:
        x = layer(levels[-1])
        if x.shape[-1] == levels[-1].shape[-1]:
            levels[-1] = x
        else:
            levels.append(x)
    return levels


def _still(layers: Sequence[nn.Module]) -> int:
    """Count the first layers that do not learn."""
    learning = (any(p.requires_grad for p in layer.parameters()) for layer in layers)
    return next((k for k, learns in enumerate(learning) if learns), len(layers))


def load_pretrained(trunk: Trunk, weights: Mapping[str, np.ndarray]) -> None:
    """Copy converted weights (`convert_mediapipe`) into a trunk or into a part of it.

    Raises
    ------
    ValueError
        If the file holds another architecture.
    """
    for k, module in trunk.convolutions():
        weight = weights.get(f"conv_{k}_weight")
        if weight is None or weight.shape != tuple(module.weight.shape):
            found = None if weight is None else weight.shape
            raise ValueError(f"convolution {k}: shape {found}, this trunk needs {tuple(module.weight.shape)}")
        with torch.no_grad():
            module.weight.copy_(torch.from_numpy(weight))
            module.bias.copy_(torch.from_numpy(weights[f"conv_{k}_bias"]))
