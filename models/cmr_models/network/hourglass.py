# SPDX-License-Identifier: Apache-2.0
"""The decoding half of the hourglass: from the trunk's levels back to the resolution of the heat maps."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from .trunk import Conv

__all__ = ["Decoder"]


class Decoder(nn.Module):
    """Add each finer level to the up-sampled coarser one, then mix by a separable convolution.

    Parameters
    ----------
    inputs : sequence of int
        Channels of the trunk's levels, finest first.
    widths : sequence of int
        Channels of the decoder at the same levels.
    clipped : bool
        Whether what enters a mix ends at 6. ONNX Runtime lays maps out anew before and after such a limit, where it
        does not follow a convolution alone.
    """

    def __init__(self, inputs: Sequence[int], widths: Sequence[int], clipped: bool = True) -> None:
        super().__init__()
        self.act = F.relu6 if clipped else F.relu
        self.lateral = nn.ModuleList(Conv(i, w, act=False) for i, w in zip(inputs, widths, strict=True))
        self.reduce = nn.ModuleList(Conv(widths[k + 1], widths[k], act=False) for k in range(len(widths) - 1))
        self.mix = nn.ModuleList(nn.Sequential(Conv(w, w, 5, 1, w), Conv(w, w)) for w in widths)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Return the decoded map of every level, finest first."""
        out: list[Tensor] = []
        for k in reversed(range(len(self.lateral))):
            x = self.lateral[k](levels[k])
            if out:
                x = x + F.interpolate(self.reduce[k](out[0]), scale_factor=2.0, mode="nearest")
            out.insert(0, x + self.mix[k](self.act(x)))
        return out
