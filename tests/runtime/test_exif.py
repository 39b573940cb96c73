# SPDX-License-Identifier: Apache-2.0
import math

import cv2
import numpy as np
import pytest
from jpeg_with_exif import with_focal_length

from cmr_runtime.exif import camera_from_exif, focal_length_35mm

IMAGE = np.full((60, 80, 3), 90, np.uint8)


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_focal_length_of_a_photo(order: str) -> None:
    data = with_focal_length(IMAGE, 28, order)
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == IMAGE.shape  # a sound file
    assert focal_length_35mm(data) == 28
    camera = camera_from_exif(data, 4000, 3000)
    # The angle over the diagonal is that of 28 mm before a film of 36 mm by 24 mm: 75.4 degrees.
    angle = 2 * math.degrees(math.atan(math.hypot(2000, 1500) / camera.fx))
    assert angle == pytest.approx(75.38, abs=0.01)
    assert (camera.cx, camera.cy, camera.fx) == (1999.5, 1499.5, camera.fy)
    assert camera_from_exif(data, 3000, 4000).fx == camera.fx


def test_bytes_that_fill_up_before_a_segment_are_passed_over() -> None:
    data = with_focal_length(IMAGE, 28)
    place = data.index(b"\xff\xe1")
    filled = data[:place] + b"\xff\xff\xff" + data[place:]
    assert cv2.imdecode(np.frombuffer(filled, np.uint8), cv2.IMREAD_COLOR).shape == IMAGE.shape  # a sound file
    assert focal_length_35mm(filled) == 28
    assert focal_length_35mm(b"\xff\xd8" + b"\xff" * 100) is None


def test_photos_that_tell_nothing() -> None:
    plain = cv2.imencode(".jpg", IMAGE)[1].tobytes()
    for data in (plain, with_focal_length(IMAGE, 0), b"", b"\x89PNG", b"\xff\xd8"):
        assert focal_length_35mm(data) is None
        assert camera_from_exif(data, 80, 60) is None


def test_damaged_files_tell_nothing_or_the_truth() -> None:
    whole = with_focal_length(IMAGE, 28)
    for length in range(200):
        assert focal_length_35mm(whole[:length]) in (None, 28)
    rng = np.random.default_rng(0)
    for _ in range(3000):
        data = bytearray(whole)
        for place in rng.integers(0, 120, 4):
            data[place] = rng.integers(256)
        focal_length_35mm(bytes(data))  # whatever it says, it does not raise or hang
