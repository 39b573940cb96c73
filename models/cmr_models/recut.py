# SPDX-License-Identifier: Apache-2.0
"""A crop of a crop: where its pixels, joints and mesh go."""

from __future__ import annotations

import numpy as np

__all__ = ["recut", "rotate_z", "towards", "turn_of", "warp"]


def warp(size: int, angle: float, scale: float, centre: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Affine map (2, 3) that turns and scales about ``centre`` and moves it to the middle of a crop plus ``shift``."""
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]])
    return np.concatenate([linear, ((size - 1) / 2 + shift - linear @ centre)[:, None]], 1)


def rotate_z(points: np.ndarray, angle: float) -> np.ndarray:
    """Turn points (N, 3) about the optical axis as `warp` turns the image."""
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]], points.dtype)


def turn_of(matrix: np.ndarray) -> float:
    """Angle by which a similarity (2, 3) turns, radians."""
    return float(np.arctan2(matrix[1, 0], matrix[0, 0]))


def towards(offset: np.ndarray, focal: float) -> np.ndarray:
    """Smallest rotation (3, 3) that takes the optical axis to the ray ``offset`` pixels (2,) beside it."""
    x, y, z = np.append(offset / focal, 1.0) / np.hypot(1.0, np.hypot(*offset) / focal)
    k = 1 / (1 + z)
    return np.array([[1 - k * x * x, -k * x * y, x], [-k * x * y, 1 - k * y * y, y], [-x, -y, z]])


def recut(
    vertices: np.ndarray, keypoints: np.ndarray, focal: float, side: int, matrix: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Labels in a new crop, which ``matrix`` (2, 3) makes of one of ``side`` pixels and of this focal length.

    The mesh is given in the camera that looks along the ray through the middle of the new crop.
    """
    aside = np.linalg.solve(matrix[:, :2], np.full(2, (size - 1) / 2) - matrix[:, 2]) - (side - 1) / 2
    vertices = rotate_z(vertices @ towards(aside, focal).astype(np.float32), turn_of(matrix))
    return vertices, (keypoints @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
