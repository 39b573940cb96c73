# SPDX-License-Identifier: Apache-2.0
"""What training does with a network: the losses of a batch, groups of parameters, figures and the checkpoint.

There is one `Objective` for the default network (`network.objective`) and one for all networks of the paper
(`paper.objective`); `by_name.make_objective` finds it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from .batches import Mix
    from .network import HandNetConfig
    from .validate import Validation

__all__ = ["Objective", "Recipe", "label_trust", "mesh_levels"]


@dataclass(frozen=True)
class Recipe:
    """Optimisation."""

    seed: int = 0
    steps: int = 6000
    rate: float = 1e-3  # of new layers
    warm_up: int = 200
    decay: float = 1e-2
    clip: float = 5.0
    average: float = 0.998  # of the exponential moving average of the weights


class Objective(ABC):
    """A network and its training.

    Attributes
    ----------
    net : nn.Module
        With fresh weights.
    input : HandNetConfig
        Size and normalisation of its images, whatever the network.
    recipe : Recipe
        Optimisation and weights of the losses.
    mix : Mix
        What its batches are made of.
    """

    net: nn.Module
    input: HandNetConfig
    recipe: Recipe
    mix: Mix

    @abstractmethod
    def groups(self) -> list[dict[str, Any]]:
        """Parameters to train (``params``) in groups, each with the ``scale`` of its rate."""

    @abstractmethod
    def losses(self, net: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Every weighted term by name, for ``net`` on a batch of `batches.collate`."""

    @abstractmethod
    def vertices(self, net: nn.Module, images: Tensor) -> Tensor:
        """Images (B, S, S, 3) uint8 -> vertices (B, V, 3), metres, root-relative."""

    @abstractmethod
    def figures(self, net: nn.Module, validation: Validation) -> dict[str, float]:
        """Figures on held-out samples: millimetres, and pixels of a crop of 256."""

    @abstractmethod
    def save(self, path: Path, net: nn.Module, about: str) -> None:
        """Write a checkpoint that `cmr-export` reads; ``about`` is JSON."""


def label_trust(batch: dict[str, Tensor], empty: float) -> Tensor:
    """Weights (B,) of 2D labels: a photo's is its labels', but at least a half: mirrored ones have lost theirs."""
    photo = batch["present"] & ~batch["outlined"]
    return torch.where(photo, batch["weight"].clamp_min(0.5), torch.where(batch["present"], 1.0, empty))


def mesh_levels(vertices: Tensor, root: Tensor, level_index: list[Tensor], count: int) -> list[Tensor]:
    """Vertices (N, V, 3) relative to the root joint, which ``root`` (1, V) regresses, on ``count`` levels."""
    levels = [vertices - root @ vertices]
    for index in level_index[: count - 1]:
        levels.append(levels[-1][:, index])
    return levels
