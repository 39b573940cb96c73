# SPDX-License-Identifier: Apache-2.0
"""What a registration accepts: shapes, finite values, plausible sizes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..camera import Camera
from ..errors import CameraError, InputError
from ..values import is_number, pair

__all__ = [
    "MIN_JOINTS",
    "MIN_SCORE",
    "Inputs",
    "check_camera",
    "check_inputs",
    "check_length",
    "check_pair",
    "check_prior",
]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

MIN_SCORE = 0.1
"""Joints of a lower score are left out (Chen et al.'s implementation does the same)."""

MIN_JOINTS = 4
"""Fewest joints that give a position with something to spare."""

MAX_PIXEL = 1e6
MAX_SCORE = 1.0 + 1e-6
MIN_SPAN, MAX_SPAN = 0.005, 1.0

MIN_LENGTH, MAX_LENGTH = 0.05, 0.4
"""Lengths of hands, in metres, that a person can have."""


class Inputs(NamedTuple):
    """Checked inputs, in double precision."""

    vertices: FloatArray
    joints: FloatArray
    keypoints: FloatArray
    scores: FloatArray
    used: BoolArray
    span: float
    """Longest side of the box around the joints, metres."""
    contour: FloatArray | None
    cut: BoolArray | None


def check_pair(name: str, values: Any, what: str) -> tuple[float, float]:
    """Return two numbers; `what` says what they are."""
    found = pair(values)
    if found is None:
        raise InputError(f"{name} is {values!r}; give two numbers, {what}")
    return found


def check_length(hand_length: Any) -> float | None:
    """Return the length of a hand in metres, or None."""
    if hand_length is None:
        return None
    if not is_number(hand_length) or not MIN_LENGTH <= hand_length <= MAX_LENGTH:
        raise InputError(f"hand_length is {hand_length!r}, expected {MIN_LENGTH} to {MAX_LENGTH} m")
    return float(hand_length)


def check_prior(mean: float, spread: float, name: str = "scale_prior") -> tuple[float, float]:
    """Return a scale prior that the solvers can work with; `name` is what its caller knows it by."""
    mean, spread = float(mean), float(spread)
    if not (math.isfinite(mean) and 0.1 <= mean <= 10.0):
        raise InputError(f"the mean of {name} is {mean}, expected 0.1 to 10 (hand over mesh)")
    if not (math.isfinite(spread) and 0.0 <= spread <= 0.3 * mean):
        raise InputError(
            f"the spread of {name} is {spread}, expected 0 to {0.3 * mean:g} (0.3 times the mean); "
            "images do not tell scale, give a prior that does"
        )
    return mean, max(spread, 1e-4 * mean)


def check_camera(camera: Any) -> tuple[FloatArray, FloatArray]:
    """Return focal lengths (2, 1) and principal point (2,) in pixels."""
    if not isinstance(camera, Camera):
        raise CameraError(
            f"camera is a {type(camera).__name__}; give a Camera, for instance Camera.from_matrix(K, width, height)"
        )
    return np.array([[camera.fx], [camera.fy]]), np.array([camera.cx, camera.cy])


def check_inputs(vertices: Any, joints: Any, keypoints: Any, scores: Any, silhouette: Any, cut: Any) -> Inputs:
    """Return checked inputs; raise InputError for those that no position can come from."""
    V = _numbers("vertices", vertices, 3, MAX_SPAN, "root-relative metres (not millimetres)")
    J = _numbers("joints", joints, 3, MAX_SPAN, "root-relative metres (not millimetres)")
    K = _numbers("keypoints", keypoints, 2, MAX_PIXEL, "pixels")
    W = _numbers("scores", scores, None, MAX_SCORE, "probabilities")
    if K.shape[0] != J.shape[0] or W.shape != (J.shape[0],):
        raise InputError(
            f"joints {J.shape}, keypoints {K.shape} and scores {W.shape} do not agree; expected (J, 3), (J, 2) and (J,)"
        )
    used = W >= MIN_SCORE  # a negative score is as good as none
    count = int(np.count_nonzero(used))
    if count < MIN_JOINTS:
        raise InputError(
            f"{count} of {W.size} joints have a score of at least {MIN_SCORE}, expected {MIN_JOINTS} or more; "
            "check whether the image shows a hand"
        )
    span = _extent(J)
    if span < MIN_SPAN:
        raise InputError(
            f"joints span {span:g} m, expected at least {MIN_SPAN} m; give root-relative metres of a whole hand"
        )
    if silhouette is None:
        if cut is not None:
            raise InputError("cut is given without a silhouette; leave it out, or give the contour that it marks")
        return Inputs(V, J, K, W, used, span, None, None)
    contour = _numbers("silhouette", silhouette, 2, MAX_PIXEL, "pixels")
    marks = None
    if cut is not None:
        marks = np.asarray(cut)
        if marks.dtype != np.bool_ or marks.shape != contour.shape[:1]:
            raise InputError(
                f"cut is {marks.dtype} {marks.shape}, expected bool {contour.shape[:1]}: one mark per contour point"
            )
    return Inputs(V, J, K, W, used, span, contour, marks)


def _extent(points: FloatArray) -> float:
    """Longest side of the box around points (n, d)."""
    return float((np.maximum.reduce(points) - np.minimum.reduce(points)).max())


def _numbers(name: str, values: Any, columns: int | None, limit: float, mend: str) -> FloatArray:
    """Return finite values of magnitude up to `limit`, in rows of `columns`, or (None) in one row."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name} is no array of numbers; give shape {_shape(columns)}") from None
    if columns is not None and array.size == 0 and array.ndim <= 2:
        array = array.reshape(0, columns)
    if array.ndim != (1 if columns is None else 2) or (columns is not None and array.shape[1] != columns):
        raise InputError(f"{name} has shape {array.shape}, expected {_shape(columns)}")
    peak = float(np.maximum.reduce(np.abs(array), axis=None, initial=0.0))
    if not math.isfinite(peak):
        raise InputError(f"{name} holds NaN or infinite values; give such joints a score of 0 and any finite position")
    if peak > limit:
        raise InputError(f"{name} reaches a magnitude of {peak:g}, expected at most {limit:g}; give {mend}")
    return array


def _shape(columns: int | None) -> str:
    return "(n,)" if columns is None else f"(n, {columns})"
