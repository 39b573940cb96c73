# SPDX-License-Identifier: Apache-2.0
"""Image files in and out, RGB."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from .errors import InputError
from .files import write_whole

__all__ = ["IMAGE_SUFFIXES", "decode_image", "read_bytes", "read_image", "write_image"]

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
    return decode_image(read_bytes(path), path)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read an image file as it is. Raises `InputError` where that is not possible."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"image {path} cannot be read: {error.strerror or error}") from error


def decode_image(data: bytes, path: str | os.PathLike[str]) -> _Image:
    """Image in the bytes of a file; see `read_image`. The path is for the message."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:  # more pixels than OpenCV takes
        image = None
    if image is None:
        raise InputError(f"{path} is no image that OpenCV reads; give one of {', '.join(IMAGE_SUFFIXES)}")
    return cast("_Image", cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def write_image(path: str | os.PathLike[str], image: _Image) -> None:
    """Write an RGB image, (H, W, 3) uint8; the suffix of the path says in which form.

    Raises
    ------
    InputError
        A suffix that OpenCV does not write.
    OSError
        The file cannot be written.
    """
    path = Path(path)
    try:
        done, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    except cv2.error:
        done = False
    if not done:
        raise InputError(f"image {path} has a suffix that cannot be written; give one of {', '.join(IMAGE_SUFFIXES)}")
    write_whole(path, data.tobytes(), "image")
