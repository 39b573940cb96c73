# SPDX-License-Identifier: Apache-2.0
"""Errors of joints against a reference, as the literature on hand meshes measures them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .errors import InputError

__all__ = ["align_similarity", "mean_distance", "mpjpe", "pa_mpjpe"]

_Array = npt.NDArray[np.float64]


def mean_distance(predicted: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Mean Euclidean distance of corresponding points, (N, D) each, in their unit.

    Pixels for keypoints; metres for joints in the camera frame, where it is the camera-space error.
    """
    a, b = _pair(predicted, reference)
    return float(np.linalg.norm(a - b, axis=1).mean())


def mpjpe(predicted: npt.ArrayLike, reference: npt.ArrayLike, root: int = 9) -> float:
    """Mean per-joint position error after both are moved to put joint `root` at the origin.

    Parameters
    ----------
    predicted, reference : (N, 3) arrays
        Joints, same unit.
    root : int
        The joint to align at; 9 is the middle finger's knuckle.

    Returns
    -------
    float
        In the unit of the joints; the root, whose error is 0, counts as one of the N.
    """
    a, b = _pair(predicted, reference)
    return mean_distance(a - a[root], b - b[root])


def pa_mpjpe(predicted: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Mean per-joint position error after the similarity (Procrustes) that fits the prediction best, (N, 3) each."""
    a, b = _pair(predicted, reference)
    return mean_distance(align_similarity(a, b), b)


def align_similarity(points: npt.ArrayLike, target: npt.ArrayLike) -> _Array:
    """Move, turn and scale points to lie as near as possible to their targets, in the least-squares sense.

    Closed form of Umeyama (IEEE PAMI 13(4), 1991); a reflection is never used.

    Parameters
    ----------
    points, target : (N, D) arrays
        Corresponding points.

    Returns
    -------
    (N, D) float64
        The points after the similarity.
    """
    a, b = _pair(points, target)
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    a0, b0 = a - mean_a, b - mean_b
    u, stretch, vt = np.linalg.svd(a0.T @ b0)
    signs = np.ones(a.shape[1])
    signs[-1] = np.sign(np.linalg.det(u @ vt)) or 1.0
    rotation = (u * signs) @ vt
    spread = float((a0**2).sum())
    scale = float((stretch * signs).sum()) / spread if spread > 0 else 1.0
    moved: _Array = scale * a0 @ rotation + mean_b
    return moved


def _pair(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[_Array, _Array]:
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.ndim != 2 or x.shape != y.shape or len(x) == 0:
        raise InputError(f"points have shapes {x.shape} and {y.shape}; give two of the same shape (N, D), N above 0")
    return x, y
