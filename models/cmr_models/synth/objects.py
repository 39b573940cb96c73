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
SHARES = (0.58, 0.34, 0.08)  # none, held (where the hand closes around something), in front
FRONT_HALF = (0.12, 0.4)  # half axes of an object in front, in sides of the hand's box: part of it stays seen
HELD_RADIUS = (0.006, 0.05)  # metres; thinner than the first: nothing fits into the hand
GRIP_HEIGHTS, GRIP_SHIFTS = (0.016, 0.023, 0.031, 0.04, 0.052), (-0.015, 0.0, 0.015, 0.03)  # metres: palm, wrist
GRIP_GAP = 0.026  # metres between the bar's surface and the joints at the tips: the fingers touch it


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


def grip_candidates(joints: Tensor) -> tuple[Tensor, Tensor]:
    """Places (B, K, 3) before the palm where an object could be, and its direction (B, 3): across the palm."""
    knuckles, wrist = joints[:, [5, 9, 13, 17]].mean(1), joints[:, 0]
    out = torch.linalg.cross(joints[:, 5] - wrist, joints[:, 17] - wrist)
    out, back = (torch.nn.functional.normalize(v, dim=1) for v in (out, wrist - knuckles))
    height, shift = torch.meshgrid(torch.tensor(GRIP_HEIGHTS), torch.tensor(GRIP_SHIFTS), indexing="ij")
    steps = out[:, None] * height.reshape(-1, 1) + back[:, None] * shift.reshape(-1, 1)
    return knuckles[:, None] + steps, torch.nn.functional.normalize(joints[:, 17] - joints[:, 5], dim=1)


def axis_distance(points: Tensor, centre: Tensor, axis: Tensor) -> tuple[Tensor, Tensor]:
    """Distances (B, R) of points (B, R, 3) from a line through centre (B, 3), and positions (B, R) along it."""
    offset = points - centre[:, None]
    along = (offset * axis[:, None]).sum(-1)
    return (offset.square().sum(-1) - along.square()).clamp_min(0).sqrt(), along


def free_radius(points: Tensor, centre: Tensor, axis: Tensor, reach: float = 0.04) -> Tensor:
    """Smallest distance (B,) of points (B, R, 3) from an axis, over those within `reach` metres along it."""
    distance, along = axis_distance(points, centre, axis)
    return torch.where(along.abs() < reach, distance, torch.inf).amin(1)


def find_grip(points: Tensor, joints: Tensor, axis: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find the thickest round bar that fits between fingers and palm.

    Parameters
    ----------
    points, joints : Tensor
        (B, R, 3) and (B, 21, 3), metres.
    axis : Tensor
        (B, 3) direction of the bar.

    Returns
    -------
    centre, radius, closed : Tensor
        (B, 3), (B,) metres, and (B,) whether the fingers close around it.
    """
    centres, _ = grip_candidates(joints)
    radii = torch.stack([free_radius(points, centres[:, k], axis) for k in range(centres.shape[1])], 1)
    tips = joints[:, [4, 8, 12, 16]]
    tips_away = [axis_distance(tips, centres[:, k], axis)[0].mean(1) for k in range(centres.shape[1])]
    gaps = torch.stack(tips_away, 1) - radii
    best = torch.where(gaps < GRIP_GAP, radii, 0.0).argmax(1, keepdim=True)
    radius = radii.gather(1, best)[:, 0]
    closed = (gaps.gather(1, best)[:, 0] < GRIP_GAP) & (radius > HELD_RADIUS[0])
    return centres.gather(1, best[..., None].expand(-1, -1, 3))[:, 0], radius, closed


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
    _, axis = grip_candidates(joints)
    axis = torch.nn.functional.normalize(axis + rng.normal(count, 3, sigma=0.12), dim=1)
    centre, radius, closed = find_grip(vertices, joints, axis)
    kind = torch.where((kind == HELD) & ~closed, NONE, kind)
    radius = (radius * rng.uniform(0.94, 1.1, count)).clamp(*HELD_RADIUS)
    held_half = torch.stack((radius, radius * rng.uniform(0.5, 1, count), rng.uniform(0.03, 0.12, count)), 1)
    held_centre = centre + axis * (held_half[:, 2] * rng.uniform(-0.6, 0.6, count))[:, None]
    # In front: somewhere over the hand, between it and the camera.
    target = joints.gather(1, rng.integers(0, 21, count, 1)[..., None].expand(-1, -1, 3))[:, 0]
    front_centre = target * rng.uniform(0.45, 0.8, count)[:, None]
    seen = joints[..., :2] / joints[..., 2:]
    side = (seen.amax(1) - seen.amin(1)).amax(1) * front_centre[:, 2]  # the hand's, at the object's distance
    front_centre = front_centre + rng.normal(count, 3, sigma=0.08) * side[:, None]
    front_half = side[:, None] * rng.log_uniform(*FRONT_HALF, count, 3)
    front = (kind == IN_FRONT)[:, None]
    turn = torch.where(front[..., None], _axes(rng.direction(count), rng.direction(count)), _axes(axis, joints[:, 9]))
    half = torch.where(front, front_half, held_half)
    square, ball = rng.uniform(0.08, 0.3, count, 2), rng.uniform(0.7, 1.0, count, 2)
    exponents = torch.where(rng.chance(0.5, count, 2), square, ball)
    local = shape_points(angles, half, exponents)
    points = local @ turn.transpose(1, 2) + torch.where(front, front_centre, held_centre)[:, None]
    points = torch.where((kind == NONE)[:, None, None], torch.tensor([0.0, 0.0, -1.0]), points)
    colour = rng.uniform(0, 1, count, 3) ** 2 * rng.uniform(0.2, 1, count, 1)
    grey = rng.uniform(0.01, 0.9, count, 1).expand(-1, 3)
    colour = torch.where(rng.chance(0.35, count, 1), grey, colour)
    stripe = rng.uniform(0.01, 0.05, count) * rng.chance(0.4, count)
    return Things(points, local[..., 2], kind, colour, rng.uniform(0, 1, count, 3) ** 2, stripe)
