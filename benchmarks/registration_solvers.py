# SPDX-License-Identifier: Apache-2.0
"""The solvers of the benchmark in one form: a frame in, the root's translation out.

Every solver that uses the silhouette traces its contour itself, as the runtime does, so its time counts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from cmr_runtime.registration import Registrar, Registration
from cmr_runtime.silhouette import contour, cut

from .registration_baselines import SlsqpBaseline, solve_pnp
from .registration_scenes import CROP, NETWORK, Frame

__all__ = ["OURS", "Solver", "make_solvers", "register_frame"]

FloatArray = npt.NDArray[np.float64]

Solver = Callable[[Frame], FloatArray]

OURS = "ours"


def make_solvers() -> dict[str, Solver]:
    """Return all solvers by name."""
    slsqp, vectorised = SlsqpBaseline(), SlsqpBaseline(vectorised=True)
    return {
        OURS: _ours(Registrar()),
        "ours, paper's blend": _ours(Registrar(blend="paper")),
        "ours, 2D only": _ours(Registrar(), silhouette=False),
        "ours, 1D only": _ours(Registrar(blend="silhouette")),
        "SLSQP": lambda frame: _slsqp(slsqp, frame),
        "SLSQP, vectorised": lambda frame: _slsqp(vectorised, frame),
        "PnP": lambda frame: solve_pnp(frame.joints, frame.keypoints, frame.camera.matrix),
    }


def register_frame(registrar: Registrar, frame: Frame, silhouette: bool = True) -> Registration:
    """Register a frame as the tracker does."""
    outline, marks = None, None
    if silhouette:
        in_crop = contour(frame.silhouette, NETWORK)
        if in_crop is not None:
            outline = frame.roi.to_image(in_crop, NETWORK).astype(np.float32)
            marks = cut(in_crop, outline, NETWORK, frame.camera.width, frame.camera.height)
    return registrar(frame.vertices, frame.joints, frame.keypoints, frame.scores, outline, frame.camera, cut=marks)


def _ours(registrar: Registrar, silhouette: bool = True) -> Solver:
    return lambda frame: register_frame(registrar, frame, silhouette).translation


def _slsqp(baseline: SlsqpBaseline, frame: Frame) -> FloatArray:
    to_crop = frame.roi.matrix(CROP)
    camera = np.vstack([to_crop, [0.0, 0.0, 1.0]]) @ frame.camera.matrix
    keypoints = frame.keypoints @ to_crop[:, :2].T + to_crop[:, 2]
    outline = contour(frame.silhouette, NETWORK)
    if outline is not None:
        outline = (outline.astype(np.float64) + 0.5) * (CROP / NETWORK) - 0.5
    return baseline(frame.vertices, frame.joints, keypoints, outline, camera, CROP)
