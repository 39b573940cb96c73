# SPDX-License-Identifier: Apache-2.0
"""Image files in and out, RGB, and cameras from what a command line says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from .camera import Camera
from .errors import InputError

__all__ = ["IMAGE_SUFFIXES", "parse_camera", "read_image", "write_image"]

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
    """Camera from the options ``--camera fx,fy,cx,cy`` or ``--fov degrees``; None if neither is given.

    Raises
    ------
    InputError
        Not four numbers.
    CameraError
        Numbers that make no camera.
    """
    if camera is not None:
        try:
            fx, fy, cx, cy = (float(value) for value in camera.split(","))
        except ValueError:
            raise InputError(
                f"--camera is {camera!r}; give fx,fy,cx,cy in pixels, for instance 500,500,320,240"
            ) from None
        return Camera(fx, fy, cx, cy, width, height)
    return None if fov is None else Camera.from_fov(fov, width, height)
