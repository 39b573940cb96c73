# SPDX-License-Identifier: Apache-2.0
"""A worker thread of which the newest frame wins: what comes while it works waits in one place, never in a queue."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import NamedTuple
from weakref import WeakSet, ref

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

    Between two frames the thread holds no reference to it, so that one that nobody closed is collected, and its thread
    ends.

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
        self._error: BaseException | None = None
        self._change = threading.Lock()
        self._working = threading.RLock()
        # What wakes the thread: True for a frame that waits, False for the end. The end may be said in the midst of a
        # garbage collection, in any thread, which this queue is made for and a lock is not.
        self._calls = calls = SimpleQueue[bool]()
        self._thread = threading.Thread(
            target=_serve, args=(calls, ref(self, lambda _: calls.put(False))), name="cmr-live", daemon=True
        )
        self._thread.start()
        _workers.add(self)

    def submit(self, image: _Image, camera: Camera, metric: bool, seconds: float) -> None:
        """Put a frame in the place of the one that waits; it raises what went wrong in the thread since the last."""
        with self._change:
            self._drop()
            self._waiting = _Frame(image, camera, metric, seconds)
        self._calls.put(True)
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
        self.stop()
        self._raise()

    def stop(self) -> None:
        """End the thread after the frame that it works on."""
        with self._change:
            self._drop()
        self._calls.put(False)
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

    def work(self) -> None:
        """Look at the frame that waits, in the thread."""
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


#: Those whose thread may be at work.
_workers: WeakSet[Worker] = WeakSet()


def _serve(calls: SimpleQueue[bool], owner: ref[Worker]) -> None:
    """Work for a worker until it says the end, or is no more."""
    while calls.get() and (worker := owner()) is not None:
        worker.work()
        del worker


@atexit.register
def _stop_all() -> None:
    """End all threads: one inside a network while the interpreter goes down would crash it."""
    for worker in list(_workers):
        worker.stop()
