# SPDX-License-Identifier: Apache-2.0
"""When passes agree on a hand: distances in 2D and 3D, one handedness, and fingers that bend towards the palm."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from .passes import ROOT_JOINT, Pass

__all__ = ["RULE", "consensus", "curl_sign", "procrustes_distance"]

KNUCKLES = (5, 9, 13, 17)
TIPS = (8, 12, 16, 20)

MAX_DISAGREEMENT_2D = 0.05
"""Largest mean distance between two passes' joints, as a part of the hand's box side, that a label may have."""
MAX_DISAGREEMENT_3D = 0.012
"""Largest mean distance in metres between two passes' 3D joints after similarity alignment."""
MIN_HANDEDNESS = 0.75
"""Smallest mean probability of the handedness that the passes agree on."""
CURL_CERTAIN = 0.010
"""Metres by which the fingertips must lie on one side of the palm before :func:`curl_sign` has a say."""
MIN_SIDE = 24.0
"""Smallest box side in pixels: below it, fingers are a few pixels wide."""

RULE = {
    "max_disagreement_2d": MAX_DISAGREEMENT_2D,
    "max_disagreement_3d_m": MAX_DISAGREEMENT_3D,
    "min_handedness": MIN_HANDEDNESS,
    "min_side_px": MIN_SIDE,
    "root_joint": ROOT_JOINT,
}
"""The constants as a file of labels records them."""


def mean_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance of corresponding points (N, D), in their unit."""
    return float(np.linalg.norm(a - b, axis=-1).mean())


def procrustes_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance of two point sets (N, 3) after the best similarity (rotation, scale, shift) of ``b`` onto ``a``."""
    p, q = a - a.mean(axis=0), b - b.mean(axis=0)
    u, s, vt = np.linalg.svd(q.T @ p)
    sign = np.ones(3)
    sign[-1] = np.sign(np.linalg.det(u @ vt)) or 1.0
    scale = (s * sign).sum() / max(float((q**2).sum()), 1e-12)
    return mean_distance(p, scale * q @ (u * sign) @ vt)


def curl_sign(world: np.ndarray) -> int:
    """Chirality of 3D joints from the side to which the fingers bend: a witness that asks no classifier.

    With x right, y down, z forward, ``(index knuckle - wrist) x (little knuckle - wrist)`` points out of a right
    hand's palm, and fingers bend to the palm's side.

    Parameters
    ----------
    world : ndarray (21, 3)
        Joints in metres.

    Returns
    -------
    int
        1: a right hand; -1: a left hand; 0: the fingers are too straight to tell.
    """
    normal = np.cross(world[5] - world[0], world[17] - world[0])
    normal = normal / max(float(np.linalg.norm(normal)), 1e-12)
    bend = float(np.mean((world[list(TIPS)] - world[list(KNUCKLES)]) @ normal))
    return 0 if abs(bend) < CURL_CERTAIN else int(np.sign(bend))


def consensus(passes: list[Pass | None]) -> dict[str, Any]:
    """Judge what the full, lite and mirrored passes say about one hand.

    Parameters
    ----------
    passes : list of Pass or None
        Full, lite and mirrored full pass; None where a pass did not find the hand.

    Returns
    -------
    dict
        ``reason``: why it is rejected, or "" if it is accepted. If all passes found it also ``keypoints`` (21, 2)
        pixels, ``world`` (21, 3) metres, ``handedness``, ``score``, ``disagreement_2d`` (part of the box side) and
        ``disagreement_3d`` (metres), each disagreement the mean over the three pairs of passes.
    """
    seen = [p for p in passes if p is not None]
    if len(seen) < len(passes):
        return {"reason": "not found by every pass"}
    keypoints = np.mean([p.keypoints for p in seen], axis=0)
    side = float(np.ptp(keypoints, axis=0).max())
    pairs = list(combinations(seen, 2))
    apart_2d = float(np.mean([mean_distance(a.keypoints, b.keypoints) for a, b in pairs])) / max(side, 1e-6)
    apart_3d = float(np.mean([procrustes_distance(a.world, b.world) for a, b in pairs]))
    right = float(np.mean([p.right for p in seen]))
    score = max(right, 1.0 - right)
    curl = curl_sign(seen[0].world)
    if side < MIN_SIDE:
        reason = "too small"
    elif len({p.right > 0.5 for p in seen}) > 1 or score < MIN_HANDEDNESS:
        reason = "handedness uncertain"
    elif curl and (curl > 0) != (right > 0.5):
        reason = "handedness against the bend of the fingers"
    elif apart_2d > MAX_DISAGREEMENT_2D:
        reason = "2D disagreement"
    elif apart_3d > MAX_DISAGREEMENT_3D:
        reason = "3D disagreement"
    else:
        reason = ""
    return {
        "reason": reason,
        "handedness": "right" if right > 0.5 else "left",
        "score": round(score, 4),
        "keypoints": keypoints.round(2).tolist(),
        "world": seen[0].world.round(5).tolist(),
        "disagreement_2d": round(apart_2d, 5),
        "disagreement_3d": round(apart_3d, 5),
    }
