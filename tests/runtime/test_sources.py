# SPDX-License-Identifier: Apache-2.0
import math
import struct
import time
from pathlib import Path

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
        assert "webcam 0 ended by itself after 4 frames" in video.lack
    assert len(seconds) == 4
    assert min(np.diff([0.0, *seconds])) >= 0.004
    assert seconds[-1] <= time.perf_counter() - start


def _film(path: Path, code: str, frames: int = 60) -> Path:
    """Noise, 25 frames a second."""
    writer, rng = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 25.0, (64, 48)), np.random.default_rng(0)
    assert writer.isOpened()
    for _ in range(frames):
        writer.write(rng.integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()
    return path


def _slow_down(path: Path, number: int, times: int) -> None:
    """Let an MP4 file show its frames from one on for so many times as long."""
    data = bytearray(path.read_bytes())
    assert data.find(b"moov") > data.find(b"mdat")  # else the frames would move
    data[(edits := data.index(b"edts")) : edits + 4] = b"free"  # of the old length
    start = data.index(b"stts") - 4
    size, _, _, entries, frames, ticks = struct.unpack_from(">6I", data, start)
    assert (size, entries) == (24, 1)
    table = struct.pack(">I4s6I", 32, b"stts", 0, 2, number, ticks, frames - number, times * ticks)
    data[start : start + size] = table
    for box in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        at = data.rindex(box) - 4
        struct.pack_into(">I", data, at, struct.unpack_from(">I", data, at)[0] + 8)
    path.write_bytes(data)


def test_frames_of_a_file_have_the_times_that_it_tells(tmp_path: Path) -> None:
    path = _film(tmp_path / "film.mp4", "mp4v")
    with Video(path) as video:
        np.testing.assert_allclose([frame.seconds for frame in video], np.arange(60) / 25, atol=1e-9)
    _slow_down(path, 20, 3)
    with Video(path) as video:
        seconds = [frame.seconds for frame in video]
        assert video.lack is None
    np.testing.assert_allclose(seconds, [*np.arange(20) / 25, *(0.8 + 3 * np.arange(40) / 25)], atol=1e-9)


class File(Webcam):
    """In the place of `cv2.VideoCapture`: as many grey frames as there are times, milliseconds."""

    times: tuple[float, ...] = ()
    rate, count = 25.0, 0

    def __init__(self, source: str) -> None:
        self._left = len(self.times)

    def get(self, name: int) -> float:
        now = self.times[min(len(self.times) - self._left, len(self.times)) - 1] if self.times else 0.0
        return {cv2.CAP_PROP_FPS: self.rate, cv2.CAP_PROP_FRAME_COUNT: self.count, cv2.CAP_PROP_POS_MSEC: now}[name]


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        ((0, 0, 0, 0), (0, 0.04, 0.08, 0.12)),
        ((0, 30, 30, 90), (0, 0.03, 0.07, 0.09)),
        ((0, 30, 10, 90), (0, 0.03, 0.07, 0.09)),
        ((-9e15, 40, math.nan, math.inf), (0, 0.04, 0.08, 0.12)),
    ],
)
def test_times_increase_whatever_the_file_tells(
    times: tuple[float, ...], seconds: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", type("Odd", (File,), {"times": times}))
    with Video("odd.mp4") as video:
        assert [frame.seconds for frame in video] == pytest.approx(list(seconds))


@pytest.mark.parametrize("name", ["cut.avi", "cut.mkv"])
def test_a_file_that_is_cut_short_lacks_frames(tmp_path: Path, name: str) -> None:
    path = _film(tmp_path / name, "mp4v")
    with Video(path) as video:
        assert len(list(video)) == 60
        assert video.lack is None
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with Video(path) as video:
        assert video.lack is None  # nobody knows yet
        number = len(list(video))
        assert 10 < number < 40
        assert f"cut{path.suffix} gave {number} of the 60 frames that it tells of; is it whole" in video.lack


@pytest.mark.parametrize(
    ("times", "count", "whole"),
    [
        (range(0, 40 * 90, 40), 100, True),  # the sound goes on for less than half a second
        (range(0, 40 * 86, 40), 100, False),
        (range(0, 40 * 990, 40), 1000, True),
        (range(0, 40 * 980, 40), 1000, False),
        (range(0, 100 * 40, 100), 100, True),  # the number is the length by a rate that few frames have
        (range(0, 40 * 90, 40), 0, True),
    ],
)
def test_how_much_a_whole_file_may_lack(times: range, count: int, whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(cv2, "VideoCapture", type("Told", (File,), {"times": tuple(times), "count": count}))
    with Video("told.mkv") as video:
        assert len(list(video)) == len(times)
        assert (video.lack is None) is whole
