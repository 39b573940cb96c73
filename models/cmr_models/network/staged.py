# SPDX-License-Identifier: Apache-2.0
"""The default network as the export sees it: two stages that give probabilities, and the hand they speak of."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..stages import Stage, StagedNetwork
from .device_spiral import DeviceSpiral
from .handnet import HandNet, load_checkpoint
from .mesh import UNIT

__all__ = ["ARCHITECTURE", "DeviceMeshStage", "MeshStage", "PriorStage", "load_staged"]

#: Name of the default network in bundles.
ARCHITECTURE = "handnet"


class PriorStage(Stage):
    """Image to 2D cues: probabilities instead of logits."""

    inputs = ("image",)
    outputs = ("heatmaps", "silhouette", "presence", "right", "features")

    def __init__(self, net: HandNet) -> None:
        super().__init__()
        self.prior = net.prior

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(1, 3, S, S) -> the tensors of ``outputs``."""
        out = self.prior(image)
        return (
            out.heatmaps.sigmoid(),
            out.silhouette.sigmoid(),
            out.presence.sigmoid(),
            out.right.sigmoid(),
            out.features,
        )


class MeshStage(Stage):
    """2D cues to the finest mesh level, and probabilities instead of logits."""

    inputs = ("features", "heatmaps", "silhouette")

    def __init__(self, net: HandNet) -> None:
        super().__init__()
        self.mesh = net.mesh
        judged = () if net.mesh.presence is None else ("refined_presence",)
        self.outputs = ("vertices", "refined_heatmaps", "refined_silhouette", *judged)

    def forward(self, features: Tensor, heatmaps: Tensor, silhouette: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors of ``outputs`` from those of ``inputs``."""
        out = self.mesh(features, heatmaps, silhouette)
        return self._named(out.levels[0], out.heatmaps, out.silhouette, out.presence)

    def _named(self, vertices: Tensor, *logits: Tensor | None) -> tuple[Tensor, ...]:
        return vertices, *(each.sigmoid() for each in logits if each is not None)


class _Join(nn.Module):
    """What takes the place of an aggregation whose sums are in the weights behind it."""

    def forward(self, *maps: Tensor) -> Tensor:
        return torch.cat(maps, 1)


class DeviceMeshStage(MeshStage):
    """The same function in fewer operators, for one hand and weights that stay as they are.

    Sub-poses are sums of heat maps, and only convolutions read them, so that these do the sums with their own.
    """

    def __init__(self, net: HandNet) -> None:
        super().__init__(net)
        self.mesh = mesh = copy.deepcopy(net.mesh)
        groups = mesh.cues.matrix[:, :, 0, 0]
        entered = mesh.enter.in_channels - mesh.cues.channels  # decoded features come before the cues there
        for layer, first in ((mesh.project, 0), (mesh.enter, entered)):
            _sum_in(layer, first, groups)
        mesh.cues = _Join()
        self.spiral = DeviceSpiral(net.mesh.spiral, net.mesh.lift, net.mesh.root[0], UNIT)

    def forward(self, features: Tensor, heatmaps: Tensor, silhouette: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors of ``outputs`` from those of ``inputs``."""
        tokens, *logits = self.mesh.encode(features, heatmaps, silhouette)
        return self._named(self.spiral(tokens[0])[None], *logits)


@torch.no_grad()
def _sum_in(layer: nn.Conv2d, first: int, groups: Tensor) -> None:
    """Fold sums of heat maps, groups (N, J), into a convolution that reads them as its last N channels.

    Its channels are ``first`` others, J heat maps, some others, and the sums.
    """
    count, joints = groups.shape
    before, maps, between, sums = layer.weight.split(
        [first, joints, layer.in_channels - first - joints - count, count], 1
    )
    maps = maps + torch.einsum("ogyx,gj->ojyx", sums.double(), groups.double()).float()
    layer.weight = nn.Parameter(torch.cat([before, maps, between], 1))
    layer.in_channels -= count


def load_staged(path: Path, size: int | None = None) -> StagedNetwork:
    """Read a checkpoint written by `save_checkpoint`, as two stages.

    Parameters
    ----------
    path : Path
        Checkpoint.
    size : int, optional
        Side of the images, pixels, in place of the one that the checkpoint states: no weight depends on it.

    Raises
    ------
    ValueError
        As `load_checkpoint` does, or the trunk cannot halve such a size.
    """
    net, content = load_checkpoint(path)
    hand, config = content["topology"], net.config if size is None else replace(net.config, size=size)
    return StagedNetwork(
        architecture=ARCHITECTURE,
        prior=PriorStage(net).eval(),
        mesh=DeviceMeshStage(net).eval(),
        size=config.size,
        mean=config.mean,
        std=config.std,
        cell_centre=0.5,
        template=hand["template"].numpy().astype(np.float32),
        faces=hand["faces"].numpy().astype(np.int32),
        joint_regressor=hand["joint_regressor"].numpy().astype(np.float32),
        joint_parents=hand["joint_parents"].numpy().astype(np.int32),
        root_joint=int(hand["root_joint"]),
        about=json.loads(content.get("about", "{}")),
    )
