# SPDX-License-Identifier: Apache-2.0
"""Things that hide parts of the hand: an object held in it, or something in front of it.

Every object is the same mesh, a superellipsoid: its exponents make it a ball, a box or a cylinder.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .rng import Rng

__all__ = ["HELD", "IN_FRONT", "NONE", "Things", "place_things", "superellipsoid"]

RINGS, SECTORS = 14, 20
NONE, HELD, IN_FRONT = 0, 1, 2
SHARES = (0.74, 0.18, 0.08)
HELD_RADIUS = (0.004, 0.05)  # metres; thinner than the first: nothing fits into the hand


class Things(NamedTuple):
    """One object per image.

    Attributes
    ----------
    vertices : Tensor
        (B, O, 3) camera frame, metres; unused objects are behind the camera.
    pattern : Tensor
        (B, O) coordinate along the object, metres, for stripes.
    kind : Tensor
        (B,) NONE, HELD or IN_FRONT.
    colour, second : Tensor
        (B, 3) linear RGB.
    stripe : Tensor
        (B,) period of the stripes in metres, 0 for plain.
    """

    vertices: Tensor
    pattern: Tensor
    kind: Tensor
    colour: Tensor
    second: Tensor
    stripe: Tensor


def superellipsoid() -> tuple[Tensor, Tensor]:
    """Angles (O, 2) of the mesh's vertices, latitude and longitude, and triangles (F, 3), counter-clockwise outside."""
    latitude = torch.linspace(-math.pi / 2, math.pi / 2, RINGS + 1)
    longitude = torch.arange(SECTORS) * (2 * math.pi / SECTORS)
    angles = torch.stack(torch.meshgrid(latitude, longitude, indexing="ij"), -1).reshape(-1, 2)
    a = (torch.arange(RINGS)[:, None] * SECTORS + torch.arange(SECTORS)).flatten()
    b = (torch.arange(RINGS)[:, None] * SECTORS + (torch.arange(SECTORS) + 1) % SECTORS).flatten()
    faces = torch.cat((torch.stack((a, b, b + SECTORS), 1), torch.stack((a, b + SECTORS, a + SECTORS), 1)))
    return angles, faces


def _power(value: Tensor, exponent: Tensor) -> Tensor:
    return value.sign() * value.abs().clamp_min(1e-6) ** exponent


def shape_points(angles: Tensor, half: Tensor, exponents: Tensor) -> Tensor:
    """Points (B, O, 3) of superellipsoids with half axes (B, 3); exponents (B, 2): 1 is round, 0.1 square."""
    latitude, longitude = angles[:, 0], angles[:, 1]
    flat = _power(latitude.cos()[None], exponents[:, :1])
    x = flat * _power(longitude.cos()[None], exponents[:, 1:])
    y = flat * _power(longitude.sin()[None], exponents[:, 1:])
    z = _power(latitude.sin()[None], exponents[:, :1])
    return torch.stack((x, y, z), -1) * half[:, None]


def grip_axis(joints: Tensor) -> tuple[Tensor, Tensor]:
    """Middle and direction (B, 3) of what the fingers close around: across the palm, between tips and palm."""
    palm, tips = joints[:, [5, 9, 13, 17]].mean(1), joints[:, [7, 8, 11, 12, 15, 16]].mean(1)
    middle = joints[:, [6, 10, 14]].mean(1)
    wrist = joints[:, 0]
    centre = (palm * 1.2 + tips * 1.5 + middle * 0.3 + wrist * 0.25 + joints[:, 4] * 0.25) / 3.5
    return centre, torch.nn.functional.normalize(joints[:, 17] - joints[:, 5], dim=1)


def free_radius(points: Tensor, centre: Tensor, axis: Tensor, reach: float = 0.05) -> Tensor:
    """Smallest distance (B,) of points (B, R, 3) from an axis, over those within `reach` metres along it."""
    offset = points - centre[:, None]
    along = (offset * axis[:, None]).sum(-1, keepdim=True)
    distance = (offset - along * axis[:, None]).norm(dim=-1)
    return torch.where(along[..., 0].abs() < reach, distance, torch.inf).amin(1)


def _axes(third: Tensor, helper: Tensor) -> Tensor:
    """Rotations (B, 3, 3) whose last column is `third`."""
    first = torch.nn.functional.normalize(torch.linalg.cross(helper, third), dim=1)
    return torch.stack((first, torch.linalg.cross(third, first), third), -1)


def place_things(rng: Rng, vertices: Tensor, joints: Tensor, angles: Tensor) -> Things:
    """Put an object into or before some of the hands.

    Parameters
    ----------
    rng : Rng
        Source of randomness.
    vertices, joints : Tensor
        (B, R, 3), (B, 21, 3) hand, camera frame, metres.
    angles : Tensor
        (O, 2) from `superellipsoid`.

    Returns
    -------
    Things
    """
    count = len(joints)
    kind = rng.choose(SHARES, count)
    # Held: as thick as the grip allows, along the grip's axis.
    centre, axis = grip_axis(joints)
    axis = torch.nn.functional.normalize(axis + rng.normal(count, 3, sigma=0.12), dim=1)
    radius = free_radius(vertices, centre, axis)
    kind = torch.where((kind == HELD) & (radius < HELD_RADIUS[0]), NONE, kind)
    radius = (radius * rng.uniform(0.9, 1.06, count)).clamp(*HELD_RADIUS)
    held_half = torch.stack((radius, radius * rng.uniform(0.5, 1, count), rng.uniform(0.03, 0.12, count)), 1)
    held_centre = centre + axis * (held_half[:, 2] * rng.uniform(-0.6, 0.6, count))[:, None]
    # In front: somewhere over the hand, between it and the camera.
    target = joints.gather(1, rng.integers(0, 21, count, 1)[..., None].expand(-1, -1, 3))[:, 0]
    front_centre = target * rng.uniform(0.45, 0.8, count)[:, None] + rng.normal(count, 3, sigma=0.02)
    reach = target[:, 2:] * rng.uniform(0.4, 0.75, count, 1)
    front_half = rng.log_uniform(0.012, 0.07, count, 3) * (reach * 2).clamp(0.3, 1.2)
    front = (kind == IN_FRONT)[:, None]
    turn = torch.where(front[..., None], _axes(rng.direction(count), rng.direction(count)), _axes(axis, joints[:, 9]))
    half = torch.where(front, front_half, held_half)
    exponents = torch.where(rng.chance(0.5, count, 2), rng.uniform(0.08, 0.3, count, 2), rng.uniform(0.7, 1.0, count, 2))
    local = shape_points(angles, half, exponents)
    points = local @ turn.transpose(1, 2) + torch.where(front, front_centre, held_centre)[:, None]
    points = torch.where((kind == NONE)[:, None, None], torch.tensor([0.0, 0.0, -1.0]), points)
    colour = rng.uniform(0, 1, count, 3) ** 2 * rng.uniform(0.2, 1, count, 1)
    grey = rng.uniform(0.01, 0.9, count, 1).expand(-1, 3)
    colour = torch.where(rng.chance(0.35, count, 1), grey, colour)
    stripe = rng.uniform(0.01, 0.05, count) * rng.chance(0.4, count)
    return Things(points, local[..., 2], kind, colour, rng.uniform(0, 1, count, 3) ** 2, stripe)
