# SPDX-License-Identifier: Apache-2.0
"""How much of its video an MP4 or QuickTime file shows.

A video that was trimmed without being encoded anew keeps all its frames, and an *edit list* says which of them are
shown (ISO/IEC 14496-12, 8.6.6): decoders skip the others, though the file's number of frames counts them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["shown_seconds"]

#: An edit that shows nothing, for so long: it delays the video.
_NOTHING = -1
#: Most boxes of one box, and most edits, that are read: others have a handful.
_MOST = 10_000


def shown_seconds(path: Path) -> float | None:
    """Length of what the edit list of the first video track shows, seconds.

    Returns
    -------
    float or None
        None where the file has no such list, or is none that can be understood.
    """
    try:
        with path.open("rb") as file:
            return _of_file(file, path.stat().st_size)
    except (OSError, struct.error, OverflowError):
        return None


def _of_file(file: BinaryIO, size: int) -> float | None:
    for kind, end in _boxes(file, size):
        if kind != b"moov":
            continue
        scale, video, units = 0, False, None
        for part, part_end in _boxes(file, end):
            if part == b"mvhd":
                scale = _timescale(file)
            elif part == b"trak" and not video:
                video, units = _of_track(file, part_end)
        return units / scale if video and units and scale else None
    return None


def _boxes(file: BinaryIO, end: int) -> Iterator[tuple[bytes, int]]:
    """Kind and end of each box from here to ``end``, the file at its content; it may be left anywhere."""
    at = file.tell()
    for _ in range(_MOST):
        if at + 8 > end:
            return
        file.seek(at)
        size, kind = struct.unpack(">I4s", file.read(8))
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
        elif size == 0:
            size = end - at
        if size < file.tell() - at:
            return
        at += size
        yield kind, min(at, end)


def _timescale(file: BinaryIO) -> int:
    """Units a second, of the content of ``mvhd``."""
    version = file.read(4)[:1]
    file.seek(16 if version == b"\1" else 8, 1)
    (scale,) = struct.unpack(">I", file.read(4))
    return int(scale)


def _of_track(file: BinaryIO, end: int) -> tuple[bool, int | None]:
    """Whether a track is a video, and the length of its edits in units of the movie; None if it has none."""
    units, video = None, False
    for kind, kind_end in _boxes(file, end):
        if kind == b"edts":
            for part, _ in _boxes(file, kind_end):
                units = _edits(file) if part == b"elst" else units
        elif kind == b"mdia":
            for part, _ in _boxes(file, kind_end):
                if part == b"hdlr":
                    file.seek(8, 1)
                    video = file.read(4) == b"vide"
    return video, units


def _edits(file: BinaryIO) -> int:
    """Sum of the lengths of all edits that show something, of the content of ``elst``."""
    version, count = struct.unpack(">B3xI", file.read(8))
    entry = struct.Struct(">QqI" if version == 1 else ">IiI")
    shown = 0
    for _ in range(min(count, _MOST)):
        length, start, _rate = entry.unpack(file.read(entry.size))
        shown += length if start != _NOTHING else 0
    return shown
