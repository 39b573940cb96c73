# SPDX-License-Identifier: Apache-2.0
"""Light of real places: photographed panoramas, each as a small sky and the one lamp that stands out of it.

The asset is written by `bake_panoramas`. All light is linear RGB, the camera's frame is OpenCV's (y down, z forward).
"""

from __future__ import annotations

import math
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..hand.model import rotation_about
from .light import Lights, harmonic_basis
from .rng import Rng

__all__ = ["SHARE", "Panoramas", "grid", "irradiance", "load_panoramas", "turns", "under_panoramas"]

SHARE = 0.3  # of the scenes that are lit by one
PITCH, ROLL = 0.45, 0.15  # radians, standard deviations of the camera's: it looks down on a desk, or up at a face
LEVEL = (0.6, 1.2)
DARKNESS = (0.55, 0.95)  # of the lamp's shadow

#: What a surface sends back of the light that comes as a harmonic of each degree (Ramamoorthi and Hanrahan, SIGGRAPH
#: 2001: π, 2π/3 and π/4, over π), times the square of the factor that makes the polynomial of `light.harmonic_basis` a
#: harmonic of norm 1.
_FACTORS = torch.tensor(
    [1 / (4 * math.pi)]
    + [2 / 3 * 3 / (4 * math.pi)] * 3
    + [1 / 4 * 15 / (4 * math.pi)] * 2
    + [1 / 4 * 5 / (16 * math.pi)]
    + [1 / 4 * 15 / (4 * math.pi)]
    + [1 / 4 * 15 / (16 * math.pi)]
)


class Panoramas(NamedTuple):
    """N places, as bright that a white surface that faces the lamp sends back 1 in the mean over all other light.

    Attributes
    ----------
    sky : Tensor
        (N, R, 2 R, 3) radiance from the directions of `grid`, without the lamp.
    direction : Tensor
        (N, 3) unit vectors towards the lamps.
    colour : Tensor
        (N, 3) what a white surface that faces the lamp sends back of its light.
    """

    sky: Tensor
    direction: Tensor
    colour: Tensor


def grid(rows: int) -> tuple[Tensor, Tensor]:
    """Directions (rows, 2 rows, 3) of the pixels of a panorama, whose upper edge is the zenith, and their solid angles.

    Solid angles (rows, 2 rows) add up to 4π.
    """
    edge = math.pi * torch.arange(rows + 1, dtype=torch.float64) / rows
    down = (edge[1:] + edge[:-1]) / 2
    around = math.pi * ((torch.arange(2 * rows, dtype=torch.float64) + 0.5) / rows - 1)
    down, around = torch.meshgrid(down, around, indexing="ij")
    directions = torch.stack((down.sin() * around.sin(), -down.cos(), down.sin() * around.cos()), -1)
    angle = (edge[:-1].cos() - edge[1:].cos())[:, None].expand(rows, 2 * rows) * (math.pi / rows)
    return directions.float(), angle.float()


@cache
def load_panoramas() -> Panoramas:
    """Read the asset."""
    with (files(__package__) / "assets/panoramas.npz").open("rb") as file, np.load(file) as data:
        return Panoramas(*(torch.from_numpy(data[name].astype(np.float32)) for name in Panoramas._fields))


def irradiance(sky: Tensor, turn: Tensor) -> Tensor:
    """Harmonics (B, 9, 3) for `light.ambient` of skies (B, R, 2 R, 3), turned by rotations (B, 3, 3)."""
    directions, angle = grid(sky.shape[1])
    basis = harmonic_basis(directions.reshape(1, -1, 3) @ turn.transpose(1, 2))
    return _FACTORS[:, None] * (basis.transpose(1, 2) @ (sky * angle[..., None]).flatten(1, 2))


def turns(rng: Rng, count: int) -> Tensor:
    """Rotations (count, 3, 3) from a panorama to cameras that look anywhere around, up or down a little."""
    yaw, pitch, roll = (
        rng.uniform(-math.pi, math.pi, count),
        rng.normal(count, sigma=PITCH),
        rng.normal(count, sigma=ROLL),
    )
    x, y, z = torch.eye(3)
    return rotation_about(z, roll) @ rotation_about(x, pitch) @ rotation_about(y, yaw)


def under_panoramas(rng: Rng, lights: Lights, share: float = SHARE) -> Lights:
    """Light a share of the scenes by panoramas; the others keep their lights."""
    places, count = load_panoramas(), len(lights.direction)
    which, turn = rng.integers(0, len(places.sky), count), turns(rng, count)
    level, darkness = rng.uniform(*LEVEL, count), rng.uniform(*DARKNESS, count)
    lit = rng.chance(share, count)
    direction, colour = lights.direction.clone(), torch.zeros_like(lights.colour)
    direction[:, 0] = (turn @ places.direction[which][..., None])[..., 0]
    colour[:, 0] = level[:, None] * places.colour[which]
    harmonics = level[:, None, None] * irradiance(places.sky[which], turn)

    def where(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(lit.reshape(-1, *[1] * (old.ndim - 1)), new, old)

    return lights._replace(
        direction=where(direction, lights.direction),
        colour=where(colour, lights.colour),
        harmonics=where(harmonics, lights.harmonics),
        shadow=where(darkness, lights.shadow),
    )
