# SPDX-License-Identifier: Apache-2.0
"""The focal length that a photo's EXIF data tells, for a camera that is about right.

EXIF 2.32 (CIPA DC-008): a JPEG file carries it in an APP1 segment, as a TIFF file of directories of tags.
"""

from __future__ import annotations

import math
import struct

from .camera import Camera
from .errors import CameraError

__all__ = ["camera_from_exif", "focal_length_35mm"]

#: Diagonal of the 36 mm × 24 mm frame that the tag refers to, millimetres (CIPA DCG-001).
_DIAGONAL = math.hypot(36.0, 24.0)
_EXIF_DIRECTORY, _FOCAL_LENGTH_35MM, _SHORT, _LONG = 0x8769, 0xA405, 3, 4


def camera_from_exif(data: bytes, width: int, height: int) -> Camera | None:
    """Camera of a photo from the focal length in its EXIF data; None if it tells none.

    The angle of view is right for the whole photo as it was taken, within a few per cent; not for a part cut out of it.

    Parameters
    ----------
    data : bytes
        A JPEG file.
    width, height : int
        Of the photo, pixels; turning or shrinking it changes nothing.
    """
    focal = focal_length_35mm(data)
    if focal is None:
        return None
    pixels = focal * math.hypot(width, height) / _DIAGONAL
    try:
        return Camera(pixels, pixels, 0.5 * (width - 1), 0.5 * (height - 1), width, height)
    except CameraError:  # a number that no lens has
        return None


def focal_length_35mm(data: bytes) -> int | None:
    """Tag FocalLengthIn35mmFilm of a JPEG file, millimetres; None if absent, unknown (0), or the data is damaged."""
    try:
        tiff = _exif(data)
        order = {b"II": "<", b"MM": ">"}[tiff[:2]]
        (first,) = struct.unpack_from(order + "I", tiff, 4)
        directory = _tag(tiff, order, first, _EXIF_DIRECTORY)
        return None if directory is None else _tag(tiff, order, directory, _FOCAL_LENGTH_35MM) or None
    except (KeyError, struct.error):
        return None


def _exif(data: bytes) -> bytes:
    """TIFF data in the file's first Exif segment, empty if there is none; segments end where the picture begins."""
    if data[:2] != b"\xff\xd8":
        return b""
    place = 2
    while data[place : place + 1] == b"\xff":
        if data[place + 1 : place + 2] == b"\xff":  # bytes that fill up, of which there may be any number
            place += 1
            continue
        marker, size = struct.unpack_from(">xBH", data, place)
        if marker == 0xE1 and data[place + 4 : place + 10] == b"Exif\0\0":
            return data[place + 10 : place + 2 + size]
        if marker == 0xDA:
            break
        place += 2 + size
    return b""


def _tag(tiff: bytes, order: str, place: int, wanted: int) -> int | None:
    """Return a tag's whole number in the directory at a place."""
    (count,) = struct.unpack_from(order + "H", tiff, place)
    for number in range(count):
        entry = place + 2 + 12 * number
        tag, kind = struct.unpack_from(order + "HH", tiff, entry)
        if tag == wanted and kind in (_SHORT, _LONG):
            value: int = struct.unpack_from(order + ("H" if kind == _SHORT else "I"), tiff, entry + 8)[0]
            return value
    return None
