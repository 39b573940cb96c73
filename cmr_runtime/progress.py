# SPDX-License-Identifier: Apache-2.0
"""A line on the terminal that tells how far a run is, how fast, and how long it will take."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

__all__ = ["Progress"]

_WIDTH = 24
#: Least time between two drawings, seconds.
_PAUSE = 0.1


class Progress:
    """A progress bar on standard error, or silence where that is no terminal.

    Parameters
    ----------
    label : str
        What is being worked on.
    total : int or None
        How many steps there are; None where nobody knows.
    stream : text stream or None
        Where to draw; standard error if None.
    """

    def __init__(self, label: str, total: int | None, stream: TextIO | None = None) -> None:
        self._label, self._total = label, total
        self._stream = sys.stderr if stream is None else stream
        self._shown = self._stream.isatty()
        self._start = self._last = time.monotonic()
        self._done = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def step(self) -> None:
        """Count a step, and draw again if it is time."""
        self._done += 1
        now = time.monotonic()
        if self._shown and now - self._last >= _PAUSE:
            self._last = now
            self._stream.write(f"\r\x1b[K{self.text(now - self._start)}")
            self._stream.flush()

    def text(self, seconds: float) -> str:
        """Line after so many seconds."""
        rate = self._done / max(seconds, 1e-9)
        if not self._total:
            return f"{self._label}  {self._done}  {rate:.1f}/s"
        done = min(self._done, self._total)
        bar = "#" * (_WIDTH * done // self._total)
        left = round((self._total - done) / rate) if rate else 0
        minutes = f"{left // 3600}:{left // 60 % 60:02d}" if left >= 3600 else f"{left // 60}"
        return f"{self._label}  [{bar:.<{_WIDTH}}] {done}/{self._total}  {rate:.1f}/s  {minutes}:{left % 60:02d} left"

    def clear(self) -> None:
        """Take the line away, so that another may be printed in its place."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
