# SPDX-License-Identifier: Apache-2.0
"""The default network as the export sees it: two stages that give probabilities, and the hand they speak of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from torch import Tensor

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


class DeviceMeshStage(MeshStage):
    """The same function in fewer operators, for one hand and weights that stay as they are."""

    def __init__(self, net: HandNet) -> None:
        super().__init__(net)
        self.spiral = DeviceSpiral(net.mesh.spiral, net.mesh.lift)

    def forward(self, features: Tensor, heatmaps: Tensor, silhouette: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors of ``outputs`` from those of ``inputs``."""
        tokens, *logits = self.mesh.encode(features, heatmaps, silhouette)
        vertices = self.spiral(tokens[0])
        vertices = UNIT * (vertices - self.mesh.root[0] @ vertices)
        return self._named(vertices[None], *logits)


def load_staged(path: Path) -> StagedNetwork:
    """Read a checkpoint written by `save_checkpoint`, as two stages.

    Raises
    ------
    ValueError
        As `load_checkpoint` does.
    """
    net, content = load_checkpoint(path)
    hand = content["topology"]
    return StagedNetwork(
        architecture=ARCHITECTURE,
        prior=PriorStage(net).eval(),
        mesh=DeviceMeshStage(net).eval(),
        size=net.config.size,
        mean=net.config.mean,
        std=net.config.std,
        cell_centre=0.5,
        template=hand["template"].numpy().astype(np.float32),
        faces=hand["faces"].numpy().astype(np.int32),
        joint_regressor=hand["joint_regressor"].numpy().astype(np.float32),
        joint_parents=hand["joint_parents"].numpy().astype(np.int32),
        root_joint=int(hand["root_joint"]),
        about=json.loads(content.get("about", "{}")),
    )
