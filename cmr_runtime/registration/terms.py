# SPDX-License-Identifier: Apache-2.0
"""The 2D and the 1D term of one hand: residuals, weights and noise level at a placement, and the quadratic there.

Both share one shape: `linearise` at a placement *x*, solve, repeat. Each time the robust weights, the noise level
and, for the 1D term, the extremal vertices are chosen anew, until `freeze` fixes the noise level.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .extents import DIRECTIONS, extremal_points
from .problem import Quadratic, extent_quadratic, joint_quadratic, project
from .robust import noise_level, robust_weights

__all__ = ["DILATION", "JITTER_DILATION", "SIGMA_1D", "SIGMA_2D", "ExtentTerm", "JointTerm", "Term"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

SIGMA_2D = 0.010
"""Expected error of a keypoint of score 1 and of the mesh's joint, together, as a share of the hand's extent."""

SIGMA_1D = 0.010
"""Expected error of one extent of the silhouette and of the mesh, together, as a share of the hand's extent."""

DILATION = 0.005
"""Expected error that all extents share (the silhouette as a whole too wide or too narrow), as a share of the same."""

JITTER_DILATION = 1.5
"""The same for a contour that jitters, in standard deviations of the jitter: the farthest of many lies outside."""

EXTENTS_EACH = 2.0
"""How many of the 24 extents hold as much as one independent measurement: neighbours often share a fingertip."""

RAYLEIGH_MEDIAN = 1.1774
NORMAL_MEDIAN = 0.6745

UNKNOWNS = 3.0
INLIER_WEIGHT = 0.25


class Term(Protocol):
    """A sum of weighted squares that can be made quadratic around a placement."""

    def linearise(self, x: FloatArray) -> Quadratic:
        """Return the term's quadratic around x (4,), in units of its standard deviation."""
        ...


class JointTerm:
    """2D term: projected joints against keypoints.

    Parameters
    ----------
    points : (3, n) array
        Root-relative joints in metres.
    seen : (2, n) array
        Keypoints in pixels from the principal point.
    scores : (n,) array
        Scores, 0..1; the variance of a keypoint is taken as inverse to its score.
    focal : (2, 1) array
        Focal lengths in pixels.
    expected : float
        Expected standard deviation at score 1, in pixels.
    """

    def __init__(
        self, points: FloatArray, seen: FloatArray, scores: FloatArray, focal: FloatArray, expected: float
    ) -> None:
        self._points, self._seen, self._scores, self._focal = points, seen, scores, focal
        self._pixels, self._residuals, self._depth = seen, seen, scores
        self._squares = self._weights = scores
        self._level = self._expected = expected
        self._frozen = False

    def measure(self, x: FloatArray) -> None:
        """Find residuals and robust weights at x (4,)."""
        self._pixels, self._depth = project(self._points, x, self._focal)
        self._residuals = self._pixels - self._seen
        self._squares = np.einsum("cn,cn->n", self._residuals, self._residuals) * self._scores
        self._weights = robust_weights(np.sqrt(self._squares), self._level, RAYLEIGH_MEDIAN, adapt=not self._frozen)

    def linearise(self, x: FloatArray) -> Quadratic:
        """See `Term.linearise`."""
        self.measure(x)
        weights = self._weights * self._scores / self.sigma**2
        return joint_quadratic(self._points, self._pixels, self._depth, self._residuals, weights, self._focal)

    def freeze(self) -> None:
        """Keep the noise level from now on."""
        self._level, self._frozen = self.sigma, True

    @property
    def sigma(self) -> float:
        """Standard deviation per axis of a keypoint of score 1, in pixels."""
        if self._frozen:
            return self._level
        squares = float(self._weights @ self._squares)
        return noise_level(squares, 2.0 * float(self._weights.sum()) - UNKNOWNS, self._expected)

    @property
    def rms(self) -> float:
        """Root mean square length of the residuals, weighted by score and robust weight, in pixels."""
        return math.sqrt(float(self._weights @ self._squares) / float(self._weights @ self._scores))

    @property
    def inliers(self) -> BoolArray:
        """Joints (n,) within `robust.INLIER_LIMIT` standard deviations."""
        inside: BoolArray = self._weights >= INLIER_WEIGHT
        return inside


class ExtentTerm:
    """1D term: extents of the projected mesh against those of the silhouette.

    Parameters
    ----------
    vertices : (3, V) array
        Root-relative vertices in metres.
    values : (24,) array
        Extents of the silhouette, from the principal point, in pixels.
    usable : (24,) array of bool
        Extents to use.
    focal : (2, 1) array
        Focal lengths in pixels.
    expected : float
        Expected standard deviation of an extent, in pixels.
    dilation : float
        Standard deviation of the error that all extents share, in pixels.
    """

    def __init__(
        self,
        vertices: FloatArray,
        values: FloatArray,
        usable: BoolArray,
        focal: FloatArray,
        expected: float,
        dilation: float,
    ) -> None:
        self._vertices, self._values, self._focal = vertices, values, focal
        self._usable = None if usable.all() else usable
        self._points, self._pixels, self._depth = vertices, vertices, values
        self._residuals = self._weights = values
        self._level = self._expected = expected
        self._dilation = dilation
        self._frozen = False

    def measure(self, x: FloatArray) -> None:
        """Find the extremal vertices, residuals and robust weights at x (4,)."""
        pixels, depth = project(self._vertices, x, self._focal)
        chosen = extremal_points(pixels)
        self._points, self._pixels, self._depth = self._vertices[:, chosen], pixels[:, chosen], depth[chosen]
        self._residuals = np.einsum("kc,ck->k", DIRECTIONS, self._pixels) - self._values
        sizes = np.abs(self._residuals)
        if self._usable is None:
            self._weights = robust_weights(sizes, self._level, NORMAL_MEDIAN, adapt=not self._frozen)
            return
        self._weights = np.zeros(sizes.size)
        self._weights[self._usable] = robust_weights(
            sizes[self._usable], self._level, NORMAL_MEDIAN, adapt=not self._frozen
        )

    def linearise(self, x: FloatArray) -> Quadratic:
        """See `Term.linearise`."""
        self.measure(x)
        weights = self._weights / (EXTENTS_EACH * self.sigma**2)
        return extent_quadratic(
            self._points, self._pixels, self._depth, self._residuals, weights, self._focal, self._dilation
        )

    def freeze(self) -> None:
        """Keep the noise level from now on."""
        self._level, self._frozen = self.sigma, True

    @property
    def sigma(self) -> float:
        """Standard deviation of an extent, in pixels."""
        if self._frozen:
            return self._level
        squares = float(self._weights @ np.square(self._residuals))
        return noise_level(squares, float(self._weights.sum()) - UNKNOWNS, self._expected)

    @property
    def rms(self) -> float:
        """Root mean square of the residuals, robustly weighted, in pixels."""
        return math.sqrt(float(self._weights @ np.square(self._residuals)) / float(self._weights.sum()))
