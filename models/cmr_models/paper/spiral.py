# SPDX-License-Identifier: Apache-2.0
"""Convolutions along spirals and the decoders made of them (the paper's section 3.3; SpiralNet++; YouTubeHand).

Spirals and up-sampling are constants of the mesh: gathers with fixed indices, kept out of the state dict.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..network import spiral as mobile
from .config import PaperConfig
from .hierarchy import MeshHierarchy

__all__ = ["DSConv", "InceptionSpiral", "SelfAttention", "SpiralBlock", "SpiralConv", "SpiralDecoder", "UpSample"]

#: Length of the image's code, the input of the decoder.
CODE = 1000


class UpSample(mobile.UpSample):
    """Up-sampling of one level, (B, V_coarse, C) -> (B, V_fine, C); its constants belong to the mesh alone."""

    def __init__(self, hierarchy: MeshHierarchy, level: int) -> None:
        nn.Module.__init__(self)
        index, weight = hierarchy.up_index[level], hierarchy.up_weight[level]
        self.register_buffer("index", torch.as_tensor(index).long().flatten(), persistent=False)
        self.register_buffer("weight", torch.as_tensor(weight).float()[None, :, :, None], persistent=False)


class SpiralConv(nn.Module):
    """One linear layer on the concatenated features of each vertex' spiral: (B, V, inp) -> (B, V, out).

    Parameters
    ----------
    inp, out : int
        Channels.
    spirals : Tensor (V, length)
        Spiral indices.
    """

    def __init__(self, inp: int, out: int, spirals: Tensor) -> None:
        super().__init__()
        self.length = spirals.shape[1]
        self.layer = nn.Linear(inp * self.length, out)
        nn.init.xavier_uniform_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        # Gathering costs memory traffic: the narrower side of the layer is gathered.
        self.narrows = out < inp
        steps = spirals * self.length + torch.arange(self.length) if self.narrows else spirals
        self.register_buffer("steps", steps.flatten(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        if self.length == 1:
            return self.layer(x)
        if not self.narrows:
            return self.layer(x[:, self.steps].unflatten(1, (-1, self.length)).flatten(2))
        # Every vertex' contribution to each position of a spiral (B, V, length, out), then the sum along the spirals.
        weight = self.layer.weight.unflatten(1, (self.length, -1)).permute(2, 1, 0).flatten(1)
        shares = (x @ weight).unflatten(2, (self.length, -1)).flatten(1, 2)
        return shares[:, self.steps].unflatten(1, (-1, self.length)).sum(2) + self.layer.bias


class DSConv(nn.Module):
    """Depthwise-separable spiral convolution: a weight per position and channel, then a linear layer (MobRecon).

    The positions' weights stand in the shape of a square kernel, as the reference keeps them.

    Raises
    ------
    ValueError
        If the length is no square.
    """

    def __init__(self, inp: int, out: int, spirals: Tensor) -> None:
        super().__init__()
        self.length = spirals.shape[1]
        side = round(self.length**0.5)
        if side * side != self.length:
            raise ValueError(f"a separable spiral has length {self.length}; need a square such as 9")
        self.spatial_layer = nn.Conv2d(inp, inp, side, groups=inp, bias=False)
        self.channel_layer = nn.Linear(inp, out, bias=False)
        nn.init.xavier_uniform_(self.channel_layer.weight)
        self.register_buffer("spirals", spirals.flatten(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, V, inp) -> (B, V, out)."""
        weight = self.spatial_layer.weight.flatten(1).T
        return self.channel_layer((x[:, self.spirals].unflatten(1, (-1, self.length)) * weight).sum(2))


class SpiralBlock(nn.Module):
    """A spiral convolution and ReLU (YouTubeHand)."""

    def __init__(self, inp: int, out: int, spirals: Tensor) -> None:
        super().__init__()
        self.conv = SpiralConv(inp, out, spirals)

    def forward(self, x: Tensor) -> Tensor:
        """(B, V, inp) -> (B, V, out)."""
        return F.relu(self.conv(x))


class InceptionSpiral(nn.Module):
    """Inception Spiral Module: branches over a spiral, two thirds and one third of it, and the vertex itself."""

    def __init__(self, inp: int, out: int, spirals: Tensor) -> None:
        super().__init__()
        third = spirals.shape[1] // 3
        self.conv_2d3 = SpiralConv(inp, out // 4, spirals[:, : 2 * third])
        self.conv_d3 = SpiralConv(inp, out // 4, spirals[:, :third])
        self.conv = SpiralConv(inp, out // 2, spirals)
        self.conv1 = SpiralConv(inp, out, spirals[:, :1])

    def forward(self, x: Tensor) -> Tensor:
        """(B, V, inp) -> (B, V, out)."""
        return F.relu(self.conv1(x) + torch.cat([self.conv(x), self.conv_2d3(x), self.conv_d3(x)], 2))


class SelfAttention(nn.Module):
    """Self-attention among the entries of a code (B, C), added with a weight that training finds."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name in ("query_conv", "key_conv", "value_conv"):
            layer = nn.Linear(channels, channels)
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
            self.add_module(name, layer)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) -> (B, C)."""
        attention = torch.softmax(self.query_conv(x)[:, :, None] * self.key_conv(x)[:, None], 2)
        return self.gamma * (attention @ self.value_conv(x)[:, :, None])[:, :, 0] + x


class SpiralDecoder(nn.Module):
    """From the code of an image to the mesh.

    The networks derive from it, so that its parameters stand at the top of their state dicts as in the reference.
    `PaperConfig` switches between the paper's decoder (attention, Inception Spiral Modules, a prediction on each level
    that is averaged with the up-sampled coarser one and handed on together with the features) and YouTubeHand's.

    Parameters
    ----------
    config : PaperConfig
        Channels, spirals and switches.
    hierarchy : MeshHierarchy
        As many up-samplings L as the configuration has channels.

    Raises
    ------
    ValueError
        If the two have different numbers of levels.
    """

    def __init__(self, config: PaperConfig, hierarchy: MeshHierarchy) -> None:
        super().__init__()
        levels = len(config.channels)
        if levels != hierarchy.levels:
            raise ValueError(f"{levels} levels of channels for a mesh of {hierarchy.levels} up-samplings; need as many")
        self.config = config
        self.coarsest = hierarchy.counts[-1]
        spirals = [
            torch.as_tensor(hierarchy.spirals(level, length, dilation))
            for level, (length, dilation) in enumerate(zip(config.spiral_lengths, config.dilations, strict=True))
        ]
        if config.attention:
            self.attention = SelfAttention(CODE)
        self.de_layers = nn.ModuleList([nn.Linear(CODE, self.coarsest * config.channels[-1])])
        self.up = nn.ModuleList()
        block = InceptionSpiral if config.inception else SpiralBlock
        inp = config.channels[-1]
        for level in reversed(range(levels)):
            out = config.channels[level]
            self.up.append(UpSample(hierarchy, level))
            self.de_layers.append(block(inp, out, spirals[level]))
            inp = out + 3 if config.autoregressive else out
        if config.multi_scale:
            widths = zip(reversed(config.channels), reversed(spirals), strict=True)
            self.heads: nn.Module = nn.ModuleList(SpiralConv(width, 3, walk) for width, walk in widths)
        else:
            self.heads = SpiralConv(config.channels[0], 3, spirals[0])

    def decode(self, code: Tensor) -> list[Tensor]:
        """Decode (B, 1000) into root-relative vertices (B, V_l, 3) in the hierarchy's unit.

        Returns
        -------
        list of Tensor
            Finest level first: levels 0 .. L - 1, or level 0 alone without multi-scale prediction.
        """
        if self.config.attention:
            code = self.attention(code)
        first, *blocks = self.de_layers
        x = first(code).unflatten(1, (self.coarsest, -1))
        levels: list[Tensor] = []
        for step, (up, block) in enumerate(zip(self.up, blocks, strict=True)):
            x = block(up(x))
            if not self.config.multi_scale:
                continue
            prediction = self.heads[step](x)
            if levels:
                prediction = (prediction + up(levels[0])) / 2
            levels.insert(0, prediction)
            if self.config.autoregressive:
                x = torch.cat([x, prediction], 2)
        return levels or [self.heads(x)]
