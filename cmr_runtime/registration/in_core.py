# SPDX-License-Identifier: Apache-2.0
"""The ordinary registration in the compiled core, in a tenth of the time.

`Registrar` asks here first. What is not ordinary (an array that would have to be converted, a value to be refused) is
answered with None and done in NumPy from the start. Programs with a bound have a closed form in the core, and
need no solver.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..camera import Camera
from ..compiled import core
from . import blend, checks, constants, extents, problem, robust, terms
from .result import Registration

__all__ = ["register_in_core", "settings"]

FloatArray = npt.NDArray[np.float64]


def settings() -> FloatArray:
    """Return the constants of this package in the order of `RegistrationSettings` in ``core/core.h``."""
    single = [
        *(checks.MAX_SPAN, checks.MAX_PIXEL, checks.MAX_SCORE, checks.MIN_SCORE, checks.MIN_JOINTS, checks.MIN_SPAN),
        *(constants.NEAR, constants.SPREADS, constants.MIN_EXTENTS, constants.LITTLE[0, 0]),
        *(constants.MESH_ERROR, constants.MESH_SHIFT, constants.EDGE, constants.LEAST_HAND_PX),
        *(constants.ROUNDS_2D, constants.ROUNDS_BOTH, constants.SETTLED),
        *(problem.LIFT, extents.CUT_TOLERANCE_PX, extents.SAMPLES, robust.INLIER_LIMIT, robust.RAYLEIGH_MEDIAN),
        blend.FLOOR[0, 0],
        *(terms.LEAST_LEVEL, terms.EXPECTED_LEVEL, terms.TRUST, terms.LEAST_SQUARE, terms.EXTENT_LIMIT),
        *(terms.EXTENTS_EACH, terms.DILATION, terms.LEVEL_DILATION, terms.JITTER_DILATION, terms.NORMAL_MEDIAN),
        *(terms.UNKNOWNS, terms.LITTLE[0, 0]),
    ]
    return np.concatenate([single, terms.LEVERS.ravel(), extents.DIRECTIONS.ravel()])


def register_in_core(
    known: FloatArray,
    arrays: tuple[Any, ...],
    camera: Any,
    prior: tuple[float, float],
    depth_bounds: tuple[float, float],
    metric: bool,
) -> Registration | None:
    """Register one hand, blended by covariance, or return None where NumPy has to.

    Parameters
    ----------
    known : (n,) array
        `settings`.
    arrays : tuple
        Vertices, joints, keypoints, scores, silhouette and cut, as for `Registrar`, of any kind.
    camera : Camera
        Intrinsics; anything else gives None.
    prior, depth_bounds : (float, float)
        Mean and spread of the scale; smallest and largest depth in metres.
    metric : bool
        Passed on to the result.
    """
    joints = arrays[1]
    if core is None or not isinstance(camera, Camera) or not isinstance(joints, np.ndarray) or joints.ndim != 2:
        return None
    translation, sigma, inliers = np.empty(3), np.empty(3), np.empty(len(joints), np.bool_)
    found = core.register(known, *arrays, camera.pinhole, prior, depth_bounds, translation, sigma, inliers)
    if found is None:
        return None
    scale, residual_2d, residual_1d, gap, weight_1d, bounds_active = found
    return Registration(
        translation=translation,
        scale=scale,
        residual_2d=residual_2d,
        residual_1d=residual_1d,
        inliers=inliers,
        gap=gap,
        weight_1d=weight_1d,
        sigma=sigma,
        bounds_active=bounds_active,
        metric=metric,
    )
