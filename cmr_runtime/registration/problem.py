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
(Gauss-Newton). The 1D term has the same row, projected on the direction *a* of each extent: ``a · b₀`` of the mesh's
extremal vertex against the silhouette's extent. Rows are divided by their standard deviation, so that the scale prior
``((s − mean) / spread)²`` counts as what it is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .extents import DIRECTIONS
from .linalg import solve

__all__ = ["Quadratic", "extent_quadratic", "joint_quadratic", "project", "starting_point"]

FloatArray = npt.NDArray[np.float64]

_COSINES, _SINES = DIRECTIONS[:, :1].copy(), DIRECTIONS[:, 1:].copy()


class Quadratic(NamedTuple):
    """½ xᵀ P x + qᵀ x."""

    P: FloatArray
    """(4, 4), symmetric."""
    q: FloatArray
    """(4,)"""


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
    bearing = seen / focal
    weight = weights * np.square(focal)
    rows = points[:2] - bearing * points[2]
    weighted = weight * bearing
    P = np.zeros((3, 3))
    total = weight.sum(axis=1)
    P[0, 0], P[1, 1] = total
    P[:2, 2] = P[2, :2] = -weighted.sum(axis=1)
    P[2, 2] = np.vdot(weighted, bearing)
    q = np.array([np.vdot(weight[0], rows[0]), np.vdot(weight[1], rows[1]), -np.vdot(weighted, rows)])
    P[2, 2] += 1e-12 * float(total.sum())
    return np.append(-scale * solve(P, q), scale)


def project(points: FloatArray, x: FloatArray, focal: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Pixels from the principal point (2, n) and depths (n,) of points (3, n) placed by x."""
    placed = x[3] * points + x[:3, None]
    depth = placed[2]
    return focal * placed[:2] / depth, depth


def _rows(points: FloatArray, pixels: FloatArray, depth: FloatArray, focal: FloatArray) -> FloatArray:
    """Rows (2, n, 4) of the linearised projection, for both coordinates of each point."""
    per_metre = focal / depth
    along = pixels / depth
    rows = np.zeros((2, depth.size, 4))
    rows[0, :, 0] = per_metre[0]
    rows[1, :, 1] = per_metre[1]
    rows[:, :, 2] = -along
    rows[:, :, 3] = per_metre * points[:2] - along * points[2]
    return rows


def joint_quadratic(
    points: FloatArray,
    pixels: FloatArray,
    depth: FloatArray,
    residuals: FloatArray,
    weights: FloatArray,
    focal: FloatArray,
) -> Quadratic:
    """2D term around the placement that gave `pixels` and `depth` (see `project`).

    `residuals` (2, n) are projected minus seen, in pixels; `weights` (n,) are in 1/px².
    """
    rows = _rows(points, pixels, depth, focal)
    weighted = (rows * weights[:, None]).reshape(-1, 4)
    return Quadratic(weighted.T @ rows.reshape(-1, 4), residuals.ravel() @ weighted)


def extent_quadratic(
    points: FloatArray,
    pixels: FloatArray,
    depth: FloatArray,
    residuals: FloatArray,
    weights: FloatArray,
    focal: FloatArray,
    dilation: float,
) -> Quadratic:
    """1D term around a placement, for the 24 extremal vertices given as `points` (3, 24).

    `residuals` (24,) are projected minus seen extents, in pixels; `weights` (24,) are in 1/px², zero for unusable ones.
    The silhouette may as a whole be too wide or too narrow, by a standard deviation of `dilation` pixels; this common
    error is integrated out (a rank-one update of the weights).
    """
    both = _rows(points, pixels, depth, focal)
    rows = _COSINES * both[0] + _SINES * both[1]
    weighted = rows * weights[:, None]
    common = weights @ rows
    share = common / (dilation**-2 + float(weights.sum()))
    P = weighted.T @ rows - share[:, None] * common
    return Quadratic(P, residuals @ weighted - float(weights @ residuals) * share)
