# SPDX-License-Identifier: Apache-2.0
"""JPEG files with an EXIF focal length."""

from __future__ import annotations

import struct

import cv2
import numpy as np


def with_focal_length(image: np.ndarray, focal: int, order: str = "<") -> bytes:
    """JPEG of an RGB image whose EXIF data tells a focal length in 35 mm film."""
    tiff = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    # Directory 0 at byte 8: orientation, then the place of the EXIF directory.
    tiff += struct.pack(order + "H", 2)
    tiff += struct.pack(order + "HHIHH", 0x0112, 3, 1, 1, 0)
    tiff += struct.pack(order + "HHII", 0x8769, 4, 1, 38) + struct.pack(order + "I", 0)
    assert len(tiff) == 38
    tiff += struct.pack(order + "H", 1) + struct.pack(order + "HHIHH", 0xA405, 3, 1, focal, 0)
    tiff += struct.pack(order + "I", 0)
    segment = b"Exif\0\0" + tiff
    jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    start, rest = jpeg[:2], jpeg[2:]  # after the JFIF segment, as many cameras do
    jfif = rest[: 2 + struct.unpack(">H", rest[2:4])[0]]
    return start + jfif + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + rest[len(jfif) :]
