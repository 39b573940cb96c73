# SPDX-License-Identifier: Apache-2.0
"""A worker thread of which the newest frame wins: what comes while it works waits in one place, never in a queue."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .camera import Camera
from .results import Hand

__all__ = ["Worker"]

_Image = npt.NDArray[np.uint8]


class _Frame(NamedTuple):
    image: _Image
    camera: Camera
    metric: bool
    seconds: float


class Worker:
    """Runs frames through a function in a thread of its own, and hands the results on.

    Parameters
    ----------
    process : callable
        ``process(image, camera, metric, seconds)`` returns hands.
    on_result : callable
        ``on_result(hands, seconds, image)``.

    Attributes
    ----------
    dropped : int
        Frames that gave way to newer ones.
    """

    def __init__(
        self,
        process: Callable[[_Image, Camera, bool, float], list[Hand]],
        on_result: Callable[[list[Hand], float, _Image], object],
    ) -> None:
        self.dropped = 0
        self._process, self._on_result = process, on_result
        self._waiting: _Frame | None = None
        self._closed = False
        self._error: BaseException | None = None
        self._change = threading.Condition()
        self._working = threading.RLock()
        self._thread = threading.Thread(target=self._run, name="cmr-live", daemon=True)
        self._thread.start()
        # A thread inside a network while the interpreter goes down would crash it.
        atexit.register(self._stop)

    def submit(self, image: _Image, camera: Camera, metric: bool, seconds: float) -> None:
        """Put a frame in the place of the one that waits; it raises what went wrong in the thread since the last."""
        with self._change:
            self._drop()
            self._waiting = _Frame(image, camera, metric, seconds)
            self._change.notify()
        self._raise()

    @contextmanager
    def still(self) -> Iterator[None]:
        """Drop the frame that waits, and hold the thread between two frames."""
        with self._working:
            with self._change:
                self._drop()
            yield

    def close(self) -> None:
        """End the thread after the frame that it works on, and raise what went wrong in it since the last frame."""
        self._stop()
        atexit.unregister(self._stop)
        self._raise()

    def _stop(self) -> None:
        with self._change:
            self._closed = True
            self._drop()
            self._change.notify()
        if threading.current_thread() is not self._thread:  # on_result may close
            self._thread.join()

    def _drop(self) -> None:
        self.dropped += self._waiting is not None
        self._waiting = None

    def _raise(self) -> None:
        with self._change:
            error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self) -> None:
        while not self._closed:
            with self._change:
                self._change.wait_for(lambda: self._closed or self._waiting is not None)
            try:
                with self._working:
                    frame = self._take()
                    hands = [] if frame is None else self._process(*frame)
                if frame is not None:
                    self._on_result(hands, frame.seconds, frame.image)
            except BaseException as error:  # whatever it is, SystemExit too, it belongs to the caller
                with self._change:
                    self._error = self._error or error

    def _take(self) -> _Frame | None:
        """Return the frame that waits; it may be gone by now."""
        with self._change:
            frame, self._waiting = self._waiting, None
        return frame
