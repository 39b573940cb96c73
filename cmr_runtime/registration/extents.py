# SPDX-License-Identifier: Apache-2.0
"""Extents: how far a set of image points reaches along 12 axes 15° apart, at both ends.

The extent of a set *S* in the unit direction *a* is its support function ``h(a) = max over p in S of a · p``. Twelve
axes with two ends each give 24 directions, 15° apart, over the full circle; direction ``k + 12`` is the other end of
axis ``k``. The axes are those of the 1D term of Chen et al., CVPR 2021 (arXiv 2103.02845, section 3.3). Turning the
points by 15° shifts the extents by one place.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .robust import RAYLEIGH_MEDIAN

__all__ = [
    "AXES",
    "CUT_TOLERANCE_PX",
    "DIRECTIONS",
    "Extents",
    "contour_extents",
    "extents",
    "extremal_points",
    "roughness",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
BoolArray = npt.NDArray[np.bool_]

_ANGLES = np.deg2rad(15.0 * np.arange(24))

DIRECTIONS: FloatArray = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
"""Unit directions (24, 2); row ``k`` points to ``15° k`` from the image's x axis towards its y axis."""

AXES: FloatArray = np.ascontiguousarray(DIRECTIONS[:12])
"""The first end of each axis (12, 2)."""

CUT_TOLERANCE_PX = 1.0
"""An extent is cut when a cut contour point reaches within this many pixels of it (the width of the contour itself)."""

SAMPLES = 100
"""About as many points of a contour tell its roughness."""


class Extents(NamedTuple):
    """Extents of a contour."""

    values: FloatArray
    """Extents (24,) in pixels."""
    usable: BoolArray
    """False (24,) where a border, not the hand, ends the contour."""


def extents(points: FloatArray) -> FloatArray:
    """Return the extents (24,) of points (N, 2), in their unit."""
    reach = AXES @ points.T
    return np.concatenate([np.maximum.reduce(reach, axis=1), -np.minimum.reduce(reach, axis=1)])


def extremal_points(points: FloatArray) -> IntArray:
    """Return which of the points, given as columns (2, N), lies farthest in each direction (24,)."""
    reach = AXES @ points
    return np.concatenate([reach.argmax(axis=1), reach.argmin(axis=1)])


def contour_extents(contour: FloatArray, cut: BoolArray | None = None, centre: FloatArray | None = None) -> Extents:
    """Extents of a contour, and which of them the hand itself ends.

    Parameters
    ----------
    contour : (N, 2) array
        Points in pixels.
    cut : (N,) array of bool, optional
        Points that lie on a border (of the crop, of the image, of an occluder): the hand goes on beyond them.
    centre : (2,) array, optional
        Where the extents are measured from; the origin by default.
    """
    values = extents(contour)
    usable = np.ones(24, dtype=np.bool_)
    if cut is not None and cut.any():
        usable = extents(contour[cut]) < values - CUT_TOLERANCE_PX
    return Extents(values if centre is None else values - DIRECTIONS @ centre, usable)


def roughness(contour: FloatArray) -> float:
    """Jitter of a contour from point to point: the standard deviation per axis, in pixels, of independent errors.

    It is taken from the median distance of points from the middle of their neighbours, so corners do not count. An
    extent is a maximum, which jitter only ever pushes outwards.
    """
    step = max(1, len(contour) // SAMPLES)
    bend = contour[1:-1:step] - 0.5 * (contour[2::step] + contour[:-2:step])
    bend *= bend
    squares = np.sort(bend[:, 0] + bend[:, 1])
    median = float(squares[squares.size // 2])
    # Three independent errors with weights 1, -1/2, -1/2.
    return math.sqrt(median / 1.5) / RAYLEIGH_MEDIAN
