# SPDX-License-Identifier: Apache-2.0
"""What a command's inputs name: image files, and the frames of videos and webcams."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

import cv2
import numpy as np
import numpy.typing as npt

from .errors import InputError
from .image_io import IMAGE_SUFFIXES

__all__ = ["Frame", "Source", "Video", "expand", "is_still", "quiet"]

#: An image or video file, or the number of a webcam.
Source = Path | int

_USUAL_RATE = 30.0


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
        Number of frames, as the file tells it; None for a webcam, or where the file does not tell.

    Raises
    ------
    InputError
        It cannot be opened, or, while iterating, gives no frame at all.
    """

    def __init__(self, source: Source) -> None:
        self._source, self._live = source, isinstance(source, int)
        self._name = f"webcam {source}" if self._live else f"video {source}"
        self._capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
        if not self._capture.isOpened():
            self.close()
            raise InputError(f"{self._name} cannot be opened; is it there, readable, and not in use?")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 1.0 <= rate <= 1000.0 else _USUAL_RATE
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.count = int(count) if not self._live and 0 < count < 1e9 else None

    def __iter__(self) -> Iterator[Frame]:
        # In time.monotonic, which steps by 16 ms on Windows, two frames could have one time.
        start, number = time.perf_counter(), 0
        while True:
            more, picture = self._capture.read()
            if not more:
                break
            seconds = time.perf_counter() - start if self._live else number / self.rate
            yield Frame(cast("npt.NDArray[np.uint8]", cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)), seconds)
            number += 1
        if number == 0:
            raise InputError(f"{self._name} gives no frame; is it a video that OpenCV reads?")

    def close(self) -> None:
        """Let go of the file or webcam; a second time does nothing."""
        self._capture.release()

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
