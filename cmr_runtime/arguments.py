# SPDX-License-Identifier: Apache-2.0
"""What a caller gives the tracker, checked: each message names the argument, its value, and what to give instead."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt

from .camera import Camera
from .errors import CameraError, InputError
from .roi import Roi
from .smoothing import DEFAULT_RATE, Smoothing
from .values import is_number, pair

__all__ = [
    "DEFAULT_FOV",
    "Clock",
    "check_boxes",
    "check_callback",
    "check_camera",
    "check_choice",
    "check_flag",
    "check_image",
    "check_probability",
    "check_scale",
    "check_smoothing",
    "check_whole",
]

#: Horizontal field of view assumed where no camera is given, degrees; usual for webcams. Depth is then not metric.
DEFAULT_FOV = 60.0
#: Largest box, and farthest from the image, pixels: beyond it single precision no longer tells pixels apart.
MAX_REACH = 1e6
#: Greatest timestamp, seconds: beyond it a float no longer tells microseconds apart. Seconds since 1970 are 1.8e9.
MAX_SECONDS = 1e10
#: Longest that a pixel may be beside its width, and the other way about: at 1.1 meshes err 3 % more, at 1.33 a third.
MOST_STRETCH = 1.05
#: Longest side of an image, pixels: OpenCV's sampler takes no more.
MAX_SIDE = 32766


def check_choice(name: str, value: Any, choices: Sequence[str | None]) -> None:
    """Refuse what is none of the choices."""
    if not (value is None or isinstance(value, str)) or value not in choices:
        raise InputError(f"{name} is {value!r}; give {', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}")


def check_whole(name: str, value: Any, least: int, most: int) -> int:
    """Return a whole number within its limits."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not least <= int(value) <= most:
        raise InputError(f"{name} is {value!r}; give a whole number from {least} to {most}")
    return int(value)


def check_probability(name: str, value: Any) -> float:
    """Return a number from 0 to 1."""
    if not is_number(value) or not 0.0 <= float(value) <= 1.0:
        raise InputError(f"{name} is {value!r}; give a probability from 0 to 1")
    return float(value)


def check_scale(hand_scale: Any) -> tuple[float, float]:
    """Return mean and standard deviation of the hand's size."""
    mean, spread = pair(hand_scale) or (math.nan, math.nan)
    if not (0.0 < mean < math.inf and 0.0 <= spread < math.inf):
        raise InputError(
            f"hand_scale is {hand_scale!r}; give mean and standard deviation of the hand's size as a multiple of the "
            "network's, for instance (1.0, 0.08)"
        )
    return mean, spread


def check_flag(name: str, value: Any) -> bool:
    """Return yes or no."""
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name} is {value!r}; give True or False")
    return bool(value)


def check_smoothing(smoothing: Any) -> Smoothing | None:
    """Return the settings; None where nothing is to be smoothed."""
    if isinstance(smoothing, Smoothing):
        return smoothing
    if not isinstance(smoothing, bool | np.bool_):
        raise InputError(f"smoothing is {smoothing!r}; give True, False or Smoothing(...)")
    return Smoothing() if smoothing else None


def check_boxes(rois: Any) -> list[Roi]:
    """Return the caller's boxes as regions."""
    listed = isinstance(rois, Sequence) or (isinstance(rois, np.ndarray) and rois.ndim > 0)
    if not listed or any(isinstance(box, Real) for box in rois):
        raise InputError(f"rois is {rois!r}; give a list of boxes, [(x0, y0, x1, y1), ...]")
    return [_box(box) for box in rois]


def _box(box: Any) -> Roi:
    try:
        roi = box if isinstance(box, Roi) else Roi.from_box(box)
    except OverflowError:  # a whole number that no float holds
        roi = None
    if roi is None or not 1.0 <= roi.size <= MAX_REACH or max(abs(roi.cx), abs(roi.cy)) > MAX_REACH:
        raise InputError(f"box is {box!r}; give sides of 1 to {MAX_REACH:g} pixels, and no place farther off than that")
    return roi


def check_camera(camera: Any, width: int, height: int) -> Camera:
    """Return the camera of an image of this size; None stands for the usual field of view."""
    if camera is None:
        return Camera.from_fov(DEFAULT_FOV, width, height)
    if not isinstance(camera, Camera):
        raise CameraError(f"camera is a {type(camera).__name__}; give a Camera, for instance Camera.from_matrix(K, …)")
    if not 1 / MOST_STRETCH <= camera.fx / camera.fy <= MOST_STRETCH:
        square = f"{width}×{max(1, round(height * camera.fx / camera.fy))}"
        raise CameraError(
            f"camera has fx {camera.fx:g} and fy {camera.fy:g}, so its pixels are not square and hands look stretched; "
            f"resize the image to {square} pixels and multiply fy and cy alike"
        )
    if (camera.width, camera.height) != (width, height):
        size = f"{camera.width}×{camera.height}"
        raise CameraError(f"camera is for {size} pixels, the image has {width}×{height}; give the camera of this image")
    return camera


def check_callback(on_result: Any, mode: str) -> None:
    """Refuse a mode live without a function for its results, and such a function in another mode."""
    if not callable(on_result) if mode == "live" else on_result is not None:
        raise InputError(f"on_result is {on_result!r} in mode {mode!r}; give a function in mode 'live', else None")


#: Seconds between frames that are none of a video: they may be milliseconds. So many in a row are warned of once.
_APART, _MANY = 5.0, 5


class Clock:
    """Seconds of the frames of a video, from the caller's timestamps or without them; they always increase."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew: the next frame may have any timestamp."""
        self._given = self._now = -math.inf
        self._apart = 0  # frames in a row that lie too far apart for a video
        self._ahead = 0.0  # seconds by which frames without timestamps have run ahead of those given

    def __call__(self, timestamp: Any) -> float:
        """Return the seconds of the next frame. A timestamp has to be greater than the last that was given."""
        if timestamp is None:
            self._now = 0.0 if self._now == -math.inf else self._now + 1.0 / DEFAULT_RATE
            return self._now
        number = isinstance(timestamp, int | float | np.integer | np.floating) and not isinstance(timestamp, bool)
        if not number or not abs(timestamp) <= MAX_SECONDS:
            raise InputError(f"timestamp is {timestamp!r}; give seconds, a finite number up to {MAX_SECONDS:g}")
        if timestamp <= self._given:
            raise InputError(
                f"timestamp {timestamp} s follows {self._given} s; it must increase, or call reset() for a new video"
            )
        gap = 1.0 / DEFAULT_RATE if self._given == -math.inf else timestamp - self._given
        self._given = float(timestamp)
        self._apart = self._apart + 1 if gap > _APART else 0
        if self._apart == _MANY:
            warnings.warn(
                f"{_MANY} frames in a row lie more than {_APART:g} apart by their timestamps, the last {gap:g}: they "
                "are seconds; divide milliseconds by 1000",
                stacklevel=4,
            )
        if self._given + self._ahead <= self._now:
            self._ahead = self._now + gap - self._given
        self._now = max(self._given + self._ahead, math.nextafter(self._now, math.inf))
        return self._now


def check_image(rgb: Any) -> npt.NDArray[np.uint8]:
    """Return the image as a contiguous array."""
    if not isinstance(rgb, np.ndarray):
        raise InputError(f"image is a {type(rgb).__name__}; give a NumPy array (H, W, 3) of uint8, RGB")
    if rgb.ndim != 3 or rgb.shape[2] != 3:
        raise InputError(f"image has shape {rgb.shape}; give (H, W, 3), RGB without alpha (cv2.cvtColor converts)")
    if rgb.dtype != np.uint8:
        raise InputError(f"image is {rgb.dtype}; give uint8, 0 to 255")
    if 0 in rgb.shape:
        raise InputError(f"image of shape {rgb.shape} is empty; was the file or the camera read?")
    if max(rgb.shape[:2]) > MAX_SIDE:
        raise InputError(f"image of shape {rgb.shape} is too large; its sides may have {MAX_SIDE} pixels")
    return np.ascontiguousarray(rgb)
