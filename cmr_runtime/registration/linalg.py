# SPDX-License-Identifier: Apache-2.0
"""Small symmetric positive definite systems, straight from LAPACK.

For four unknowns NumPy's wrappers cost ten times the work itself. SciPy is no dependency of its own: OSQP needs it.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType

import numpy as np
import numpy.typing as npt

__all__ = ["cholesky", "inverse", "inverse_factor", "solve"]

FloatArray = npt.NDArray[np.float64]


@cache
def load() -> ModuleType:
    """Import SciPy's LAPACK where it is needed first: it would double the time in which the package loads."""
    from scipy.linalg import lapack

    module: ModuleType = lapack
    return module


def solve(P: FloatArray, b: FloatArray) -> FloatArray:
    """Return x with P x = b; raise `numpy.linalg.LinAlgError` where P is not positive definite."""
    _, x, failed = load().dposv(P, b)
    if failed:
        raise np.linalg.LinAlgError("not positive definite")
    solution: FloatArray = x
    return solution


def cholesky(P: FloatArray) -> FloatArray:
    """Return L, lower triangular, with P = L Lᵀ; raise `numpy.linalg.LinAlgError` as `solve` does."""
    factor, failed = load().dpotrf(P, lower=1, clean=1)
    if failed:
        raise np.linalg.LinAlgError("not positive definite")
    result: FloatArray = factor
    return result


def inverse_factor(P: FloatArray) -> FloatArray:
    """Return L⁻¹ with P = L Lᵀ, lower triangular; raise `numpy.linalg.LinAlgError` as `solve` does."""
    factor, failed = load().dtrtri(cholesky(P), lower=1)
    if failed:
        raise np.linalg.LinAlgError("not positive definite")
    result: FloatArray = factor
    return result


def inverse(P: FloatArray) -> FloatArray:
    """Return P⁻¹; raise `numpy.linalg.LinAlgError` as `solve` does."""
    factor = inverse_factor(P)
    result: FloatArray = factor.T @ factor
    return result
