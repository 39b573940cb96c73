# SPDX-License-Identifier: Apache-2.0
"""MobRecon: 2D keypoints first, then features pooled there and lifted to the mesh (Chen et al., CVPR 2022)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import PaperConfig
from .densestack import DenseStackBackbone
from .hierarchy import MeshHierarchy
from .outputs import PaperOutput
from .spiral import DSConv, SpiralConv, UpSample

__all__ = ["MobRecon", "sample"]


def sample(features: Tensor, points: Tensor) -> Tensor:
    """Interpolate a map bilinearly at points, as a product of the map with tent functions of the cells' distances.

    For a small map this costs little, and every accelerator knows its operators, which `F.grid_sample` is not.

    Parameters
    ----------
    features : Tensor (B, C, H, W)
        The centres of the corner cells lie at the corners of the image.
    points : Tensor (B, N, 2)
        x and y in fractions of the image; clamped to it.

    Returns
    -------
    Tensor (B, N, C)
    """
    height, width = features.shape[2:]
    points = points.clamp(0, 1)

    def tents(position: Tensor, count: int) -> Tensor:
        cells = torch.arange(count, device=position.device, dtype=position.dtype)
        return F.relu(1 - (position[:, :, None] * (count - 1) - cells).abs())

    across, down = tents(points[:, :, 0], width), tents(points[:, :, 1], height)
    weights = (down[:, :, :, None] * across[:, :, None]).flatten(2)
    return weights @ features.flatten(2).transpose(1, 2)


class PoseToMesh(nn.Module):
    """Pose pooling, pose-to-vertex lifting and spiral decoder: from latent map and keypoints to the mesh.

    Parameters
    ----------
    config : PaperConfig
        Joints, channels, spirals, and whether the convolutions are depthwise-separable.
    hierarchy : MeshHierarchy
        As many up-samplings as the configuration has channels.
    """

    def __init__(self, config: PaperConfig, hierarchy: MeshHierarchy) -> None:
        super().__init__()
        if len(config.channels) != hierarchy.levels:
            raise ValueError(
                f"{len(config.channels)} levels of channels for a mesh of {hierarchy.levels} up-samplings; need as many"
            )
        convolution = DSConv if config.separable else SpiralConv
        self.upsample = nn.Parameter(torch.full((hierarchy.counts[-1], config.joints), 0.01))
        self.de_layer = nn.ModuleList()
        inp = config.channels[-1]
        for level in reversed(range(hierarchy.levels)):
            out = config.channels[level]
            walk = hierarchy.spirals(level, config.spiral_lengths[level], config.dilations[level])
            spirals = torch.as_tensor(walk)
            parts = {"up": UpSample(hierarchy, level), "conv": convolution(inp, out, spirals), "relu": nn.ReLU()}
            self.de_layer.append(nn.Sequential(OrderedDict(parts)))
            inp = out
        self.head = convolution(inp, 3, spirals)

    def forward(self, latent: Tensor, keypoints: Tensor) -> Tensor:
        """Decode (B, C, G, G) and fractions of the image (B, J, 2) into vertices (B, V, 3)."""
        x = self.upsample @ sample(latent, keypoints)
        for layer in self.de_layer:
            x = layer(x)
        return self.head(x)


class MobRecon(nn.Module):
    """The mobile successor of CMR, in the form of both of its releases.

    ``"mobrecon"`` belongs to the reference's ``cmr`` package, with plain or separable spirals; ``"mobrecon_ds"`` to its
    ``mobrecon`` package. They differ in the name of one layer.

    Parameters
    ----------
    config : PaperConfig
        With ``backbone="densestack"``. Its size binds the weights (see `DenseStackBackbone`).
    hierarchy : MeshHierarchy
        Mesh levels.
    """

    def __init__(self, config: PaperConfig, hierarchy: MeshHierarchy) -> None:
        super().__init__()
        self.config = config
        reduce = "conv" if config.architecture == "mobrecon" else "reduce"
        self.backbone = DenseStackBackbone(config.size, config.channels[-1], config.joints, reduce)
        self.decoder3d = PoseToMesh(config, hierarchy)

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised image (B, 3, S, S) -> latent map (B, C, S / 32, S / 32), keypoints (B, J, 2).

        Keypoints are fractions of the image: pixel positions over S. They are not clamped.
        """
        return self.backbone(image)

    def decode(self, features: Tensor, keypoints: Tensor) -> Tensor:
        """Latent map and keypoints -> vertices (B, V, 3) root-relative, in the hierarchy's unit."""
        return self.decoder3d(features, keypoints)

    def forward(self, image: Tensor) -> PaperOutput:
        """Run both halves on normalised images (B, 3, S, S)."""
        features, keypoints = self.encode(image)
        return PaperOutput(levels=[self.decode(features, keypoints)], keypoints=keypoints)
