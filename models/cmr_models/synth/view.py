# SPDX-License-Identifier: Apache-2.0
"""Where the hand is and how the crop camera sees it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .rng import Rng

__all__ = ["VIEWS", "View", "place", "project", "sample_rotations"]

# Typical views: weight and, in degrees, mean and deviation of yaw (0: back of the hand, 180: palm), pitch (negative:
# the fingers point away from the camera) and roll.
VIEWS: dict[str, tuple[float, tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "palm": (0.28, (180, 30), (0, 24), (0, 28)),
    "back": (0.16, (0, 30), (0, 24), (0, 28)),
    "egocentric": (0.09, (0, 40), (-55, 20), (0, 35)),
    "reaching": (0.09, (180, 50), (50, 22), (0, 35)),
    "little side": (0.06, (90, 22), (0, 25), (0, 40)),
    "thumb side": (0.08, (-90, 22), (0, 25), (0, 40)),
}
# The remaining weight: orientations uniform over all rotations.
ANY_ROLL = 0.25  # share of the typical views whose roll is uniform

ARM_TOWARDS_CAMERA = 0.82  # cosine of the angle between forearm and view beyond which the arm hides the hand

DISTANCE = (0.25, 1.2)  # metres to the root, uniform in the logarithm
SIDE = (1.3, 2.2)  # side of the crop in sides of the joints' box
SHIFT = 0.12  # of the crop's side
FAR_SHIFT, FAR_SHARE = 0.38, 0.08  # some hands reach outside


class View(NamedTuple):
    """A crop camera: principal point at the crop's centre ((size - 1) / 2), square pixels.

    Attributes
    ----------
    rotation : Tensor
        (B, 3, 3) canonical hand frame to camera frame.
    translation : Tensor
        (B, 3) metres: x_camera = rotation x + translation.
    focal : Tensor
        (B,) pixels.
    """

    rotation: Tensor
    translation: Tensor
    focal: Tensor

    def to_camera(self, points: Tensor) -> Tensor:
        """Points (B, N, 3) of the canonical hand frame in the camera frame."""
        return points @ self.rotation.transpose(1, 2) + self.translation[:, None]


def turn(axis: int, angle: Tensor) -> Tensor:
    """Rotation matrices (B, 3, 3) about coordinate axis 0, 1 or 2 by angles (B,) in radians."""
    sin, cos, result = angle.sin(), angle.cos(), torch.zeros(len(angle), 3, 3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    result[:, axis, axis] = 1
    result[:, i, i] = result[:, j, j] = cos
    result[:, i, j], result[:, j, i] = -sin, sin
    return result


def uniform_rotations(rng: Rng, count: int) -> Tensor:
    """Rotations (count, 3, 3) uniform over SO(3), from unit quaternions."""
    w, x, y, z = torch.nn.functional.normalize(rng.normal(count, 4), dim=1).unbind(1)
    rows = [
        torch.stack((1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)), 1),
        torch.stack((2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)), 1),
        torch.stack((2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)), 1),
    ]
    return torch.stack(rows, 1)


def turn_arm_away(rotation: Tensor) -> Tensor:
    """Where the forearm (canonical +y) points at the camera and would hide the hand, turn it half about the x axis."""
    hides = rotation[:, 2, 1] < -ARM_TOWARDS_CAMERA
    half = torch.tensor([1.0, -1.0, -1.0])
    return torch.where(hides[:, None, None], rotation * half[:, None], rotation)


def sample_rotations(rng: Rng, count: int) -> Tensor:
    """Orientations of the hand (count, 3, 3): the typical `VIEWS`, the rest uniform."""
    table = torch.tensor([[*yaw, *pitch, *roll] for _, yaw, pitch, roll in VIEWS.values()])
    weights = [view[0] for view in VIEWS.values()]
    row = table[rng.choose(weights, count)] * (math.pi / 180)
    yaw, pitch, roll = ((row[:, 2 * k] + row[:, 2 * k + 1] * rng.normal(count)) for k in range(3))
    roll = torch.where(rng.chance(ANY_ROLL, count), rng.uniform(-math.pi, math.pi, count), roll)
    typical = turn(2, roll) @ turn(0, pitch) @ turn(1, yaw)
    mixed = torch.where(rng.chance(sum(weights), count)[:, None, None], typical, uniform_rotations(rng, count))
    return turn_arm_away(mixed)


def place(
    rng: Rng,
    joints: Tensor,
    rotation: Tensor,
    size: int,
    root: int = 9,
    sides: tuple[float, float] = SIDE,
) -> View:
    """Choose distance, position and focal length so that the crop fits the hand as crops do.

    Parameters
    ----------
    rng : Rng
        Source of randomness.
    joints : Tensor
        (B, 21, 3) canonical frame, metres.
    rotation : Tensor
        (B, 3, 3) canonical to camera.
    size : int
        Side of the crop in pixels.
    root : int
        Joint at the sampled distance.
    sides : (float, float)
        Side of the crop in sides of the joints' box: from, to.

    Returns
    -------
    View
    """
    count = len(joints)
    turned = joints @ rotation.transpose(1, 2)
    turned = turned - turned[:, root : root + 1]
    distance = rng.log_uniform(*DISTANCE, count)
    seen = turned[..., :2] / (turned[..., 2:] + distance[:, None, None])
    low, high = seen.amin(1), seen.amax(1)
    focal = size / (rng.uniform(*sides, count) * (high - low).amax(1))
    reach = torch.where(rng.chance(FAR_SHARE, count), FAR_SHIFT, SHIFT)
    shift = rng.uniform(-1, 1, count, 2) * (reach * size / focal)[:, None] - (low + high) / 2
    position = torch.cat((shift * distance[:, None], distance[:, None]), 1)
    origin = (rotation @ joints[:, root, :, None])[..., 0]
    return View(rotation, position - origin, focal)


def project(points: Tensor, focal: Tensor, size: int) -> Tensor:
    """Project camera-frame points (B, N, 3) to (B, N, 3): pixel x, pixel y and depth."""
    depth = points[..., 2:]
    pixels = points[..., :2] / depth.clamp_min(1e-6) * focal[:, None, None] + (size - 1) / 2
    return torch.cat((pixels, depth), -1)
