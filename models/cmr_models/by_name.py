# SPDX-License-Identifier: Apache-2.0
"""Every network that can be trained, by name."""

from __future__ import annotations

from typing import Any

from .network.objective import HandNetConfig, HandNetObjective, HandNetRecipe
from .objective import Objective
from .paper.config import names, paper_config
from .paper.objective import PaperObjective, PaperRecipe

__all__ = ["DEFAULT", "LITE", "hand_config", "make_objective", "network_names"]

#: Name of the default network.
DEFAULT = "handnet"
#: Name of its lite form.
LITE = "handnet_lite"


def network_names() -> tuple[str, ...]:
    """Names of all networks that can be trained, the default one first."""
    return (DEFAULT, LITE, *names())


def hand_config(name: str, size: int | None = None) -> HandNetConfig:
    """Sizes of the default network or its lite form; ``size`` is that of the images, pixels (default: its own)."""
    config = HandNetConfig() if size is None else HandNetConfig(size=size)
    return config.lite() if name == LITE else config


def make_objective(name: str, size: int | None = None, **recipe: Any) -> Objective:
    """Make a network by name, with its objective.

    Parameters
    ----------
    name : str
        One of `network_names`.
    size : int, optional
        Side of the images, pixels; default: the network's own.
    **recipe
        Fields of its recipe, such as ``steps``.

    Raises
    ------
    ValueError
        If the name is unknown or the size does not suit.
    """
    if name not in network_names():
        raise ValueError(f"unknown network {name!r}; choose from {', '.join(network_names())}")
    if name in (DEFAULT, LITE):
        return HandNetObjective(hand_config(name, size), HandNetRecipe(**recipe))
    if "mobrecon" in name:
        recipe = {"rate": 1e-3, **recipe}  # as the reference has it
    return PaperObjective(paper_config(name, **({} if size is None else {"size": size})), PaperRecipe(**recipe))
