# SPDX-License-Identifier: Apache-2.0
"""Hand-like scenes with exact ground truth: five fingers of three segments on a palm, as points on spheres."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cmr_runtime.camera import Camera

CAMERA = Camera(fx=500, fy=505, cx=322, cy=238, width=640, height=480)

KNUCKLES = np.array([[0.03, 0.02, -0.01], [0.025, 0.09, 0], [0.004, 0.095, 0], [-0.016, 0.088, 0], [-0.034, 0.078, 0]])
LENGTHS = np.array(
    [[0.045, 0.033, 0.025], [0.042, 0.025, 0.02], [0.046, 0.029, 0.021], [0.043, 0.027, 0.02], [0.034, 0.02, 0.018]]
)
HEADINGS = np.array([[0.75, 0.65, -0.1], [0.15, 1, 0], [0, 1, 0], [-0.12, 1, 0], [-0.25, 1, 0]])


@dataclass(frozen=True)
class Scene:
    vertices: np.ndarray
    joints: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray
    silhouette: np.ndarray | None
    translation: np.ndarray
    camera: Camera = CAMERA

    def arguments(self) -> tuple[Any, ...]:
        return self.vertices, self.joints, self.keypoints, self.scores, self.silhouette, self.camera

    def without_silhouette(self) -> Scene:
        return replace(self, silhouette=None)

    @property
    def hand_px(self) -> float:
        return float(np.ptp(self.keypoints, axis=0).max())


def project(points: np.ndarray, camera: Camera = CAMERA) -> np.ndarray:
    return points[:, :2] / points[:, 2:] * [camera.fx, camera.fy] + [camera.cx, camera.cy]


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else -q


def hand(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Root-relative vertices (about 900, 3) and joints (21, 3), in metres, in a random pose and view."""
    joints = np.zeros((21, 3))
    balls = []
    curl = rng.uniform(0, 1.2)
    for finger in range(5):
        heading = HEADINGS[finger] / np.linalg.norm(HEADINGS[finger])
        point = KNUCKLES[finger]
        joints[1 + 4 * finger] = point
        balls += [(point * k / 4, 0.014) for k in range(1, 5)]
        for bone in range(3):
            angle = (curl + rng.normal(0, 0.2)) * (1 if finger else 0.5)
            c, s = np.cos(angle), np.sin(angle)
            heading = np.array([[1, 0, 0], [0, c, s], [0, -s, c]]) @ heading
            balls += [(point + heading * LENGTHS[finger, bone] * k / 3, 0.0085) for k in range(3)]
            point = point + heading * LENGTHS[finger, bone]
            joints[2 + 4 * finger + bone] = point
        balls.append((point, 0.007))
    directions = rng.normal(size=(13, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    vertices = np.concatenate([centre + radius * directions for centre, radius in balls])
    rotation = random_rotation(rng)
    return (vertices - joints[9]) @ rotation.T, (joints - joints[9]) @ rotation.T


def scene(
    seed: int,
    noise: float = 0.0,
    outliers: int = 0,
    distance: float | None = None,
    silhouette_noise: float = 0.0,
    size: float = 1.0,
) -> Scene:
    """Return a scene; `noise` and outliers (40 px) are in pixels of a 224-pixel crop, `size` scales the true hand."""
    rng = np.random.default_rng(seed)
    vertices, joints = hand(rng)
    depth = rng.uniform(0.25, 1.5) if distance is None else distance
    translation = np.array([rng.uniform(-0.4, 0.4), rng.uniform(-0.3, 0.3), 1.0]) * depth
    keypoints = project(size * joints + translation)
    pixel = np.ptp(keypoints, axis=0).max() * 1.4 / 224
    keypoints = keypoints + noise * pixel * rng.normal(size=keypoints.shape)
    moved = rng.choice(21, outliers, replace=False)
    angles = rng.uniform(0, 2 * np.pi, outliers)
    keypoints[moved] += 40 * pixel * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    contour = outline(project(size * vertices + translation))
    contour += silhouette_noise * pixel * rng.normal(size=2)
    return Scene(vertices, joints, keypoints, np.ones(21), contour, translation)


def outline(points: np.ndarray, count: int = 300) -> np.ndarray:
    """Convex outline of points, `count` points at equal steps plus the corners."""
    from scipy.spatial import ConvexHull

    corners = points[ConvexHull(points).vertices]
    following = np.roll(corners, -1, axis=0)
    steps = np.linalg.norm(following - corners, axis=1)
    pieces = [
        corner + np.linspace(0, 1, max(int(count * step / steps.sum()), 1), endpoint=False)[:, None] * (after - corner)
        for corner, after, step in zip(corners, following, steps, strict=True)
    ]
    return np.concatenate(pieces)


def wild(rng: np.random.Generator, s: Scene) -> tuple[tuple[Any, ...], np.ndarray | None]:
    """Return arguments and marks of cut points, of which any may be nonsense."""

    def spoil(array):
        array = array.copy()
        kind = rng.integers(12)
        if kind == 0:
            array[rng.integers(len(array))] = rng.choice([np.nan, np.inf, -np.inf])
        elif kind == 1:
            array *= rng.choice([0.0, 1e-12, 1e-3, -1.0, 10.0, 1e3, 1e12, 1e300])
        elif kind == 2:
            array = array[: rng.integers(len(array))]
        elif kind == 3:
            array[:] = array[0]
        elif kind == 4:
            array += rng.normal(size=array.shape) * rng.choice([1e-3, 1.0, 1e3])
        return array

    contour = spoil(s.silhouette)
    focal, centre = rng.choice([1e-3, 1.0, 500.0, 500.0, 500.0, 1e7]), rng.choice([0.0, 320.0, 320.0, -1e7])
    return (
        spoil(s.vertices),
        spoil(s.joints),
        spoil(s.keypoints),
        spoil(s.scores),
        None if rng.integers(4) == 0 else contour,
        Camera(focal, focal, centre, 240, 640, 480),
    ), (rng.uniform(size=len(contour)) < rng.choice([0.0, 0.3, 1.0]) if rng.integers(2) else None)
