# SPDX-License-Identifier: Apache-2.0
"""Whether the registration's own uncertainty is right, what a wrong size costs, and what a known length is worth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cmr_runtime.registration import Registrar
from cmr_runtime.registration.scale import hand_length as length_of

from .registration_scenes import MESHES, SILHOUETTES, Condition, Scene, make_frames, make_scenes
from .registration_solvers import register_frame

__all__ = ["hand_length", "size_alone", "trust"]

QUANTILE_90 = 1.6449

LARGER = 1.1

RULER = 0.003
"""Standard deviation of a measured hand length, metres."""


def trust(count: int, bands: Iterable[tuple[float, float]], seed: int) -> list[dict[str, Any]]:
    """Share of frames whose depth lies in its 90 % interval, by distance.

    Three kinds of frames, each over all silhouettes and joint noise of 1, 2 and 4 px: an exact mesh of known size, a
    mesh that is wrong by 5 mm with its size known, and the same with a size drawn from the prior over people.
    """
    rows = []
    for band in bands:
        scenes = make_scenes(count, band, seed + 1)
        covered = {}
        for name, mesh, size, prior in (
            ("exact mesh", "exact", 1.0, (1.0, 0.0)),
            ("5 mm mesh", "5 mm", 1.0, (1.0, 0.0)),
            ("5 mm mesh, size by prior", "5 mm", None, (1.0, 0.08)),
        ):
            registrar = Registrar(prior)
            inside = []
            for noise in (1.0, 2.0, 4.0):
                for silhouette in SILHOUETTES:
                    for frame in make_frames(scenes, Condition(noise, 0, silhouette, mesh, band, size), seed):
                        result = register_frame(registrar, frame)
                        error = abs(result.translation[2] - frame.translation[2])
                        inside.append(error <= QUANTILE_90 * result.sigma[2])
            covered[name] = float(np.mean(inside))
        rows.append({"distance": band, "covered": covered})
    return rows


def size_alone(scenes: Sequence[Scene], seed: int) -> dict[str, float]:
    """Mean error in millimetres that the size of a wrong mesh makes by itself, by kind of mesh error.

    The size of a mesh over the true one is that of the best similarity between them. A hand of another size at another
    distance gives the same image, so no solver that sees one image can do better on the whole, whatever else it knows.
    """
    costs = {}
    for mesh in MESHES[1:]:
        frames = make_frames(scenes, Condition(mesh=mesh), seed)
        errors = [
            abs(_size(frame.vertices, scene.vertices) - 1.0) * np.linalg.norm(scene.translation)
            for frame, scene in zip(frames, scenes, strict=True)
        ]
        costs[mesh] = 1e3 * float(np.mean(errors))
    return costs


def _size(points: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> float:
    """Return the scale of the similarity that takes points (N, 3) nearest to the target (Umeyama, 1991)."""
    points, target = points - points.mean(axis=0), target - target.mean(axis=0)
    covariance = points.T @ target
    singular = np.linalg.svd(covariance, compute_uv=False)
    singular[2] *= np.sign(np.linalg.det(covariance))
    return float(singular.sum() / np.square(points).sum())


def hand_length(scenes: Sequence[Scene], seed: int) -> dict[str, float]:
    """Mean depth error in millimetres of hands 10 % larger than the mesh, with and without their length measured."""
    rng = np.random.default_rng(seed)
    frames = make_frames(scenes, Condition(2.0, 0, "clean", "exact", size=LARGER), seed)
    without, errors, given = Registrar(), [], []
    for frame in frames:
        informed = Registrar(hand_length=LARGER * length_of(frame.joints) + RULER * rng.normal())
        for results, registrar in ((errors, without), (given, informed)):
            results.append(1e3 * abs(register_frame(registrar, frame).translation[2] - frame.translation[2]))
    return {"without": float(np.mean(errors)), "with": float(np.mean(given))}
