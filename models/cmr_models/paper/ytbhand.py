# SPDX-License-Identifier: Apache-2.0
"""YouTubeHand: image -> code -> mesh, without 2D cues (Kulon et al., CVPR 2020), the paper's baseline.

With the paper's decoder in place of its own it is the second row of the paper's Table 1.
"""

from __future__ import annotations

from torch import Tensor

from .config import PaperConfig
from .hierarchy import MeshHierarchy
from .outputs import PaperOutput
from .resnet import Encoder
from .spiral import CODE, SpiralDecoder

__all__ = ["YouTubeHand"]


class YouTubeHand(SpiralDecoder):
    """A ResNet and a spiral decoder.

    Parameters
    ----------
    config : PaperConfig
        Backbone and decoder.
    hierarchy : MeshHierarchy
        The mesh.
    """

    def __init__(self, config: PaperConfig, hierarchy: MeshHierarchy) -> None:
        super().__init__(config, hierarchy)
        self.backbone = Encoder(config.backbone, code=CODE)

    def forward(self, image: Tensor) -> PaperOutput:
        """Run on normalised images (B, 3, S, S), S a multiple of 32."""
        return PaperOutput(self.decode(self.backbone(image).code))
