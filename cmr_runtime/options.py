# SPDX-License-Identifier: Apache-2.0
"""What a command line says about cameras, boxes and counts."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .camera import Camera
from .errors import CameraError, InputError

__all__ = ["CameraOption", "parse_box", "up_to"]

#: Difference of two pictures' shapes (width over height) up to which one is the other made larger or smaller.
_SAME_SHAPE = 0.01


class CameraOption:
    """The options ``--camera`` and ``--fov``, ready for images of any size.

    Parameters
    ----------
    camera : str or None
        ``fx,fy,cx,cy`` in pixels, or a JSON file with these keys, at its top or under ``camera``. If the file has
        `width` and `height` too, images of another size get the camera enlarged as they are.
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
        self._name, self._fov = camera, fov
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
        fx, fy, cx, cy = self._values
        known_width, known_height = self._size or (width, height)
        larger = width / known_width
        if abs(larger * known_height / height - 1.0) > _SAME_SHAPE:
            raise CameraError(
                f"--camera {self._name} is for images of {known_width}×{known_height} pixels; this one has {width}×"
                f"{height}, which is another shape: calibrate the camera in the mode that it is used in"
            )
        cx, cy = (cx + 0.5) * larger - 0.5, (cy + 0.5) * larger - 0.5
        return Camera(fx * larger, fy * larger, cx, cy, width, height)


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
    size = None
    try:
        if camera.lower().endswith(".json"):
            table: dict[str, Any] = json.loads(Path(camera).read_text("utf-8"))
            table = table.get("camera", table)
            values = [table[key] for key in ("fx", "fy", "cx", "cy")]
            if "width" in table and "height" in table:
                whole = Camera(1.0, 1.0, 0.0, 0.0, table["width"], table["height"])  # refuses what is no size
                size = whole.width, whole.height
        else:
            values = camera.split(",")
        fx, fy, cx, cy = (float(value) for value in values)
    except OSError as error:
        raise InputError(f"--camera {camera} cannot be read: {error.strerror or error}") from error
    except CameraError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"--camera is {camera!r} ({error!r}); give fx,fy,cx,cy in pixels, for instance 500,500,320,240, or a JSON "
            "file with these keys"
        ) from None
    return (fx, fy, cx, cy), size
