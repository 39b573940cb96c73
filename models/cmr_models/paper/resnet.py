# SPDX-License-Identifier: Apache-2.0
"""ResNet-18 and -50 (He et al., 2016; stride in the 3 x 3 convolution) as encoders of the paper's passes."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["BACKBONES", "ConvBlock", "Encoded", "Encoder"]

#: Channels of the shallow features, at half the image's resolution.
SHALLOW = 64


class ConvBlock(nn.Module):
    """Convolution that keeps the resolution, with batch norm and ReLU where wanted."""

    def __init__(self, inp: int, out: int, kernel: int = 3, norm: bool = True, act: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inp, out, kernel, padding=kernel // 2)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        self.norm = nn.BatchNorm2d(out) if norm else nn.Identity()
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """(B, inp, H, W) -> (B, out, H, W)."""
        x = self.norm(self.conv(x))
        return F.relu(x, inplace=True) if self.act else x


def _convolution(inp: int, out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(inp, out, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


class Residual(nn.Module):
    """Convolutions and batch norms in turn, added to the input.

    Parameters
    ----------
    inp, width : int
        Channels of the input and of the inner convolutions.
    stride : int
        Of the first 3 x 3 convolution.
    bottleneck : bool
        Three convolutions (1, 3, 1) and four times the width, rather than two (3, 3).
    """

    def __init__(self, inp: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        out = 4 * width if bottleneck else width
        # Kernel, channels and stride of each convolution.
        shape = [(1, width, 1), (3, width, stride), (1, out, 1)] if bottleneck else [(3, width, stride), (3, out, 1)]
        self.count = len(shape)
        channels = inp
        for k, (kernel, wide, step) in enumerate(shape, 1):
            self.add_module(f"conv{k}", _convolution(channels, wide, kernel, step))
            self.add_module(f"bn{k}", nn.BatchNorm2d(wide))
            channels = wide
        self.downsample = None
        if stride > 1 or inp != out:
            self.downsample = nn.Sequential(_convolution(inp, out, 1, stride), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inp, H, W) -> (B, out, H / stride, W / stride)."""
        y = x
        for k in range(1, self.count + 1):
            y = getattr(self, f"bn{k}")(getattr(self, f"conv{k}")(y))
            if k < self.count:
                y = F.relu(y, inplace=True)
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class Backbone(NamedTuple):
    """Shape of one ResNet."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the four levels, finest first."""
        return tuple((4 if self.bottleneck else 1) * width for width in WIDTHS)


WIDTHS = (64, 128, 256, 512)
BACKBONES = {"resnet18": Backbone((2, 2, 2, 2), False), "resnet50": Backbone((3, 4, 6, 3), True)}


class Encoded(NamedTuple):
    """What an encoder makes of an image or of another encoder's features; S is the side of the image."""

    shallow: Tensor  # (B, 64, S / 2, S / 2)
    levels: list[Tensor]  # strides 4, 8, 16, 32
    code: Tensor | None  # (B, 1000)


class Encoder(nn.Module):
    """A ResNet that starts at the image or at features of half its resolution.

    Parameters
    ----------
    backbone : str
        A key of `BACKBONES`.
    inp : int or None
        Channels of the features to start at; None starts at the image.
    code : int or None
        Length of the code from the pooled last level; None if the encoder has none.
    """

    def __init__(self, backbone: str, inp: int | None = None, code: int | None = None) -> None:
        super().__init__()
        shape = BACKBONES[backbone]
        self.from_image = inp is None
        if inp is None:
            self.conv1 = nn.Conv2d(3, SHALLOW, 7, 2, 3, bias=False)
            nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
            self.bn1 = nn.BatchNorm2d(SHALLOW)
        else:
            self.reduce = nn.Sequential(
                ConvBlock(inp, inp), ConvBlock(inp, 2 * SHALLOW), ConvBlock(2 * SHALLOW, SHALLOW, 1, act=False)
            )
        channels = SHALLOW
        for k, (count, width) in enumerate(zip(shape.blocks, WIDTHS, strict=True)):
            blocks = []
            for block in range(count):
                stride = 2 if k and not block else 1
                blocks.append(Residual(channels, width, stride, shape.bottleneck))
                channels = shape.channels[k]
            self.add_module(f"layer{k + 1}", nn.Sequential(*blocks))
        self.fc = None if code is None else nn.Linear(channels, code)

    def stem(self, x: Tensor) -> Tensor:
        """Image (B, 3, S, S) or features (B, inp, S / 2, S / 2) -> shallow features (B, 64, S / 2, S / 2)."""
        return F.relu(self.bn1(self.conv1(x)), inplace=True) if self.from_image else self.reduce(x)

    def deepen(self, shallow: Tensor) -> Encoded:
        """Go on from the shallow features."""
        x = F.max_pool2d(shallow, 3, 2, 1)
        levels = []
        for k in range(1, len(WIDTHS) + 1):
            x = getattr(self, f"layer{k}")(x)
            levels.append(x)
        return Encoded(shallow, levels, None if self.fc is None else self.fc(x.mean((2, 3))))

    def forward(self, x: Tensor) -> Encoded:
        """Encode an image, or features."""
        return self.deepen(self.stem(x))
