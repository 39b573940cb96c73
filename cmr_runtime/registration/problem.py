# SPDX-License-Identifier: Apache-2.0
"""The two terms as quadratics in x = (t_x, t_y, t_z, s).

A point *p* of the root-relative hand lies at ``(X, Y, Z) = s p + t`` in the camera. With *b* the point where it was
seen, in pixels from the principal point, its residual times its depth is linear in *x*::

    Z r = f X − b Z = f t_x − b t_z + (f p_x − b p_z) s

Solved once with *s* given, this needs no start: `starting_point`. Repeated with the last depth in the place of *Z* it
would not settle at the least squares of *r*: all of *x* may shrink, the residuals with it, and only the prior of *s*
holds against it (a pull of many percent at the usual noise). Linearised at the last x₀ instead, with the *projected*
point b₀ in the place of the seen one, the row

    r ≈ (b₀ − b) + (f X − b₀ Z) / Z₀

is unchanged by a common factor on *x*, as reprojection is, and the rounds settle at least squares in pixels
(Gauss-Newton). So it depends on the three numbers ``u = t − t₀ s / s₀`` alone, with the coefficients
``(f, 0, −b₀) / Z₀``. The 1D term has the same row, projected on the direction *a* of each extent: ``a · b₀`` of the
mesh's extremal vertex against the silhouette's extent.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .extents import DIRECTIONS
from .linalg import solve

__all__ = ["Placed", "Quadratic", "extent_rows", "joint_rows", "offset", "place", "starting_point"]

FloatArray = npt.NDArray[np.float64]

LIFT = 1e-12
"""Relative rise of the start's information on depth, against rounding."""

_ALONG = np.ascontiguousarray(DIRECTIONS.T)


class Quadratic(NamedTuple):
    """½ uᵀ P u + gᵀ u around a placement, in units of the standard deviation."""

    P: FloatArray
    """(3, 3), symmetric, 1/m²."""
    g: FloatArray
    """(3,) 1/m."""


class Placed(NamedTuple):
    """Points in front of the camera."""

    pixels: FloatArray
    """(2, n) from the principal point."""
    inverse: FloatArray
    """(n,) one over the depth."""
    per_metre: FloatArray
    """(2, n) pixels per metre at that depth."""


def offset(x: FloatArray, start: FloatArray) -> FloatArray:
    """How far (3,) placement x lies from another but for a common factor on all of it, which no camera sees."""
    u: FloatArray = x[:3] - start[:3] * (x[3] / start[3])
    return u


def starting_point(
    points: FloatArray, seen: FloatArray, weights: FloatArray, focal: FloatArray, scale: float
) -> FloatArray:
    """Fit the depth-multiplied rows at a given scale; exact when the points are.

    Parameters
    ----------
    points : (3, n) array
        Root-relative points in metres.
    seen : (2, n) array
        Their pixels, from the principal point.
    weights : (n,) array
        Not negative.
    focal : (2, 1) array
        Focal lengths in pixels.
    scale : float
        The scale.

    Returns
    -------
    x : (4,) array
        Translation and scale.
    """
    rows = np.zeros((2, weights.size, 4))
    rows[0, :, 0], rows[1, :, 1] = focal
    rows[:, :, 2] = -seen
    rows[:, :, 3] = focal * points[:2] - seen * points[2]
    P = (rows * weights[:, None]).reshape(-1, 4).T @ rows.reshape(-1, 4)
    P[2, 2] *= 1.0 + LIFT
    x = np.empty(4)
    x[:3] = -scale * solve(P[:3, :3], P[:3, 3])
    x[3] = scale
    return x


def place(points: FloatArray, x: FloatArray, focal: FloatArray) -> Placed:
    """Points (3, n) placed by x and projected."""
    placed = x[3] * points
    placed += x[:3, None]
    inverse = 1.0 / placed[2]
    per_metre = focal * inverse
    return Placed(per_metre * placed[:2], inverse, per_metre)


def joint_rows(placed: Placed) -> FloatArray:
    """Coefficients (2, n, 3) of the linearised pixels."""
    rows = np.zeros((2, placed.inverse.size, 3))
    rows[0, :, 0], rows[1, :, 1] = placed.per_metre
    rows[:, :, 2] = placed.pixels * -placed.inverse
    return rows


def extent_rows(placed: Placed) -> tuple[FloatArray, FloatArray]:
    """Coefficients (24, 3) of the linearised extents, for the 24 extremal vertices, and the extents (24,)."""
    values: FloatArray = np.add.reduce(_ALONG * placed.pixels)
    rows = np.empty((values.size, 3))
    rows[:, :2] = (_ALONG * placed.per_metre).T
    rows[:, 2] = values * -placed.inverse
    return rows, values
