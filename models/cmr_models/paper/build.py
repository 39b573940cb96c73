# SPDX-License-Identifier: Apache-2.0
"""From a configuration to the network that it describes."""

from __future__ import annotations

from .cmr import Cmr
from .config import PaperConfig
from .hierarchy import MeshHierarchy
from .mobrecon import MobRecon
from .ytbhand import YouTubeHand

__all__ = ["build"]

_FAMILIES = {"cmr": Cmr, "ytbhand": YouTubeHand, "mobrecon": MobRecon}


def build(config: PaperConfig, hierarchy: MeshHierarchy) -> Cmr | YouTubeHand | MobRecon:
    """Build the network of a configuration on a mesh hierarchy, with random weights."""
    return _FAMILIES[config.architecture.partition("_")[0]](config, hierarchy)
