# SPDX-License-Identifier: Apache-2.0
"""What a registration says: where the hand is, and how far to trust it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Registration"]


@dataclass(frozen=True, eq=False)
class Registration:
    """Position and scale of a hand in the camera, with their quality.

    Camera-space points are ``scale * points + translation``.
    """

    translation: npt.NDArray[np.float64]
    """(3,) metres, position of the hand's root in the camera frame (x right, y down, z forward)."""
    scale: float
    """Size of the hand over the size of the mesh given. Images alone do not tell it: it follows the prior."""
    residual_2d: float
    """Root mean square distance, in pixels, of projected joints and keypoints, weighted by score and robust weight."""
    residual_1d: float
    """Root mean square difference, in pixels, of projected and seen extents, robustly weighted; nan without 1D term."""
    inliers: npt.NDArray[np.bool_]
    """(J,) joints whose keypoints agree with the result."""
    gap: float
    """Distance, in metres, of the translations that the 2D and the 1D term give alone; nan without 1D term."""
    weight_1d: float
    """Share of the 1D term in the result, 0..1 (in "covariance" blending its share of what is known of depth)."""
    sigma: npt.NDArray[np.float64]
    """(3,) standard deviation of the translation per axis, in metres, the uncertainty of the scale included."""
    bounds_active: bool
    """Whether depth or scale lies on its bound: then the position is a limit and no measurement."""
    metric: bool
    """Whether the camera's intrinsics were given. If they were assumed, depth is in arbitrary units."""

    @property
    def usable(self) -> bool:
        """Whether the position is a measurement at all: no bound holds it back, and at least four joints agree with it.

        How good it is, `sigma` says.
        """
        return not self.bounds_active and int(np.count_nonzero(self.inliers)) >= 4
