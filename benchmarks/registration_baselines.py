# SPDX-License-Identifier: Apache-2.0
"""Other ways to place a hand: a general non-linear solver as the reference uses it, and perspective-n-point.

`SlsqpBaseline` follows the published description and the constants of the reference implementation: both terms go to
SciPy's SLSQP with numerical gradients, from 0.6 m on the optical axis, with depth between 0.05 and 2 m; joints whose
residual exceeds the mean by a standard deviation are left out, in at most five rounds; the two translations are mixed
by their distance between 20 and 60 mm. It works in pixels of a crop of 224, for which its constants were chosen.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from cmr_runtime.registration.extents import AXES

__all__ = ["SlsqpBaseline", "solve_pnp"]

FloatArray = npt.NDArray[np.float64]

START = np.array([0.0, 0.0, 0.6])
BOUNDS = ((None, None), (None, None), (0.05, 2.0))
ROUNDS, ENOUGH_JOINTS, GOOD_PX = 5, 13, 2.0
NEAR_GAP, FAR_GAP = 0.02, 0.06


class SlsqpBaseline:
    """Registration in the reference's manner.

    Parameters
    ----------
    vectorised : bool
        Take the extents along all axes by one product. The reference takes them axis by axis, which is several times
        slower; its results are the same.
    """

    def __init__(self, vectorised: bool = False) -> None:
        self._extents = _extents_at_once if vectorised else _extents_by_axis

    def __call__(
        self,
        vertices: FloatArray,
        joints: FloatArray,
        keypoints: FloatArray,
        contour: FloatArray | None,
        camera: FloatArray,
        side: float,
    ) -> FloatArray:
        """Return the translation (3,) for pixels of a crop with that side and camera matrix (3, 3)."""
        translation = self._from_joints(joints, keypoints, camera)
        if contour is None:
            return translation
        seen = self._extents(contour) / side

        def cost(t: FloatArray) -> float:
            return float(np.mean((self._extents(_project(vertices + t, camera)) / side - seen) ** 2))

        found = minimize(cost, START, method="SLSQP", bounds=BOUNDS)
        if not found.success:
            return translation
        gap = float(np.linalg.norm(found.x - translation))
        share = min(max((gap - NEAR_GAP) / (FAR_GAP - NEAR_GAP), 0.0), 1.0)
        return (1.0 - share) * translation + share * found.x

    def _from_joints(self, joints: FloatArray, keypoints: FloatArray, camera: FloatArray) -> FloatArray:
        def cost(t: FloatArray, points: FloatArray, seen: FloatArray) -> float:
            return float(np.mean((_project(points + t, camera) - seen) ** 2))

        translation = START
        for _ in range(ROUNDS):
            translation = minimize(cost, translation, (joints, keypoints), method="SLSQP", bounds=BOUNDS).x
            # As there: the two coordinates' errors add up with their signs.
            error = np.abs((_project(joints + translation, camera) - keypoints).sum(axis=1))
            near = error < error.mean() + error.std()
            if near.sum() < ENOUGH_JOINTS or error.mean() <= GOOD_PX:
                break
            joints, keypoints = joints[near], keypoints[near]
        return translation


def solve_pnp(joints: FloatArray, keypoints: FloatArray, camera: FloatArray) -> FloatArray:
    """Return the translation (3,) by perspective-n-point (OpenCV's SQPnP), which seeks a rotation too.

    The joints are root-relative, so the translation is the root's.
    """
    _, _, translation = cv2.solvePnP(joints, keypoints, camera, None, flags=cv2.SOLVEPNP_SQPNP)
    return translation[:, 0]


def _project(points: FloatArray, camera: FloatArray) -> FloatArray:
    pixels = camera @ points.T
    return (pixels[:2] / pixels[2]).T


def _extents_by_axis(points: FloatArray) -> FloatArray:
    along = [(points * axis).sum(axis=1) for axis in AXES]
    return np.array([(reach.min(), reach.max()) for reach in along])


def _extents_at_once(points: FloatArray) -> FloatArray:
    along = AXES @ points.T
    return np.stack([along.min(axis=1), along.max(axis=1)], axis=1)
