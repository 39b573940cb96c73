# SPDX-License-Identifier: Apache-2.0
"""Image files in and out, RGB, and cameras and boxes from what a command line says."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from .camera import Camera
from .errors import InputError

__all__ = ["IMAGE_SUFFIXES", "parse_box", "parse_camera", "read_image", "write_image"]

_Image = npt.NDArray[np.uint8]

#: Files that count as images in a folder.
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def read_image(path: str | os.PathLike[str]) -> _Image:
    """Read an image file as (H, W, 3) uint8 RGB, turned as its EXIF orientation says.

    Raises
    ------
    InputError
        The file is absent or no image that OpenCV reads.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"image {path} cannot be read: {error.strerror or error}") from error
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise InputError(f"{path} is no image that OpenCV reads; give one of {', '.join(IMAGE_SUFFIXES)}")
    return cast("_Image", cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def write_image(path: str | os.PathLike[str], image: _Image) -> None:
    """Write an RGB image, (H, W, 3) uint8; the suffix of the path says in which form.

    Raises
    ------
    InputError
        A suffix that OpenCV does not write, or a path that cannot be written.
    """
    path = Path(path)
    try:
        done, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    except cv2.error:
        done = False
    if not done:
        raise InputError(f"image {path} has a suffix that cannot be written; give one of {', '.join(IMAGE_SUFFIXES)}")
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise InputError(f"image {path} cannot be written: {error.strerror or error}") from error


def parse_camera(camera: str | None, fov: float | None, width: int, height: int) -> Camera | None:
    """Camera of an image from the options ``--camera`` or ``--fov``; None if neither is given.

    Parameters
    ----------
    camera : str or None
        ``fx,fy,cx,cy`` in pixels, or a JSON file with these keys, at its top or under ``camera``.
    fov : float or None
        Horizontal field of view, degrees.
    width, height : int
        Size of the image, pixels.

    Raises
    ------
    InputError
        Not four numbers, or a file that does not hold them.
    CameraError
        Numbers that make no camera.
    """
    if camera is None:
        return None if fov is None else Camera.from_fov(fov, width, height)
    try:
        if camera.lower().endswith(".json"):
            table = json.loads(Path(camera).read_text("utf-8"))
            table = table.get("camera", table)
            values = [table[key] for key in ("fx", "fy", "cx", "cy")]
        else:
            values = camera.split(",")
        fx, fy, cx, cy = (float(value) for value in values)
    except OSError as error:
        raise InputError(f"--camera {camera} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"--camera is {camera!r} ({error!r}); give fx,fy,cx,cy in pixels, for instance 500,500,320,240, or a JSON "
            "file with these keys"
        ) from None
    return Camera(fx, fy, cx, cy, width, height)


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
