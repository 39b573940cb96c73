# SPDX-License-Identifier: Apache-2.0
import math
import struct
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from cmr_runtime import InputError
from cmr_runtime.edit_list import shown_seconds
from cmr_runtime.sources import Video, expand


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


def _trim(path: Path, start: float, edits: tuple[float, ...], version: int = 0) -> None:
    """Have an MP4 of `_film` show only some seconds from a start on, in so many edits, without encoding it anew."""
    data = bytearray(path.read_bytes())
    at = data.rindex(b"elst") - 4
    ticks = [struct.unpack_from(">I", data, data.rindex(box) + 16)[0] for box in (b"mvhd", b"mdhd")]
    entry = ">QqI" if version else ">IiI"
    pack = b"".join(struct.pack(entry, round(e * ticks[0]), round(start * ticks[1]), 1 << 16) for e in edits)
    box = struct.pack(">4sB3xI", b"elst", version, len(edits)) + pack
    grown = 4 + len(box) - struct.unpack_from(">I", data, at)[0]
    for outer in (b"edts", b"trak", b"moov"):
        place = data.rindex(outer) - 4
        struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] + grown)
    data[at : at + 4 + len(box) - grown] = struct.pack(">I", 4 + len(box)) + box
    path.write_bytes(data)


@pytest.mark.parametrize("version", [0, 1])
def test_a_file_that_was_trimmed_without_being_encoded_anew_is_whole(tmp_path: Path, version: int) -> None:
    path = _film(tmp_path / "film.mp4", "mp4v")
    _trim(path, 0.8, (1.0,), version)
    with Video(path) as video:
        assert video.count == len(list(video)) == 25
        assert video.lack is None


def test_length_that_an_edit_list_shows(tmp_path: Path) -> None:
    path = _film(tmp_path / "film.mp4", "mp4v")
    assert shown_seconds(path) == 60 / 25
    _trim(path, 0.8, (1.0, 0.5), 1)
    assert shown_seconds(path) == 1.5
    data = path.read_bytes()
    for sound in (b"soun", b"meta"):  # a track of another kind
        path.write_bytes(data.replace(b"vide", sound))
        assert shown_seconds(path) is None
    path.write_bytes(data.replace(b"edts", b"free"))
    assert shown_seconds(path) is None
    start = data.rindex(b"trak") - 4
    (size,) = struct.unpack_from(">I", data, start)
    second = bytearray(data.replace(b"edts", b"free"))  # of two video tracks the first is shown, which has no list here
    second[start + size : start + size] = data[start : start + size]
    struct.pack_into(">I", second, data.rindex(b"moov") - 4, len(data) - data.rindex(b"moov") + 4 + size)
    path.write_bytes(second)
    assert shown_seconds(path) is None
    _trim(_film(path, "mp4v"), -1, (1.0,))  # -1 of the media's ticks would be a delay; this is a second too early
    assert shown_seconds(path) == 1.0


def test_no_file_stops_the_reader_of_edit_lists(tmp_path: Path) -> None:
    path = _film(tmp_path / "film.mp4", "mp4v", frames=2)
    data, random = path.read_bytes(), np.random.default_rng(0)
    for end in range(0, len(data), 31):
        path.write_bytes(data[:end])
        shown_seconds(path)
    for _ in range(300):
        odd = bytearray(data)
        for at in random.integers(data.index(b"moov") - 4, len(data), 6):
            odd[at] = random.choice([0, 1, 255, random.integers(256)])
        path.write_bytes(odd)
        shown_seconds(path)
    assert shown_seconds(_film(tmp_path / "film.avi", "mp4v")) is None
    assert shown_seconds(tmp_path / "none.mp4") is None


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


@pytest.mark.parametrize("number", [-1, 100, 10**20])
def test_numbers_of_no_webcam_are_refused(number: int) -> None:
    with pytest.raises(InputError, match=rf"webcam {number} is none; give its number, 0 \(the first\) to 99"):
        Video(number)
    if number > 0:
        assert expand(str(number)) == [number]
