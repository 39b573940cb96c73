# SPDX-License-Identifier: Apache-2.0
"""What a command line says about cameras, boxes and counts."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

from .camera import Camera, read_intrinsics
from .errors import InputError

__all__ = ["PRECISION", "CameraOption", "parse_box", "up_to"]

#: Help of `--precision`.
PRECISION = "in which the networks run (default: as exported; the package's in int16 or int8 where the core can)"


class CameraOption:
    """The options ``--camera`` and ``--fov``, ready for images of any size.

    Parameters
    ----------
    camera : str or None
        ``fx,fy,cx,cy`` in pixels, or a JSON file as `Camera.from_json` reads it. If the file tells a size, images of
        another one get the camera enlarged as they are.
    fov : float or None
        Horizontal field of view, degrees.

    Raises
    ------
    InputError
        Not four numbers, or a file that does not hold them.
    CameraError
        Numbers that make no camera.
    """

    def __init__(self, camera: str | None, fov: float | None) -> None:
        self._fov = fov
        self._values: tuple[float, float, float, float] | None = None
        self._size: tuple[int, int] | None = None
        if camera is not None:
            self._values, self._size = _parse(camera)
        self(*(self._size or (2, 2)))  # refuse numbers that make no camera at once

    @property
    def given(self) -> bool:
        """Whether either option was given."""
        return self._values is not None or self._fov is not None

    def __call__(self, width: int, height: int) -> Camera | None:
        """Camera of images of a size, pixels; None if neither option was given.

        Raises
        ------
        CameraError
            The file is for images of another shape.
        """
        if self._values is None:
            return None if self._fov is None else Camera.from_fov(self._fov, width, height)
        return Camera(*self._values, *(self._size or (width, height))).resized(width, height)


def parse_box(text: str) -> tuple[float, float, float, float]:
    """Box (x0, y0, x1, y1) in pixels from the option ``--box``, which is ``x,y,width,height``.

    Raises
    ------
    InputError
        Not four finite numbers, or a width or height that is not positive.
    """
    try:
        x, y, width, height = (float(value) for value in text.split(","))
    except ValueError:
        x = y = width = height = math.nan
    if not (math.isfinite(x + y) and 0 < width < math.inf and 0 < height < math.inf):
        raise InputError(f"--box is {text!r}; give x,y,width,height in pixels, for instance 200,120,160,160")
    return x, y, x + width, y + height


def up_to(most: int) -> Callable[[str], int]:
    """Return what reads an option that is a whole number from 1 to `most`, as a type of `argparse`."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to {most}")
        return int(text)

    return parse


def _parse(camera: str) -> tuple[tuple[float, float, float, float], tuple[int, int] | None]:
    """Numbers of a camera, and the size of the images that they are for, if it is told."""
    if camera.lower().endswith(".json"):
        return read_intrinsics(camera)
    try:
        fx, fy, cx, cy = (float(value) for value in camera.split(","))
    except ValueError:
        raise InputError(
            f"--camera is {camera!r}; give fx,fy,cx,cy in pixels, for instance 500,500,320,240, or a JSON file "
            "(NAME.json) with these keys"
        ) from None
    return (fx, fy, cx, cy), None
