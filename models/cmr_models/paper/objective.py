# SPDX-License-Identifier: Apache-2.0
"""Training of the paper's networks: its losses (section 3.5), where a network has the output for them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cmr_runtime.heatmaps import decode
from cmr_runtime.metrics import mean_distance

from ..batches import Mix
from ..checkpoints import save_content
from ..losses import edge_loss, gaussian_maps, keypoint_loss, level_loss, map_loss, normal_loss, silhouette_loss
from ..network import HandNetConfig, to_input
from ..objective import Objective, Recipe, label_trust, mesh_levels
from ..validate import Validation
from .build import build
from .config import MEAN, STD, PaperConfig
from .hierarchy import MeshHierarchy
from .outputs import PaperOutput

__all__ = ["FORMAT", "PaperObjective", "PaperRecipe"]

#: ``format`` of checkpoints of the paper's networks trained here.
FORMAT = "cmr-paper-1"
#: Heat maps of the reference: a Gaussian of 3.5 pixels in a patch of 13 x 13 pixels, whatever the image's size, halved.
SIGMA, REACH = 3.5 / 2, 6.5 / 2


@dataclass(frozen=True)
class PaperRecipe(Recipe):
    """Of the paper's networks: weights and rate of the reference implementation; lengths in the unit of 0.2 m."""

    rate: float = 1e-4
    decay: float = 0.0
    mesh: float = 1.0
    edges: float = 1.0
    normals: float = 0.1
    heatmaps: float = 10.0
    silhouette: float = 0.5
    keypoints: float = 1.0


class PaperObjective(Objective):
    """Of the paper's networks, on this project's hand; each term where a network has the output for it.

    Photos teach the 2D outputs; pictures without a hand and left hands teach such a network nothing. Keypoints are
    fractions of the image from edge to edge, as the bundle has them (`cmr_runtime.view`): pixel k, counted from the
    centre of the first, is (k + 0.5) / S.

    Parameters
    ----------
    config : PaperConfig
        What the network is made of.
    recipe : PaperRecipe
        Optimisation.
    """

    def __init__(self, config: PaperConfig, recipe: PaperRecipe) -> None:
        self.config, self.recipe = config, recipe
        self.input = HandNetConfig(size=config.size, mean=MEAN, std=STD)
        self.hierarchy = MeshHierarchy.from_hand()
        self.net = build(config, self.hierarchy)
        flat = config.architecture.startswith("ytbhand")  # photos would teach it nothing
        self.mix = Mix(rendered=32 if flat else 20, photos=0 if flat else 12, empty=0, mirrored=0.0)
        self._faces = torch.as_tensor(self.hierarchy.faces[0]).long()
        self._root = torch.as_tensor(self.hierarchy.joint_regressor[self.hierarchy.root_joint]).float()[None]
        self._level_index = [torch.as_tensor(index).long() for index in self.hierarchy.down_index]

    def groups(self) -> list[dict[str, Any]]:
        """See `Objective`."""
        return [{"params": list(self.net.parameters()), "scale": 1.0}]

    def run(self, net: nn.Module, images: Tensor) -> PaperOutput:
        """Run a network on images (B, S, S, 3) uint8."""
        return net(to_input(images, self.input))

    def losses(self, net: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `Objective`."""
        return self.terms(self.run(net, batch["image"]), batch)

    def terms(self, out: PaperOutput, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Every weighted term of an output by name; maps are numbered in the order in which they are made."""
        recipe, size = self.recipe, batch["image"].shape[1]
        device = batch["image"].device
        trust = label_trust(batch, 0.0)
        coverage, outlined = batch["silhouette"].float() / 255, batch["outlined"].float()
        terms = {}
        for number, maps in enumerate([*out.priors, *([out.refined] if out.refined else [])], 1):
            if maps.heatmaps is not None:
                cells = maps.heatmaps.shape[-1]
                target = gaussian_maps(batch["keypoints"], size, cells, SIGMA, REACH)
                terms[f"heat{number}"] = recipe.heatmaps * map_loss(maps.heatmaps, target, trust)
            if maps.silhouette is not None:
                terms[f"sil{number}"] = recipe.silhouette * silhouette_loss(maps.silhouette, coverage, outlined)
        if out.keypoints is not None:
            target = (batch["keypoints"] + 0.5) / size
            terms["points"] = recipe.keypoints * keypoint_loss(out.keypoints, target, trust)
        meshed = batch["meshed"]
        if len(meshed):
            predicted = [v[meshed] for v in out.levels]
            index, faces = [i.to(device) for i in self._level_index], self._faces.to(device)
            truth = batch["vertices"] / self.hierarchy.unit
            targets = mesh_levels(truth, self._root.to(device), index, len(predicted))
            terms["mesh"] = recipe.mesh * level_loss(predicted, targets, discount=1.0)
            terms["edges"] = recipe.edges * edge_loss(predicted[0], targets[0], faces)
            terms["normals"] = recipe.normals * normal_loss(predicted[0], targets[0], faces)
        return terms

    def vertices(self, net: nn.Module, images: Tensor) -> Tensor:
        """See `Objective`."""
        return self.hierarchy.unit * self.run(net, images).levels[0]

    @torch.no_grad()
    def figures(self, net: nn.Module, validation: Validation) -> dict[str, float]:
        """Vertex error of held-out renderings (mm, root-relative) and 2D error of renderings and photos."""
        figures = {}
        for name, samples in (("synth", validation.rendered), ("photo", validation.photos)):
            millimetres, pixels = [], []
            for sample in samples:
                images = torch.from_numpy(sample.image)[None].to(next(net.parameters()).device)
                out = self.run(net, images)
                if sample.vertices is not None:
                    truth = mesh_levels(torch.from_numpy(sample.vertices)[None], self._root, [], 1)[0]
                    found = self.hierarchy.unit * out.levels[0].cpu()
                    millimetres.append(1000 * float((found - truth).norm(dim=-1).mean()))
                if out.refined is not None:
                    maps = out.refined.heatmaps[0].sigmoid().cpu().numpy()
                    pixels.append(mean_distance(decode(maps, self.input.size)[0], sample.keypoints))
                elif out.keypoints is not None:
                    found = self.input.size * out.keypoints[0].cpu().numpy() - 0.5
                    pixels.append(mean_distance(found, sample.keypoints))
            if millimetres:
                figures[f"{name}_vertex_mm"] = round(float(np.mean(millimetres)), 4)
            if pixels:
                figures[f"{name}_px256"] = round(float(np.mean(pixels)) * 256 / self.input.size, 4)
        return figures

    def save(self, path: Path, net: nn.Module, about: str) -> None:
        """Write the reference's form (``model_state_dict``) with plain values that say which network and mesh it is."""
        content = {
            "format": FORMAT,
            "config": asdict(self.config),
            "model_state_dict": {k: v.detach().cpu() for k, v in net.state_dict().items()},
            "about": about,
        }
        save_content(path, content)
