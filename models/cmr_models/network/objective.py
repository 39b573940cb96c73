# SPDX-License-Identifier: Apache-2.0
"""Training of the default network: its losses, groups of parameters and checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cmr_runtime.biomechanics import USUAL

from ..batches import Mix
from ..hand import load_hand
from ..losses import (
    bone_lengths,
    bone_loss,
    edge_loss,
    gaussian_maps,
    heatmap_loss,
    level_loss,
    normal_loss,
    reprojection_loss,
    silhouette_loss,
    similarity_loss,
)
from ..objective import Objective, Recipe, label_trust, mesh_levels
from ..validate import Validation
from .handnet import HandNet, HandNetConfig, HandNetOutput, save_checkpoint, to_input
from .prior import SHALLOW_BLOCK
from .recall import recalled

__all__ = ["HandNetObjective", "HandNetRecipe"]

#: Bones from the wrist to the tip of the middle finger.
_MIDDLE = slice(8, 12)


@dataclass(frozen=True)
class HandNetRecipe(Recipe):
    """Of the default network; lengths in metres are weighted so that 10 mm count as one."""

    pretrained: float = 0.5  # of pretrained layers, times `rate`
    freeze_shallow: bool = True  # MediaPipe's own layers up to the shared shallow features stay as they are
    mesh: float = 100.0
    joints: float = 100.0
    edges: float = 30.0
    normals: float = 0.1
    bones: float = 2.0  # lengths, in shares of the true ones
    heatmaps: float = 1.0
    empty: float = 0.25  # of the heat maps of pictures without a hand
    silhouette: float = 2.0
    presence: float = 1.0
    handedness: float = 1.0
    # Labels say best where joints are in the picture. In 3D they err by more than a mesh that learned from renderings:
    # they hold its shape, and their own view (`photo_turn`) counts little.
    photo_joints: float = 40.0
    photo_turn: float = 6.0
    photo_view: float = 20.0
    photo_bones: float = 2.0  # lengths, against an adult's: nothing else gives a photographed hand its size
    photo_slack: float = 0.03  # in which they are free; at 0.12, as people differ, all settle at its lower end


class HandNetObjective(Objective):
    """Of the default network.

    Parameters
    ----------
    config : HandNetConfig
        Sizes.
    recipe : HandNetRecipe
        Optimisation.
    mix : Mix
        Its ``mirrored`` share makes both sides count alike.
    """

    def __init__(self, config: HandNetConfig, recipe: HandNetRecipe, mix: Mix | None = None) -> None:
        self.input, self.recipe, self.mix = config, recipe, mix or Mix()
        hand = load_hand()
        self.net: HandNet = HandNet(config, hand)
        # The model's mean hand has children's in it; photos show adults, as `USUAL` does.
        bones = bone_lengths(torch.as_tensor(hand.joint_regressor @ hand.template))
        self._usual_bones = bones * (1e-3 * USUAL[_MIDDLE].sum() / bones[_MIDDLE].sum())

    def groups(self) -> list[dict[str, Any]]:
        """Split into pretrained and new parameters; frozen ones are left out."""
        net, recipe = self.net, self.recipe
        pretrained = {id(p) for trunk in (net.prior.trunk, net.mesh.trunk) for p in trunk.parameters()}
        frozen: set[int] = set()
        if recipe.freeze_shallow and not net.prior.trunk.dense:
            front = (net.prior.trunk.stem, *net.prior.trunk.blocks[: SHALLOW_BLOCK + 1])
            shallow = [p for part in front for p in part.parameters()]
            frozen = {id(p) for p in shallow}
            for p in shallow:
                p.requires_grad_(False)
        old = [p for p in net.parameters() if id(p) in pretrained and id(p) not in frozen]
        new = [p for p in net.parameters() if id(p) not in pretrained]
        return [{"params": old, "scale": recipe.pretrained}, {"params": new, "scale": 1.0}]

    def losses(self, net: HandNet, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `Objective`."""
        last = None
        if self.input.recall and "recalled" in batch:
            last = partial(recalled, source=batch["source"], moved=batch["moved"], chosen=batch["recalled"])
        return self.terms(net, net(to_input(batch["image"], self.input), last), batch)

    def terms(self, net: HandNet, out: HandNetOutput, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Every weighted term of an output by name."""
        recipe, mirrored = self.recipe, self.mix.mirrored
        size, prior, mesh = batch["image"].shape[1], out.prior, out.mesh
        present = batch["present"].float()
        trust = label_trust(batch, recipe.empty)
        target = gaussian_maps(batch["keypoints"], size, prior.heatmaps.shape[-1]) * present[:, None, None, None]
        coverage, outlined = batch["silhouette"].float() / 255, batch["outlined"].float()
        terms = {
            "heat1": recipe.heatmaps * heatmap_loss(prior.heatmaps.float(), target, trust),
            "heat2": recipe.heatmaps * heatmap_loss(mesh.heatmaps.float(), target, trust),
            "sil1": recipe.silhouette * silhouette_loss(prior.silhouette.float(), coverage, outlined),
            "sil2": recipe.silhouette * silhouette_loss(mesh.silhouette.float(), coverage, outlined),
        }
        binary = F.binary_cross_entropy_with_logits
        # Pictures without a hand are few; both kinds count alike.
        empty = (1 - present) * (present.sum() / (1 - present).sum().clamp_min(1))
        judged = [prior.presence] if mesh.presence is None else [prior.presence, mesh.presence]
        shown = sum(binary(logits[:, 0].float(), present, reduction="none") for logits in judged)
        terms["presence"] = recipe.presence * (shown * (present + empty)).sum() / (present + empty).sum().clamp_min(1)
        side = binary(prior.right[:, 0].float(), batch["right"].float(), reduction="none")
        # Mirrored hands are few; both sides count alike.
        both = present * torch.where(batch["right"], 1.0, (1 - mirrored) / max(mirrored, 1e-3))
        terms["hand"] = recipe.handedness * (side * both).sum() / both.sum().clamp_min(1)

        meshed = batch["meshed"]
        if len(meshed):
            predicted = [v[meshed].float() for v in mesh.levels]
            index = [getattr(net.mesh, f"level_index_{k}") for k in range(len(net.hand.level_index))]
            levels = mesh_levels(batch["vertices"], net.mesh.root, index, len(index) + 1)
            targets = [levels[k] for k in net.mesh.spiral.shown]
            truth, faces = targets[0], net.faces
            terms["mesh"] = recipe.mesh * level_loss(predicted, targets)
            regressed = net.joint_regressor @ predicted[0], net.joint_regressor @ truth
            terms["joints"] = recipe.joints * (regressed[0] - regressed[1]).abs().mean()
            every = torch.ones(len(meshed), device=truth.device)
            terms["bones"] = recipe.bones * bone_loss(regressed[0], bone_lengths(regressed[1]), every)
            terms["edges"] = recipe.edges * edge_loss(predicted[0], truth, faces)
            terms["normals"] = recipe.normals * normal_loss(predicted[0], truth, faces)
        if bool((batch["weight"] > 0).any()):
            joints = net.joint_regressor @ mesh.levels[0].float()
            terms["photo3d"] = recipe.photo_joints * similarity_loss(joints, batch["world"], batch["weight"])
            terms["turn"] = recipe.photo_turn * similarity_loss(joints, batch["world"], batch["weight"], turn=False)
            usual = self._usual_bones.to(joints)
            terms["photobones"] = recipe.photo_bones * bone_loss(joints, usual, batch["weight"], recipe.photo_slack)
            terms["photo2d"] = recipe.photo_view * reprojection_loss(joints, batch["keypoints"], batch["weight"])
        return terms

    def vertices(self, net: HandNet, images: Tensor) -> Tensor:
        """See `Objective`."""
        return net(to_input(images, self.input)).mesh.levels[0]

    def figures(self, net: HandNet, validation: Validation) -> dict[str, float]:
        """See `Validation.run`."""
        return validation.run(net)

    def save(self, path: Path, net: HandNet, about: str) -> None:
        """See `Objective`."""
        save_checkpoint(path, net, about=about)
