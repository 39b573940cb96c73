# SPDX-License-Identifier: Apache-2.0
"""Training of the first layers alone: a dense stem learns to give the maps of the teacher's first layers.

Those are MediaPipe's, which have seen far more photos than this project has; what they make of any picture is label
enough. The rest of the network stays the teacher's, for which the new layers then stand in nearly as they are.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..batches import Mix
from .handnet import HandNet, load_checkpoint, to_input
from .objective import HandNetObjective, HandNetRecipe
from .prior import SHALLOW_BLOCK
from .taught import inherited, start_from

__all__ = ["StemObjective"]


class StemObjective(HandNetObjective):
    """Of the default network's first layers, up to the features that both stages share.

    Parameters
    ----------
    teacher : Path
        Checkpoint of the default network whose first layers teach, and whose others stay.
    recipe : HandNetRecipe
        Optimisation; what it says of losses is of no account.
    mix : Mix
        As for `HandNetObjective`.

    Raises
    ------
    ValueError
        The file is no such checkpoint, or it has a dense stem already.
    """

    def __init__(self, teacher: Path, recipe: HandNetRecipe, mix: Mix | None = None) -> None:
        self._teacher, content = load_checkpoint(teacher)
        self._about = json.loads(content.get("about", "{}"))
        config = self._teacher.config
        if config.stem is not None:
            raise ValueError(f"{teacher} has a dense stem already; train it with --start")
        lite = config.lite()
        super().__init__(replace(config, stem=lite.stem, prior_blocks=lite.prior_blocks), recipe, mix)
        start_from(self._teacher, self.net)
        self.net.requires_grad_(False)
        for layer in self._front(self.net):
            layer.requires_grad_(True)

    @staticmethod
    def _front(net: HandNet) -> list[nn.Module]:
        trunk = net.prior.trunk
        blocks = zip(trunk.places, trunk.blocks, strict=True)
        return [trunk.stem, *(block for place, block in blocks if place <= SHALLOW_BLOCK)]

    def groups(self) -> list[dict[str, Any]]:
        """Parameters of the first layers."""
        return [{"params": [p for layer in self._front(self.net) for p in layer.parameters()], "scale": 1.0}]

    def losses(self, net: HandNet, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the mean square differences of both maps, in shares of the variance of the teacher's."""
        image = to_input(batch["image"], self.input)
        with torch.no_grad():
            wanted = self._teacher.to(image.device).prior.trunk.shallow(image, SHALLOW_BLOCK)
        given = net.prior.trunk.shallow(image, SHALLOW_BLOCK)
        names = ("quarter", "eighth")  # of the image's resolution
        return {
            name: (ours - theirs).square().mean() / theirs.var()
            for name, ours, theirs in zip(names, given, wanted, strict=True)
        }

    def save(self, path: Path, net: HandNet, about: str) -> None:
        """Write the checkpoint with what it inherits, see `inherited`."""
        super().save(path, net, inherited(about, self._about))
