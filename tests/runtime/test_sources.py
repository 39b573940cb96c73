# SPDX-License-Identifier: Apache-2.0
import time

import cv2
import numpy as np
import pytest

from cmr_runtime.sources import Video


class Webcam:
    """In the place of `cv2.VideoCapture`: four grey frames, 5 ms apart."""

    def __init__(self, source: int) -> None:
        self._left = 4

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def get(self, name: int) -> float:
        return 0.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        time.sleep(0.005)
        self._left -= 1
        return (True, np.full((6, 8, 3), 90, np.uint8)) if self._left >= 0 else (False, None)

    def release(self) -> None:
        pass


def test_frames_of_a_webcam_have_the_time_at_which_they_came(monkeypatch: pytest.MonkeyPatch) -> None:
    stands = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: stands)  # it moves every 16 ms on Windows
    monkeypatch.setattr(cv2, "VideoCapture", Webcam)
    start = time.perf_counter()
    with Video(0) as video:
        assert video.count is None
        seconds = [frame.seconds for frame in video]
    assert len(seconds) == 4
    assert min(np.diff([0.0, *seconds])) >= 0.004
    assert seconds[-1] <= time.perf_counter() - start
