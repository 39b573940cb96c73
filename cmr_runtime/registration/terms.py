# SPDX-License-Identifier: Apache-2.0
"""The 2D and the 1D term of one hand: residuals, weights and noise level at a placement, and the quadratic there.

Both share one shape: `linearise` at a placement *x*, solve, repeat. Each time the robust weights, the noise level and,
for the 1D term, the extremal vertices are chosen anew. `reweight` chooses the weights alone anew, by the residuals that
the rows of the last `linearise` predict: after a small step that is as good, and cheaper.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .extents import Extents, extremal_points
from .linalg import solve
from .problem import Placed, Quadratic, extent_rows, joint_rows, offset, place
from .robust import RAYLEIGH_MEDIAN, median, noise_level, robust_weights

__all__ = ["ExtentTerm", "JointTerm", "Term"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

LEAST_LEVEL = 0.004
"""Residuals are not called outliers for being larger than others by less than this, as a share of the hand's extent."""

EXPECTED_LEVEL, TRUST = 0.002, 1.0
"""Expected error of a keypoint or an extent, as a share of the hand's extent, and how many residuals that is worth."""

LEVERS = np.array([0.0, 1.0, 4.0, 16.0, 64.0])[:, None]
"""Candidates for how much a joint's mesh error adds to the variance of its residual, over the keypoint's own noise, at
the joints' mean square distance from the root. Errors of angles and of size act over a lever, so their variance grows
with the square of the distance from the root, where joints and mesh are aligned."""

EXTENT_LIMIT = 1.5
"""As `robust.INLIER_LIMIT`, for extents: more of them are wrong at a time, and all to one side."""

EXTENTS_EACH = 8.0
"""How many of the 24 extents hold as much as one independent measurement: neighbours often share a fingertip."""

DILATION = 0.0015
"""Expected error that all extents share (the silhouette as a whole too wide or too narrow), as a share of the hand's
extent; map cells and blur alone do as much."""

LEVEL_DILATION = 0.4
"""The same in standard deviations of an extent: errors that vary slowly along the contour do not cancel."""

JITTER_DILATION = 1.5
"""The same for a contour that jitters, in standard deviations of the jitter: the farthest of many lies outside."""

NORMAL_MEDIAN = 0.6745

UNKNOWNS = 3.0

LEAST_SQUARE = 1e-12
"""Sum of the joints' squared distances from the root, in m², that they are taken to have at least."""

LITTLE = 1e-6 * np.eye(3)
"""Keeps a shift that the extents leave open small."""


class Term(Protocol):
    """A sum of weighted squares that can be made quadratic around a placement."""

    def linearise(self, x: FloatArray) -> Quadratic:
        """Return the term's quadratic around x (4,), in units of its standard deviation."""
        ...

    def reweight(self, x: FloatArray) -> Quadratic:
        """Return the same from the rows of the last `linearise`, for x (4,) near by."""
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
    hand_px : float
        Extent of the hand in pixels.
    """

    def __init__(
        self, points: FloatArray, seen: FloatArray, scores: FloatArray, focal: FloatArray, hand_px: float
    ) -> None:
        self._points, self._seen, self._scores, self._focal = points, seen, scores, focal
        self._least, self._expected = LEAST_LEVEL * hand_px, EXPECTED_LEVEL * hand_px
        self.sigma = math.nan
        """Standard deviation per axis of a keypoint of score 1, mesh errors included, in pixels."""
        self._weights = self._squares = scores
        self._precisions: FloatArray | None = None
        self._rows = self._residuals = self._at = points

    def linearise(self, x: FloatArray) -> Quadratic:
        """See `Term.linearise`."""
        placed = place(self._points, x, self._focal)
        self._at, self._rows, self._residuals = x, joint_rows(placed), placed.pixels - self._seen
        return self._weigh(self._residuals)

    def reweight(self, x: FloatArray) -> Quadratic:
        """See `Term.reweight`."""
        return self._weigh(self._residuals + self._rows @ offset(x, self._at))

    def _weigh(self, residuals: FloatArray) -> Quadratic:
        lengths = np.square(residuals)
        squares = (lengths[0] + lengths[1]) * self._scores
        level = max(self._least, math.sqrt(median(squares)) / RAYLEIGH_MEDIAN)
        weights = robust_weights(squares, level)
        self._weights, self._squares = weights, squares
        if self._precisions is None:
            self._precisions = self._levers(weights, squares)
        weights = weights * self._precisions
        degrees = 2.0 * float(np.add.reduce(weights)) - UNKNOWNS
        self.sigma = noise_level(float(weights @ squares), degrees, self._expected, TRUST)
        rows = self._rows
        weighted = (rows * (weights * self._scores * self.sigma**-2)[:, None]).reshape(-1, 3)
        return Quadratic(weighted.T @ rows.reshape(-1, 3), residuals.ravel() @ weighted)

    def _levers(self, weights: FloatArray, squares: FloatArray) -> FloatArray:
        """Precisions (n,) of the joints, of weighted mean one: the mean over `LEVERS` by how well each explains them.

        The evidence is that of normal errors of a common level, which is integrated out.
        """
        distances = np.add.reduce(np.square(self._points))
        total = float(np.add.reduce(weights))
        variances = 1.0 + LEVERS * (distances * (distances.size / max(float(np.add.reduce(distances)), LEAST_SQUARE)))
        precisions = 1.0 / variances
        misfits = precisions @ (weights * squares) + 2.0 * TRUST * self._expected**2
        evidence = (0.5 * UNKNOWNS - total) * np.log(misfits) - np.log(variances) @ weights
        shares = np.exp(evidence - np.maximum.reduce(evidence))
        mixed: FloatArray = shares @ precisions
        mixed *= total / float(weights @ mixed)
        return mixed

    @property
    def rms(self) -> float:
        """Root mean square length of the residuals, weighted by score and robust weight, in pixels."""
        return math.sqrt(float(self._weights @ self._squares) / float(self._weights @ self._scores))

    @property
    def inliers(self) -> BoolArray:
        """Joints (n,) within `robust.INLIER_LIMIT` standard deviations."""
        inside: BoolArray = self._weights >= 0.5
        return inside


class ExtentTerm:
    """1D term: extents of the projected mesh against those of the silhouette.

    Parameters
    ----------
    vertices : (3, V) array
        Root-relative vertices in metres.
    extents : Extents
        Extents of the silhouette, from the principal point, in pixels.
    focal : (2, 1) array
        Focal lengths in pixels.
    hand_px : float
        Extent of the hand in pixels.
    jitter : float
        Jitter of the contour, in pixels.
    """

    def __init__(
        self, vertices: FloatArray, extents: Extents, focal: FloatArray, hand_px: float, jitter: float
    ) -> None:
        self._vertices, self._seen, self._focal = vertices, extents.values, focal
        self._usable = None if extents.usable.all() else extents.usable
        self._least, self._expected = LEAST_LEVEL * hand_px, EXPECTED_LEVEL * hand_px
        self._dilation = math.hypot(DILATION * hand_px, JITTER_DILATION * jitter)
        self.sigma = math.nan
        """Standard deviation of an extent that no shift explains, mesh errors included, in pixels."""
        self._rows = self._residuals = self._at = vertices
        self._weights = self._squares = extents.values

    def linearise(self, x: FloatArray) -> Quadratic:
        """See `Term.linearise`."""
        placed = place(self._vertices, x, self._focal)
        chosen = extremal_points(placed.pixels)
        self._rows, values = extent_rows(Placed(*(array.take(chosen, axis=-1) for array in placed)))
        self._at, self._residuals = x, values - self._seen
        return self._weigh(self._residuals)

    def reweight(self, x: FloatArray) -> Quadratic:
        """See `Term.reweight`."""
        return self._weigh(self._residuals + self._rows @ offset(x, self._at))

    def _weigh(self, residuals: FloatArray) -> Quadratic:
        rows = self._rows
        squares = np.square(residuals)
        middle = median(squares if self._usable is None else squares[self._usable])
        weights = robust_weights(squares, max(self._least, math.sqrt(middle) / NORMAL_MEDIAN), EXTENT_LIMIT)
        if self._usable is not None:
            weights *= self._usable
        self._weights, self._squares = weights, squares
        weight = float(np.add.reduce(weights))

        # The noise is what the extents do not explain by a shift of their own.
        weighted = rows * weights[:, None]
        P, g = weighted.T @ rows, residuals @ weighted
        unexplained = float(weights @ squares) - float(g @ solve(P + LITTLE, g))
        self.sigma = noise_level(max(unexplained, 0.0), weight - UNKNOWNS, self._expected, TRUST)
        variance = self.sigma**2

        # All extents share an error, integrated out by a rank-one update.
        each = EXTENTS_EACH * variance
        dilation = self._dilation**2 + LEVEL_DILATION**2 * variance
        common = weights @ rows
        share = common / (each / dilation + weight)
        return Quadratic((P - share[:, None] * common) / each, (g - float(weights @ residuals) * share) / each)

    @property
    def rms(self) -> float:
        """Root mean square of the residuals, robustly weighted, in pixels."""
        return math.sqrt(float(self._weights @ self._squares) / float(np.add.reduce(self._weights)))
