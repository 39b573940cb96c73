# SPDX-License-Identifier: Apache-2.0
"""The data engine: random hands, rendered with exact labels. Begin with `engine`; each effect has its own file."""

from .background import Backgrounds
from .camera_noise import degrade
from .engine import Batch, Engine, compose
from .rng import Rng

__all__ = ["Backgrounds", "Batch", "Engine", "Rng", "compose", "degrade"]
