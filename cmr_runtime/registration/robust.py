# SPDX-License-Identifier: Apache-2.0
"""Robust weights and the noise level, both from the residuals of a fit.

Weights are those of Geman and McClure, ``w = (1 + (r / (c m))²)⁻²``, where *m* is a standard deviation from the median
of the residuals, so that up to half of them may be anything. The noise level mixes an expected level with what the
residuals show, as the mean of an inverse gamma posterior does: few or lucky residuals do not make a fit look exact.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["INLIER_LIMIT", "PSEUDO_OBSERVATIONS", "noise_level", "robust_weights"]

FloatArray = npt.NDArray[np.float64]

INLIER_LIMIT = 3.0
"""A residual of this many standard deviations has weight 1/4 and is the last to count as an inlier."""

PSEUDO_OBSERVATIONS = 3.0
"""How many residuals the expected noise level is worth."""


def robust_weights(residuals: FloatArray, floor: float, median_of_unit: float, *, adapt: bool = True) -> FloatArray:
    """Weights in 0..1 of residuals (n,), not negative.

    Parameters
    ----------
    residuals : (n,) array
        Absolute residuals, in pixels of a common standard deviation.
    floor : float
        Smallest standard deviation to believe, in pixels.
    median_of_unit : float
        Median of such residuals at a standard deviation of one: 0.6745 for one coordinate, 1.1774 for the length of
        two.
    adapt : bool
        Whether the standard deviation follows the residuals' median upwards; otherwise it is `floor`.
    """
    level = floor
    if adapt:
        level = max(floor, float(np.sort(residuals)[residuals.size // 2]) / median_of_unit)
    limit = INLIER_LIMIT * level
    weights: FloatArray = 1.0 / (1.0 + np.square(residuals / limit))
    return weights * weights


def noise_level(weighted_squares: float, degrees: float, expected: float) -> float:
    """Return the standard deviation from a weighted sum of squares, its degrees of freedom and what is expected."""
    count = max(degrees, 0.0)
    return math.sqrt((PSEUDO_OBSERVATIONS * expected * expected + weighted_squares) / (PSEUDO_OBSERVATIONS + count))
