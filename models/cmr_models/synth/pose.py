# SPDX-License-Identifier: Apache-2.0
"""Random hand poses within anatomical limits: gestures, blends of gestures, free poses, and poses seen in photos."""

from __future__ import annotations

import math
from functools import cache
from importlib.resources import files

import numpy as np
import torch
from torch import Tensor

from ..hand import HandTopology
from .gestures import GESTURES, gesture_angles
from .rng import Rng

__all__ = ["LIMITS_DEG", "clamp_to_limits", "limits", "neutral_angles", "sample_poses", "sample_shapes"]

# Flexion, abduction and twist in degrees. Ranges of active motion after the American Academy of Orthopaedic Surgeons
# (Joint Motion, 1965) and the 0th-100th percentiles of Cobos et al. (2008); a few degrees wider at the ends, since
# passive motion (pressing, leaning) is photographed too. Twist is passive and small, but for the thumb's saddle joint.
# The thumb counts from the model's rest pose, half way between adduction and opposition.
LIMITS_DEG: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "wrist": ((-70, 80), (-20, 30), (0, 0)),
    "thumb CMC": ((-35, 50), (-35, 38), (-28, 25)),
    "thumb MCP": ((-15, 62), (-8, 8), (-4, 4)),
    "thumb IP": ((-20, 85), (0, 0), (0, 0)),
    "MCP": ((-25, 92), (-24, 24), (-6, 6)),
    "PIP": ((-3, 112), (0, 0), (0, 0)),
    "DIP": ((-8, 82), (0, 0), (0, 0)),
}
JOINTS = ["wrist", "thumb CMC", "thumb MCP", "thumb IP"] + ["MCP", "PIP", "DIP"] * 4
MCP = [4, 7, 10, 13]

# How a pose is made: weights of the mixture, and the noise in degrees.
MIXTURE = {"gesture": 0.34, "blend": 0.25, "free": 0.16, "seen": 0.25}
SEEN_BLENDED = 0.3  # share of the poses seen that are blended with one of the others
NOISE_SHARED, NOISE_OWN, NOISE_SPREAD, NOISE_TWIST, NOISE_THUMB = 6.0, 5.0, 3.0, 2.0, 5.0
DIP_PER_PIP = 0.67  # the two share a tendon (flexor digitorum profundus); Rijpkema and Girard 1991
SIGMA_WRIST_FLEXION, SIGMA_WRIST_DEVIATION = 24.0, 9.0
SHAPE_LIMIT = 2.5


def limits() -> tuple[Tensor, Tensor]:
    """Lower and upper limits of all angles, each (16, 3) in radians."""
    table = torch.tensor([LIMITS_DEG[name] for name in JOINTS])
    table = table * (math.pi / 180)
    return table[..., 0], table[..., 1]


def clamp_to_limits(angles: Tensor) -> Tensor:
    """Bring angles (B, 16, 3) into the limits; a flexed knuckle spreads less (its ligaments tighten)."""
    low, high = limits()
    angles = angles.maximum(low).minimum(high)
    room = (1 - angles[:, MCP, 0] / math.radians(85)).clamp(0.12, 1)
    angles[:, MCP, 1] = angles[:, MCP, 1].maximum(low[MCP, 1] * room).minimum(high[MCP, 1] * room)
    return angles


def neutral_angles(hand: HandTopology) -> Tensor:
    """Anatomical angles (16, 3), radians, of the model's rest pose: the model takes anatomical angles minus these.

    A finger is at zero when it continues the middle metacarpal (the canonical -y) in a straight line. The model's
    thumb and wrist are taken to rest at zero.
    """
    joints = hand.joint_regressor @ hand.rest[hand.vertex_index]
    angles = np.zeros((16, 3), np.float32)
    for finger in range(1, 5):
        chain, before = joints[1 + 4 * finger : 5 + 4 * finger], np.array([0.0, -1.0, 0.0])
        side = np.sign(hand.bone_frames[1 + 3 * finger, 2, 1])  # turning about +z leads the fingertip to +x
        for k in range(3):
            bone, direction = 1 + 3 * finger + k, chain[k + 1] - chain[k]
            if k == 0:
                angles[bone, 1] = side * math.atan2(direction[0], -direction[1])
                before = np.array([direction[0], direction[1], 0.0])
            axis = hand.bone_frames[bone, :, 0]
            angles[bone, 0] = math.atan2(axis @ np.cross(before, direction), before @ direction)
            before = direction
    return torch.from_numpy(angles)


def library() -> tuple[Tensor, Tensor]:
    """All gestures (G, 15, 3) in degrees and their weights (G,)."""
    return torch.stack([gesture_angles(name) for name in GESTURES]), torch.tensor([g[3] for g in GESTURES.values()])


def sample_gestures(rng: Rng, count: int) -> Tensor:
    """Gestures of the library (count, 15, 3) in degrees."""
    angles, weights = library()
    return angles[rng.choose(weights, count)]


def blend(rng: Rng, start: Tensor, end: Tensor) -> Tensor:
    """Poses between two (B, 15, 3), each finger on its own way."""
    way = rng.uniform(0, 1, len(start), 1) + rng.normal(len(start), 5, sigma=0.2)
    way = way.clamp(0, 1).repeat_interleave(3, 1)[..., None]
    return start + (end - start) * way


def sample_blends(rng: Rng, count: int) -> Tensor:
    """Poses between two gestures (count, 15, 3) in degrees."""
    return blend(rng, sample_gestures(rng, count), sample_gestures(rng, count))


def sample_free(rng: Rng, count: int) -> Tensor:
    """Free poses (count, 15, 3) in degrees: neighbouring fingers bend alike, DIP follows PIP."""
    angles = torch.zeros(count, 5, 3, 3)
    steps = torch.cat((rng.uniform(-0.1, 1.1, count, 1), rng.normal(count, 3, sigma=0.28)), 1)
    curl = torch.cumsum(steps, 1).clamp(-0.15, 1.0)  # index ... little: a random walk over the fingers
    angles[:, 1:, 0, 0] = curl * 85 + rng.normal(count, 4, sigma=14)
    bend = (curl + rng.normal(count, 1, sigma=0.25) + rng.normal(count, 4, sigma=0.15)).clamp(0, 1.05)
    angles[:, 1:, 1, 0] = bend * 100
    angles[:, 1:, 2, 0] = bend * 100 * DIP_PER_PIP + rng.normal(count, 4, sigma=8)
    fan = rng.uniform(-0.3, 1.1, count, 1) * torch.tensor([14.0, 0.0, 10.0, 18.0])
    angles[:, 1:, 0, 1] = fan
    angles[:, 0, 0, 0] = rng.uniform(-25, 42, count)
    angles[:, 0, 0, 1] = rng.uniform(-18, 30, count)
    angles[:, 0, 0, 2] = rng.normal(count, sigma=10) - 8
    angles[:, 0, 1, 0] = angles[:, 0, 0, 0] * 0.6 + 6 + rng.normal(count, sigma=14)
    angles[:, 0, 2, 0] = angles[:, 0, 1, 0] * 0.8 + 4 + rng.normal(count, sigma=18)
    return angles.reshape(count, 15, 3)


@cache
def seen_poses() -> tuple[Tensor, Tensor]:
    """Poses fitted to photographed hands (N, 15, 3) in degrees and their weights (N,); see `fit_poses`."""
    with (files(__package__) / "assets" / "poses.npz").open("rb") as stream:
        data = np.load(stream, allow_pickle=False)
        return torch.from_numpy(data["poses"]).float(), torch.from_numpy(data["weight"]).float()


def sample_seen(rng: Rng, others: Tensor) -> Tensor:
    """Poses of photographed hands, as many as ``others`` (count, 15, 3), in degrees; some blended with these."""
    poses, weights = seen_poses()
    poses = poses[rng.choose(weights, len(others))]
    blended = rng.chance(SEEN_BLENDED, len(others))
    return torch.where(blended[:, None, None], blend(rng, poses, others), poses)


def add_noise(rng: Rng, angles: Tensor) -> Tensor:
    """Vary poses (B, 15, 3) in degrees, a part of it shared by all fingers."""
    count = len(angles)
    noise = torch.zeros_like(angles)
    noise[:, 3:, 0] = rng.normal(count, 1, sigma=NOISE_SHARED) + rng.normal(count, 12, sigma=NOISE_OWN)
    noise[:, :3, 0] = rng.normal(count, 3, sigma=NOISE_THUMB)
    noise[:, 0, 1:] = rng.normal(count, 2, sigma=NOISE_THUMB)
    noise[:, 3::3, 1] = rng.normal(count, 4, sigma=NOISE_SPREAD)
    noise[:, 3::3, 2] = rng.normal(count, 4, sigma=NOISE_TWIST)
    return angles + noise


def sample_poses(rng: Rng, count: int) -> Tensor:
    """Random poses.

    Parameters
    ----------
    rng : Rng
        Source of randomness.
    count : int
        How many.

    Returns
    -------
    Tensor
        (count, 16, 3) radians: anatomical flexion, abduction, twist per articulated joint, within `limits`.
    """
    each, weights = torch.arange(count), list(MIXTURE.values())
    made = torch.stack([sample_gestures(rng, count), sample_blends(rng, count), sample_free(rng, count)])
    seen = sample_seen(rng, made[rng.choose(weights[:-1], count), each])
    kind = rng.choose(weights, count)
    angles = add_noise(rng, torch.cat((made, seen[None]))[kind, each])
    wrist = torch.zeros(count, 1, 3)
    wrist[:, 0, 0] = rng.normal(count, sigma=SIGMA_WRIST_FLEXION)
    wrist[:, 0, 1] = rng.normal(count, sigma=SIGMA_WRIST_DEVIATION)
    return clamp_to_limits(torch.cat((wrist, angles), 1) * (math.pi / 180))


def sample_shapes(rng: Rng, count: int, size: int) -> Tensor:
    """Random shape coefficients (count, size), standard normal within +-`SHAPE_LIMIT`."""
    return rng.normal(count, size).clamp(-SHAPE_LIMIT, SHAPE_LIMIT)
