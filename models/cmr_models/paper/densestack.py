# SPDX-License-Identifier: Apache-2.0
"""DenseStack: a stack of two small hourglasses of densely connected separable convolutions (MobRecon, section 3.1).

Chen et al., "MobRecon: Mobile-Friendly Hand Mesh Reconstruction from Monocular Image", CVPR 2022. Attributes that hold
parameters bear the names of the reference implementation, so that its checkpoints load as they are: ``thrink`` reduces
channels, ``senet`` weighs them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["DenseStackBackbone", "SpaceToDepthConv"]

#: Image pixels per cell of the map from which keypoints are read, and of the latent map.
KEYPOINT_STRIDE, LATENT_STRIDE = 8, 32
#: Range of hidden values behind linear layers, as in the reference.
CLIP = (0.0, 4.0)


def conv_layer(inp: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution that keeps the size (up to its stride), batch norm, ReLU."""
    conv = nn.Conv2d(inp, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU())


class SpaceToDepthConv(nn.Conv2d):
    """Pointwise convolution behind a reorganisation of 2 x 2 cells into channels (`F.pixel_unshuffle`).

    Both together are a 2 x 2 convolution with stride 2 that has the same weights in another shape; so it is computed,
    because mobile accelerators take no tensors of six dimensions.
    """

    def __init__(self, inp: int, out: int) -> None:
        super().__init__(4 * inp, out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inp, 2 H, 2 W) -> (B, out, H, W)."""
        return F.conv2d(x, self.weight.view(self.out_channels, -1, 2, 2), self.bias, stride=2)


class SeparableConv(nn.Module):
    """Depthwise 3 x 3 layers, then a pointwise one; residual where the channels agree."""

    def __init__(self, inp: int, out: int, depthwise: int = 1) -> None:
        super().__init__()
        self.conv3x3 = nn.Sequential(*(conv_layer(inp, inp, 3, groups=inp) for _ in range(depthwise)))
        self.conv1x1 = conv_layer(inp, out)
        self.residual = inp == out

    def forward(self, x: Tensor) -> Tensor:
        """(B, inp, H, W) -> (B, out, H, W)."""
        y = self.conv1x1(self.conv3x3(x))
        return x + y if self.residual else y


class DenseBlock(nn.Module):
    """Layers ``conv1``, ``conv2``, ... each of which sees the input and all layers before it.

    Parameters
    ----------
    inp : int
        Channels of the input.
    growth : sequence of int
        Channels that each layer adds.
    keep_input : bool
        Whether the output holds the input too, in front of the layers' outputs.
    """

    def __init__(self, inp: int, growth: Sequence[int], keep_input: bool = True) -> None:
        super().__init__()
        for k, width in enumerate(growth):
            self.add_module(f"conv{k + 1}", SeparableConv(inp + sum(growth[:k]), width))
        self.first = 0 if keep_input else 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, inp, H, W) -> (B, [inp +] sum of growth, H, W)."""
        maps = [x]
        for layer in self.children():
            maps.append(layer(torch.cat(maps, 1)))
        return torch.cat(maps[self.first :], 1)


class SqueezeExcite(nn.Module):
    """Channels weighed by a function of their means (Hu et al., CVPR 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = min(channels // 2, 256)
        self.fc1 = nn.Sequential(nn.Linear(channels, hidden, bias=False), nn.BatchNorm1d(hidden), nn.Hardtanh(*CLIP))
        self.fc2 = nn.Sequential(nn.Linear(hidden, channels, bias=False), nn.BatchNorm1d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        weight = self.fc2(self.fc1(F.adaptive_avg_pool2d(x, 1).flatten(1))).sigmoid()
        return x * weight[:, :, None, None]


class DenseStack(nn.Module):
    """One hourglass: three halvings by dense blocks, and back up with the finer maps added.

    Parameters
    ----------
    width : int
        Channels w of the input.
    out : int
        Channels of the output.
    deep : bool
        Whether ``senet3``, ``dense4`` and ``dense5`` work on the coarsest map. The reference's first stack owns them
        and passes them by.
    """

    def __init__(self, width: int, out: int, deep: bool) -> None:
        super().__init__()
        w = width
        self.dense1 = DenseBlock(w, [w // 2] * 2)
        self.senet1 = SqueezeExcite(2 * w)
        self.dense2 = DenseBlock(2 * w, [w // 2] * 4)
        self.senet2 = SqueezeExcite(4 * w)
        self.dense3 = DenseBlock(4 * w, [w] * 4)
        self.senet3 = SqueezeExcite(8 * w)
        self.dense4 = DenseBlock(8 * w, [6 * w, 2 * w], keep_input=False)
        self.dense5 = DenseBlock(8 * w, [6 * w, 2 * w], keep_input=False)
        self.thrink1 = nn.Sequential(SeparableConv(8 * w, 4 * w), SeparableConv(4 * w, 4 * w, depthwise=2))
        self.senet4 = SqueezeExcite(4 * w)
        self.thrink2 = nn.Sequential(SeparableConv(4 * w, 2 * w), SeparableConv(2 * w, 2 * w, depthwise=2))
        self.senet5 = SqueezeExcite(2 * w)
        self.thrink3 = nn.Sequential(SeparableConv(2 * w, 2 * w), SeparableConv(2 * w, out, depthwise=2))
        self.senet6 = SqueezeExcite(out)
        self.deep = deep

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the hourglass.

        Parameters
        ----------
        x : Tensor (B, w, H, H)
            H a multiple of 8.

        Returns
        -------
        out : Tensor (B, out, H / 2, H / 2)
        coarse : Tensor (B, 8 w, H / 8, H / 8)
        """
        fine = F.avg_pool2d(self.senet1(self.dense1(x)), 2)
        middle = F.avg_pool2d(self.senet2(self.dense2(fine)), 2)
        coarse = self.dense3(middle)
        coarse = F.avg_pool2d(self.senet3(coarse) if self.deep else coarse, 2)
        if self.deep:
            coarse = self.dense5(self.dense4(coarse))
        y = middle + F.interpolate(self.senet4(self.thrink1(coarse)), scale_factor=2.0, mode="nearest")
        y = fine + F.interpolate(self.senet5(self.thrink2(y)), scale_factor=2.0, mode="nearest")
        return self.senet6(self.thrink3(y)), coarse


class DenseStackBackbone(nn.Module):
    """Image to a latent map and 2D keypoints.

    Parameters
    ----------
    size : int
        Side S of the image, pixels, a multiple of 32. It fixes the width of the first linear layer of ``uv_reg``,
        which takes flattened maps: weights serve one size only.
    latent : int
        Channels of the latent map.
    joints : int
        Number of keypoints J.
    reduce : str
        Name of the layer that makes one map per keypoint: ``reduce``, or ``conv`` in older checkpoints.
    width, maps : int
        Channels of the hourglasses and of what they hand on.

    Raises
    ------
    ValueError
        If the size does not suit.
    """

    def __init__(
        self,
        size: int = 128,
        latent: int = 256,
        joints: int = 21,
        reduce: str = "reduce",
        width: int = 128,
        maps: int = 24,
    ) -> None:
        super().__init__()
        if size <= 0 or size % LATENT_STRIDE:
            raise ValueError(f"image size {size}: DenseStack halves it five times; take a multiple of {LATENT_STRIDE}")
        self.size = size
        self.pre_layer = nn.Sequential(conv_layer(3, width // 2, 3, 2), SeparableConv(width // 2, width))
        self.thrink = nn.Sequential(SpaceToDepthConv(width, width), nn.BatchNorm2d(width), nn.ReLU())
        self.dense_stack1 = DenseStack(width, maps, deep=False)
        self.stack1_remap = conv_layer(maps, maps)
        self.thrink2 = conv_layer(maps + width, width)
        self.dense_stack2 = DenseStack(width, maps, deep=True)
        self.mid_proj = nn.Sequential(nn.Conv2d(8 * width, latent, 1, bias=False))
        self.reduce_name = reduce
        self.add_module(reduce, nn.Sequential(nn.Conv2d(maps, joints, 1, bias=False)))
        self.uv_reg = nn.Sequential(
            nn.Sequential(nn.Linear((size // KEYPOINT_STRIDE) ** 2, 128, bias=False), nn.Hardtanh(*CLIP)),
            nn.Sequential(nn.Linear(128, 64, bias=False), nn.Hardtanh(*CLIP)),
            nn.Sequential(nn.Linear(64, 2, bias=False)),
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Run the backbone.

        Parameters
        ----------
        image : Tensor (B, 3, S, S)
            Normalised.

        Returns
        -------
        latent : Tensor (B, latent, S / 32, S / 32)
        keypoints : Tensor (B, J, 2)
            x and y in fractions of the image: pixel position over S. Not clamped.

        Raises
        ------
        ValueError
            If the image has another size than the network.
        """
        height, width = image.shape[2:]
        if (height, width) != (self.size, self.size):
            raise ValueError(
                f"image of {width} x {height} pixels: the keypoint regressor of this network takes flattened maps and "
                f"so one size only; resize the image to {self.size} x {self.size}"
            )
        x = self.thrink(self.pre_layer(image))
        first, _ = self.dense_stack1(x)
        first = F.interpolate(first, scale_factor=2.0, mode="bilinear", align_corners=True)
        second, coarse = self.dense_stack2(self.thrink2(torch.cat([self.stack1_remap(first), x], 1)))
        maps = self.get_submodule(self.reduce_name)(second)
        return self.mid_proj(coarse), self.uv_reg(maps.flatten(2))
