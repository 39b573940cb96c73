# SPDX-License-Identifier: Apache-2.0
"""MediaPipe's palm detector: a pyramid of depthwise blocks, and two heads whose boxes are offsets from anchors.

The architecture is read off the graphs in ``modules/palm_detection`` of the package mediapipe 0.10.14 (Apache-2.0);
*lite* and *full* differ in the number of blocks of a level.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..network.trunk import Conv

__all__ = ["BLOCKS", "SIZE", "PalmDetector", "anchors", "load_palm"]

#: Side of the input, pixels.
SIZE = 192
#: Blocks of each level that keep its resolution.
BLOCKS = {"lite": 3, "full": 4}
#: Channels of the levels, each of half the resolution of the one before; the first is 96 × 96.
CHANNELS = (32, 64, 128, 256, 256)
#: Blocks behind each step back up.
UP_BLOCKS = 2
#: Per cell of the two maps that carry boxes, 24 × 24 and 12 × 12: one square anchor for each of MediaPipe's three
#: coarse layers is the same anchor, twice over (strides 8, 16, 16, 16).
ANCHORS = ((SIZE // 8, 2), (SIZE // 16, 6))
#: Of a box: centre, width, height, seven keypoints (x, y).
VALUES = 18


class Block(nn.Module):
    """Depthwise 5 × 5, pointwise, added to the input, PReLU.

    Where it halves the resolution the input is max-pooled, and where it adds channels the input is padded with zeros.
    """

    def __init__(self, inp: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = Conv(inp, inp, 5, stride, inp, act=False)
        self.pointwise = Conv(inp, out, act=False)
        self.act = nn.PReLU(out)
        self.halves, self.added = stride == 2, out - inp

    def forward(self, x: Tensor) -> Tensor:
        """(B, inp, H, W) -> (B, out, H / stride, W / stride)."""
        y = self.pointwise(self.depthwise(x))
        if self.halves:
            x = F.max_pool2d(x, 2)
        if self.added:
            x = F.pad(x, (0, 0, 0, 0, 0, self.added))
        return self.act(x + y)


class Up(nn.Module):
    """To twice the resolution, joined with the map that the way down left there, and refined.

    MediaPipe resizes before the pointwise convolution. Both are linear and the weights of a resize sum to one, so they
    may change places, and the convolution costs a quarter.
    """

    def __init__(self, inp: int, out: int) -> None:
        super().__init__()
        self.pointwise = Conv(inp, out, act=False)
        self.act = nn.PReLU(out)
        self.blocks = nn.Sequential(*(Block(out, out) for _ in range(UP_BLOCKS)))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, inp, H, W), (B, out, 2 H, 2 W) -> (B, out, 2 H, 2 W)."""
        x = F.interpolate(self.pointwise(x), scale_factor=2, mode="bilinear", align_corners=False)
        return self.blocks(skip + self.act(x))


class Head(nn.Module):
    """Scores and boxes of the anchors of one map."""

    def __init__(self, inp: int, anchors: int) -> None:
        super().__init__()
        self.score = Conv(inp, anchors, act=False)
        self.box = Conv(inp, VALUES * anchors, act=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, inp, H, W) -> logits (B, H W anchors), offsets in pixels (B, H W anchors, 18)."""
        scores, boxes = (head(x).permute(0, 2, 3, 1) for head in (self.score, self.box))
        return scores.flatten(1), boxes.reshape(len(x), -1, VALUES)


class PalmDetector(nn.Module):
    """Image to palms.

    Parameters
    ----------
    blocks : int
        Of each level, see `BLOCKS`.
    """

    inputs, outputs = ("image",), ("boxes", "scores")

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(Conv(3, CHANNELS[0], 5, 2, act=False), nn.PReLU(CHANNELS[0]))
        self.levels = nn.ModuleList()
        inp = CHANNELS[0]
        for k, out in enumerate(CHANNELS):
            first = [Block(inp, out, 2)] if k else []
            self.levels.append(nn.Sequential(*first, *(Block(out, out) for _ in range(blocks))))
            inp = out
        self.coarse_up, self.coarse = Up(CHANNELS[4], CHANNELS[3]), Head(CHANNELS[3], ANCHORS[1][1])
        self.fine_up, self.fine = Up(CHANNELS[3], CHANNELS[2]), Head(CHANNELS[2], ANCHORS[0][1])
        self.register_buffer("anchors", torch.from_numpy(anchors()), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Detect palms.

        Parameters
        ----------
        image : Tensor (B, 3, 192, 192)
            RGB, 0 to 1.

        Returns
        -------
        boxes : Tensor (B, 2016, 18)
            Centre (x, y), width, height, and seven keypoints (x, y), in fractions of the image's side. The keypoints:
            wrist, knuckles of index, middle, ring and little finger, then the thumb's two lower joints.
        scores : Tensor (B, 2016)
            Probabilities.
        """
        maps, x = [], self.stem(image)
        for level in self.levels:
            x = level(x)
            maps.append(x)
        coarse = self.coarse_up(maps[4], maps[3])
        fine = self.fine_up(coarse, maps[2])
        scores, boxes = zip(self.fine(fine), self.coarse(coarse), strict=True)
        return (torch.cat(boxes, 1) + self.anchors) / SIZE, torch.sigmoid(torch.cat(scores, 1))

    def convolutions(self) -> Iterator[nn.Conv2d]:
        """All convolutions in the order in which they run in MediaPipe's graph."""
        return (module for module in self.modules() if isinstance(module, nn.Conv2d))

    def slopes(self) -> Iterator[nn.PReLU]:
        """All PReLU layers in that order."""
        return (module for module in self.modules() if isinstance(module, nn.PReLU))


def anchors() -> np.ndarray:
    """Return what each anchor adds to its box, (2016, 18) float32: the middle of its cell, to centre and keypoints.

    In pixels of the input: whole numbers, which no storage rounds.
    """
    rows = []
    for cells, number in ANCHORS:
        y, x = (np.mgrid[:cells, :cells] + 0.5) * (SIZE // cells)
        centre = np.repeat(np.stack([x, y], -1).reshape(-1, 2), number, axis=0)
        rows.append(np.concatenate([centre, np.zeros_like(centre), np.tile(centre, 7)], axis=1))
    return np.concatenate(rows).astype(np.float32)


def load_palm(weights: Mapping[str, np.ndarray]) -> PalmDetector:
    """Build the detector that converted weights (`cmr_models.detector.convert`) belong to, in evaluation mode.

    Raises
    ------
    ValueError
        If they are of another architecture.
    """
    found = sum(1 for name in weights if name.startswith("prelu_"))
    for blocks in BLOCKS.values():
        network = PalmDetector(blocks)
        if found == sum(1 for _ in network.slopes()):
            break
    else:
        raise ValueError(f"{found} PReLU layers: neither of MediaPipe's palm detectors ({', '.join(BLOCKS)})")
    with torch.no_grad():
        for k, conv in enumerate(network.convolutions()):
            _copy(conv.weight, weights, f"conv_{k}_weight")
            _copy(conv.bias, weights, f"conv_{k}_bias")
        for k, slope in enumerate(network.slopes()):
            _copy(slope.weight, weights, f"prelu_{k}")
    return network.eval()


def _copy(parameter: Tensor, weights: Mapping[str, np.ndarray], name: str) -> None:
    value = weights.get(name)
    if value is None or value.shape != tuple(parameter.shape):
        shape = None if value is None else value.shape
        raise ValueError(f"{name} has shape {shape}; the palm detector needs {tuple(parameter.shape)}")
    parameter.copy_(torch.from_numpy(np.asarray(value, np.float32)))
