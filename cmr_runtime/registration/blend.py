# SPDX-License-Identifier: Apache-2.0
"""Two ways to make one position of the 2D and the 1D solution.

``"paper"`` mixes the two translations by their distance *d* (Chen et al., CVPR 2021): 2D alone up to 20 mm, 1D alone
from 60 mm, linear between. ``"covariance"`` solves both terms in one program, each row in units of its standard
deviation; the solutions then count by what is known of each, along each axis by itself. ``"silhouette"`` takes the 1D
solution where there is one, for comparison.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .linalg import cholesky

__all__ = ["BLENDS", "GAP_1D", "GAP_2D", "information_share", "paper_weight"]

FloatArray = npt.NDArray[np.float64]

BLENDS = ("covariance", "paper", "silhouette")

GAP_2D = 0.020
"""Gap in metres up to which the paper takes the 2D solution alone."""

GAP_1D = 0.060
"""Gap in metres from which the paper takes the 1D solution alone."""


FLOOR = 1e-2 * np.eye(3)
"""Information in 1/m² (a spread of 10 m) that keeps a term that leaves an axis open invertible."""


def paper_weight(gap: float) -> float:
    """Weight of the 1D solution, 0..1, at a gap in metres."""
    return min(max((gap - GAP_2D) / (GAP_1D - GAP_2D), 0.0), 1.0)


def information_share(P_2d: FloatArray, P_1d: FloatArray) -> float:
    """Share, 0..1, of the 1D term in what is known of depth at a given scale."""
    # The last of the Cholesky factor's diagonal, squared, is what is known of depth whatever the other two are.
    depths = [float(cholesky(P + FLOOR)[2, 2]) ** 2 for P in (P_2d, P_1d)]
    return depths[1] / (depths[0] + depths[1])
