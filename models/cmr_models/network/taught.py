# SPDX-License-Identifier: Apache-2.0
"""Training of a mesh stage alone: behind a trained prior, taught by its mesh stage, of whose blocks it may lack some.

Blocks of one resolution and width add to their input, so that a trained encoder nearly works without some of them; what
it then lacks it learns, from labels and from the teacher. The prior stays as it is, which makes a step several times as
quick as one of the whole network.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..batches import Mix
from ..losses import heatmap_loss
from .handnet import HandNet, HandNetOutput, load_checkpoint, to_input
from .objective import HandNetObjective, HandNetRecipe

__all__ = ["TaughtObjective", "inherited", "start_from", "whole_matrix"]

#: Weights of what the teacher says: features of the joints, vertices (20 mm count as one), heat maps.
TOKENS, VERTICES, HEATMAPS = 2.0, 50.0, 0.5


class TaughtObjective(HandNetObjective):
    """Of the default network's mesh stage.

    Parameters
    ----------
    teacher : Path
        Checkpoint of the default network, whose prior stays and whose mesh stage teaches.
    blocks : sequence of int or None
        Blocks of the second encoder, see `Trunk`; None is all.
    recipe : HandNetRecipe
        Optimisation; what it says of the prior is of no account.
    mix : Mix
        As for `HandNetObjective`.

    Raises
    ------
    ValueError
        The file is no such checkpoint, or the blocks do not follow one another.
    """

    def __init__(
        self, teacher: Path, blocks: Sequence[int] | None, recipe: HandNetRecipe, mix: Mix | None = None
    ) -> None:
        self._teacher, content = load_checkpoint(teacher)
        self._about = json.loads(content.get("about", "{}"))
        places = None if blocks is None else tuple(blocks)
        # It sees the teacher's prior alone, so that it cannot learn to do without it.
        super().__init__(replace(self._teacher.config, mesh_blocks=places, recall=False), recipe, mix)
        start_from(self._teacher, self.net)
        self.net.prior.requires_grad_(False)

    def groups(self) -> list[dict[str, Any]]:
        """Parameters of the mesh stage."""
        return [{"params": list(self.net.mesh.parameters()), "scale": 1.0}]

    def losses(self, net: HandNet, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the terms of the mesh stage, and what sets it apart from its teacher."""
        teacher = self._teacher.to(batch["image"].device).mesh
        with torch.no_grad():
            prior = net.prior(to_input(batch["image"], self.input))
            cues = (prior.features, prior.heatmaps.sigmoid(), prior.silhouette.sigmoid())
            wanted = teacher.encode(*cues)
            taught = teacher.decode(*wanted)
        encoded = net.mesh.encode(*cues)
        mesh = net.mesh.decode(*encoded)
        every = torch.ones(len(batch["image"]), device=batch["image"].device)
        terms = self.terms(net, HandNetOutput(prior, mesh), batch)
        return {name: term for name, term in terms.items() if term.requires_grad} | {
            "tokens": TOKENS * (encoded[0] - wanted[0]).abs().mean(),
            "taught": VERTICES * (mesh.levels[0] - taught.levels[0]).abs().mean(),
            "maps": HEATMAPS * heatmap_loss(mesh.heatmaps.float(), taught.heatmaps.float().sigmoid(), every),
        }

    def save(self, path: Path, net: HandNet, about: str) -> None:
        """Write the checkpoint with what it inherits, see `inherited`."""
        super().save(path, net, inherited(about, self._about))


def inherited(about: str, teacher: dict[str, Any]) -> str:
    """Return what a student says of itself, as JSON, with what its teacher does under ``teacher``.

    The teacher's terms hold where ``about`` states none, and its sources are sources still.
    """
    stated, terms = json.loads(about), ("licence", "licence_text")
    kept = {} if any(name in stated for name in terms) else {k: v for k, v in teacher.items() if k in terms}
    if sources := teacher.get("sources", {}) | stated.get("sources", {}):
        kept["sources"] = sources
    return json.dumps({**stated, **kept, "teacher": teacher})


def start_from(teacher: HandNet, student: HandNet) -> None:
    """Give the student all weights that the teacher has for it.

    Blocks take those of the same place, and a matrix of low rank the nearest one to the teacher's.
    """
    wanted, found = student.state_dict(), {}
    for name, weight in teacher.state_dict().items():
        for stage in ("prior", "mesh"):
            prefix = f"{stage}.trunk.blocks."
            if name.startswith(prefix):
                index, _, rest = name.removeprefix(prefix).partition(".")
                has, had = (getattr(net, stage).trunk.places for net in (student, teacher))
                place = had[int(index)]
                name = f"{prefix}{has.index(place)}.{rest}" if place in has else ""
        if name in wanted and wanted[name].shape == weight.shape:
            found[name] = weight
    found |= _of_low_rank(teacher, student)
    if teacher.mesh.presence is None:  # both stages pool the same kind of features
        for part in ("weight", "bias"):
            name = f"mesh.presence.{part}"
            if name in wanted and wanted[name].shape == (weight := found[f"prior.presence.{part}"]).shape:
                found[name] = weight
    student.load_state_dict(wanted | found)


def whole_matrix(features: nn.Module) -> tuple[Tensor, Tensor]:
    """Matrix and bias of what the whole crop tells the joints; of two factors it is their product."""
    if isinstance(features, nn.Sequential):
        return features[-1].weight @ features[0].weight, features[-1].bias
    return features.weight, features.bias


def _of_low_rank(teacher: HandNet, student: HandNet) -> dict[str, Tensor]:
    """Two factors for what the whole crop tells the joints, of the student's rank; none if it has one matrix.

    They are the best of that rank for the teacher's matrix, or the student's own where that reads other features.
    """
    ours, theirs = student.mesh.global_features, teacher.mesh.global_features
    if not isinstance(ours, nn.Sequential):
        return {}
    name, own = "mesh.global_features", {f"mesh.global_features.{k}": v for k, v in ours.state_dict().items()}
    full, bias = whole_matrix(theirs)
    if full.shape != (ours[1].out_features, ours[0].in_features):
        return own
    left, values, right = torch.linalg.svd(full.detach(), full_matrices=False)
    rank = len(ours[0].weight)
    parts = {"0.weight": values[:rank, None] * right[:rank], "1.weight": left[:, :rank], "1.bias": bias.detach()}
    return {f"{name}.{part}": weight for part, weight in parts.items()}
