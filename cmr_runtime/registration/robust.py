# SPDX-License-Identifier: Apache-2.0
"""Robust weights and the noise level, both from the residuals of a fit.

The weights ``w = 1 / (1 + (r / (c m))⁴)`` fall as those of Geman and McClure do, but are flat where errors are usual:
with Gaussian errors next to nothing is lost. *m* is a standard deviation from the median of the residuals, so that up
to half of them may be anything. The noise level mixes an expected level with what the residuals show, as the mean of an
inverse gamma posterior does: few or lucky residuals do not make a fit look exact.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["INLIER_LIMIT", "RAYLEIGH_MEDIAN", "median", "noise_level", "robust_weights"]

FloatArray = npt.NDArray[np.float64]

INLIER_LIMIT = 3.0
"""A residual of this many standard deviations is the last to count as an inlier; its weight is a half."""

RAYLEIGH_MEDIAN = 1.1774
"""Median length of two coordinates, in standard deviations of one."""


def robust_weights(squares: FloatArray, level: float, limit: float = INLIER_LIMIT) -> FloatArray:
    """Weights in 0..1 of squared residuals (n,): a half at `limit` times the standard deviation `level`."""
    weights: FloatArray = squares * (1.0 / (limit * level) ** 2)
    np.square(weights, out=weights)
    weights += 1.0
    np.reciprocal(weights, out=weights)
    return weights


def median(values: FloatArray) -> float:
    """Return the upper median; for a few dozen values sorting is the fastest way."""
    return float(np.sort(values)[values.size // 2])


def noise_level(weighted_squares: float, degrees: float, expected: float, trust: float) -> float:
    """Return the standard deviation from a weighted sum of squares and what is expected.

    Parameters
    ----------
    weighted_squares, degrees : float
        Sum of squares and its degrees of freedom.
    expected : float
        Expected standard deviation.
    trust : float
        How many residuals the expectation is worth.
    """
    return math.sqrt((trust * expected * expected + weighted_squares) / (trust + max(degrees, 0.0)))
