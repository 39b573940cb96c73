# SPDX-License-Identifier: Apache-2.0
"""What a command's inputs name: image files, and the frames of videos and webcams."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

import cv2
import numpy as np
import numpy.typing as npt

from .edit_list import shown_seconds
from .errors import InputError
from .image_io import IMAGE_SUFFIXES
from .smoothing import DEFAULT_RATE

__all__ = ["Frame", "Source", "Video", "expand", "is_still", "quiet"]

#: An image or video file, or the number of a webcam.
Source = Path | int

#: Highest number of a webcam: OpenCV keeps hundreds for the ways to reach one.
MOST_WEBCAM = 99

#: What a whole file may lack of the frames that it tells of: a share of them, or seconds where these are more. Decoders
#: may keep a few back; and where a container tells no number, one is made of its length, which sound may prolong.
_LACKING, _LACKING_SECONDS = 0.01, 0.5


class Frame(NamedTuple):
    """A frame of a video: (H, W, 3) uint8 RGB, and seconds since its start; of a webcam by `time.perf_counter`."""

    image: npt.NDArray[np.uint8]
    seconds: float


def quiet() -> None:
    """Keep OpenCV and FFmpeg from remarking on files that they cannot open; our own line says it."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


def expand(text: str) -> list[Source]:
    """Files or the webcam's number that an input names.

    A folder stands for the images in it, ``-`` for what the lines of standard input name.

    Raises
    ------
    InputError
        No such file, a folder without images, or an empty list.
    """
    if text == "-":
        lines = [line.rstrip("\r\n") for line in sys.stdin]
        listed = [source for line in lines if line.strip() for source in _expand_file(line)]
        if not listed:
            raise InputError("standard input names no file; give one a line, for instance `ls *.jpg | cmr-track -`")
        return listed
    path = Path(text)
    if path.is_dir():
        images = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not images:
            raise InputError(f"folder {path} holds no images ({', '.join(IMAGE_SUFFIXES)})")
        return list(images)
    if path.is_file():
        return [path]
    if text.isdecimal():
        return [int(text)]
    raise InputError(f"no file or folder {path}; a webcam is given by its number, 0 is the first")


def _expand_file(line: str) -> list[Source]:
    """Return what a line of a list names; a file that is not there is found out when its turn comes."""
    return expand(line) if Path(line).is_dir() else [Path(line)]


def is_still(source: Source) -> bool:
    """Whether a source is an image, by its name."""
    return isinstance(source, Path) and source.suffix.lower() in IMAGE_SUFFIXES


class Video:
    """The frames of a video file or webcam, one after the other.

    Parameters
    ----------
    source : path or int
        The file, or the number of the webcam.

    Attributes
    ----------
    rate : float
        Frames per second; 30 where the source does not tell.
    count : int or None
        Number of frames shown, as the file tells it; None for a webcam, or where the file does not tell.
    lack : str or None
        Why the frames may not be all, known once the last one is read; None as long as nothing tells so.

    Raises
    ------
    InputError
        It cannot be opened, or, while iterating, gives no frame at all.
    """

    def __init__(self, source: Source) -> None:
        self._live = isinstance(source, int)
        if isinstance(source, int) and not 0 <= source <= MOST_WEBCAM:
            raise InputError(f"webcam {source} is none; give its number, 0 (the first) to {MOST_WEBCAM}")
        self._name = f"webcam {source}" if self._live else f"video {source}"
        self._capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
        if not self._capture.isOpened():
            self.close()
            raise InputError(f"{self._name} cannot be opened; is it there, readable, and not in use?")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 1.0 <= rate <= 1000.0 else DEFAULT_RATE
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.count = int(count) if not self._live and 0 < count < 1e9 else None
        shown = None if isinstance(source, int) else shown_seconds(Path(source))
        if self.count is not None and shown is not None:
            self.count = min(self.count, math.ceil(shown * self.rate))
        self.lack: str | None = None

    def __iter__(self) -> Iterator[Frame]:
        # In time.monotonic, which steps by 16 ms on Windows, two frames could have one time.
        start, number, seconds = time.perf_counter(), 0, -1.0 / self.rate
        while True:
            more, picture = self._capture.read()
            if not more:
                break
            seconds = time.perf_counter() - start if self._live else self._time(seconds)
            yield Frame(cast("npt.NDArray[np.uint8]", cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)), seconds)
            number += 1
        if number == 0:
            raise InputError(f"{self._name} gives no frame; is it a video that OpenCV reads?")
        self.lack = self._end(number, seconds)

    def _time(self, last: float) -> float:
        """Time of the frame just read, seconds: the container's own where it increases, else one by the rate."""
        told = max(0.0, self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3)
        return told if last < told < math.inf else last + 1.0 / self.rate

    def _end(self, number: int, seconds: float) -> str | None:
        """Return what the end after so many frames, the last at a time, tells of frames that are lacking."""
        if self._live:
            return f"{self._name} ended by itself after {number} frames; is it plugged in, and in no other use?"
        if self.count is None:
            return None
        # Of a video with a variable rate the number may be made of its length: it is whole if it lasts as long.
        reached = max(number, seconds * self.rate + 1.0)
        if reached >= self.count - max(_LACKING * self.count, _LACKING_SECONDS * self.rate):
            return None
        return f"{self._name} gave {number} of the {self.count} frames that it tells of; is it whole?"

    def close(self) -> None:
        """Let go of the file or webcam; a second time does nothing."""
        self._capture.release()

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
