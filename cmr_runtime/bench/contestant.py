# SPDX-License-Identifier: Apache-2.0
"""A contestant in a process of its own: it loads, tells how long that took, and runs frames when told.

Ours and MediaPipe Hands run by this same file, so that both are timed by the same lines. It is started by its path,
also where the project is not installed: it imports nothing of the project, and what a contestant needs only when that
is timed. `worker` has the form of the messages; a request here is ``{"lead_in": [i, …], "cut": true, "frames": [i,
…]}``: frames to be shown untimed, whether a new video then begins, and the frames to be timed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

__all__ = ["Contestant", "MediaPipe", "Ours", "arguments", "compete", "main", "peak_memory_mb", "serve"]

#: Here the interpreter has started.
BEGAN = time.time()


class Contestant(ABC):
    """Something that finds hands in the frames of a video. Its constructor imports what it needs, and no more."""

    #: Packages whose versions are told.
    packages: tuple[str, ...] = ()

    @abstractmethod
    def load(self) -> None:
        """Make it ready for its first frame."""

    def prepare(self, image: Any, seconds: float) -> Any:
        """Return what `run` takes, from a frame (H, W, 3) uint8 RGB and its time; this is not timed."""
        return image, seconds

    @abstractmethod
    def run(self, prepared: Any) -> Any:
        """Do the work of a frame: this is timed."""

    @abstractmethod
    def tell(self, result: Any) -> dict[str, Any]:
        """Return the number of hands, whether the frame was searched for them, and times of stages in ms; not timed."""

    @abstractmethod
    def cut(self) -> None:
        """Forget what was followed: a new video begins. This is not timed."""


class Ours(Contestant):
    """The tracker of this package, as its users have it: mode video, with smoothing, and a camera of 60 degrees."""

    packages = ("cmr-runtime", "onnxruntime", "numpy")

    def __init__(self, options: argparse.Namespace) -> None:
        self._options, self._package = options, importlib.import_module("cmr_runtime")
        self._tracker_class = self._package.HandMeshTracker  # an attribute that is imported when asked for counts, too

    def load(self) -> None:
        """Open the bundle and its networks."""
        options = self._options
        self._camera = self._package.Camera.from_fov(60.0, options.width, options.height)
        self._tracker = self._tracker_class(
            options.model,
            threads=options.threads,
            num_hands=options.num_hands,
            precision=options.precision,
            providers=[options.provider],
        )

    def run(self, prepared: Any) -> Any:
        """Track."""
        image, seconds = prepared
        return self._tracker.track(image, self._camera, seconds)

    def tell(self, result: Any) -> dict[str, Any]:
        """Stages of a frame are those of its hands, added up; its search counts once."""
        detect = self._tracker.detect_ms
        stages = {"detect": detect} if detect else {}
        for hand in result:
            for stage, ms in vars(hand.times).items():
                if stage != "detect":
                    stages[stage] = stages.get(stage, 0.0) + ms
        return {"hands": len(result), "detecting": detect > 0.0, "stages": stages}

    def cut(self) -> None:
        """Forget."""
        self._tracker.reset()


class MediaPipe(Contestant):
    """MediaPipe Hands for video with its default settings. The number of its threads is its own choice."""

    packages = ("mediapipe", "numpy")

    def __init__(self, options: argparse.Namespace) -> None:
        self._options, self._package = options, importlib.import_module("mediapipe")
        self._followed = 0

    def load(self) -> None:
        """Build its graph."""
        options = self._options
        self._hands = self._package.solutions.hands.Hands(
            static_image_mode=False, max_num_hands=options.num_hands, model_complexity=int(options.system == "full")
        )

    def prepare(self, image: Any, seconds: float) -> Any:
        """Mark the image as read-only, as its documentation advises: it is then not copied."""
        image.flags.writeable = False
        return image

    def run(self, prepared: Any) -> Any:
        """Process."""
        return self._hands.process(prepared)

    def tell(self, result: Any) -> dict[str, Any]:
        """Its graph looks for palms where the frame before had fewer hands than are wanted; stages it does not tell."""
        hands, before = len(result.multi_hand_landmarks or ()), self._followed
        self._followed = hands
        return {"hands": hands, "detecting": before < self._options.num_hands, "stages": {}}

    def cut(self) -> None:
        """Show it a black frame: it loses its hands; its own reset would load the networks again."""
        np = importlib.import_module("numpy")
        options = self._options
        self._hands.process(np.zeros((options.height, options.width, 3), np.uint8))
        self._followed = 0


def peak_memory_mb() -> float | None:
    """Most memory that this process held, MiB; None where the system does not tell.

    Linux counts the parent's memory into ``ru_maxrss`` of a process that was started from it, but not into ``VmHWM``.
    """
    try:
        lines = Path("/proc/self/status").read_text("ascii", "replace").splitlines()
        return next(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024.0 if sys.platform.startswith("linux") else 1024.0**2)


def play(
    contestant: Contestant,
    read: Callable[[int], Any],
    request: dict[str, Any],
    next_time: Callable[[], float],
    clock: Callable[[], float] = time.perf_counter,
    busy: Callable[[], float] = time.process_time,
) -> list[dict[str, Any]]:
    """Show the frames of a request; what each timed one gave, with its time and processor time in milliseconds."""

    def show(number: int) -> dict[str, Any]:
        prepared = contestant.prepare(read(number), next_time())
        busy_before, before = busy(), clock()
        result = contestant.run(prepared)
        after, busy_after = clock(), busy()
        spent = {"ms": 1e3 * (after - before), "cpu_ms": 1e3 * (busy_after - busy_before)}
        return {**spent, **contestant.tell(result)}

    for number in request.get("lead_in", []):
        show(number)
    if request.get("cut"):
        contestant.cut()
    return [show(number) for number in request["frames"]]


def serve(
    contestant: Contestant,
    read: Callable[[int], Any],
    next_time: Callable[[], float],
    requests: Iterable[str],
    answers: TextIO,
) -> None:
    """Answer requests until their end."""
    for line in requests:
        try:
            request = json.loads(line)
            numbers = [*request.get("lead_in", []), *request["frames"]]
            if any(type(number) is not int or number < 0 for number in numbers):
                raise ValueError(numbers)
        except (ValueError, KeyError, TypeError, AttributeError):
            _say(answers, {"error": f'cannot use {line.strip()[:80]!r}; send {{"frames": [0, 1, ...]}}'})
            continue
        samples = play(contestant, read, request, next_time)
        _say(answers, {"samples": samples, "peak_memory_mb": peak_memory_mb()})


def arguments() -> argparse.ArgumentParser:
    """Return the arguments of every contestant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--frames", required=True, help="file of the frames, RGB, one after the other")
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--height", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True, help="frames a second")
    parser.add_argument("--num-hands", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model")
    parser.add_argument("--precision")
    parser.add_argument("--provider", default="CPUExecutionProvider")
    return parser


def compete(make: Callable[[argparse.Namespace], Contestant], options: argparse.Namespace) -> int:
    """Load, see a first frame, greet, serve; returns the exit code."""
    # Native code that prints must not disturb the protocol: from here on, stdout is stderr.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    bytes_each = options.width * options.height * 3
    count, shown = os.path.getsize(options.frames) // bytes_each, 0

    def read(number: int) -> Any:
        # Into memory of its own, as a camera would put it; a map of the file would count as memory of the contestant.
        np = importlib.import_module("numpy")
        frame = np.fromfile(options.frames, np.uint8, bytes_each, offset=number % count * bytes_each)
        return frame.reshape(options.height, options.width, 3)

    def next_time() -> float:
        nonlocal shown
        shown += 1
        return shown / float(options.rate)

    try:
        began = time.perf_counter()
        contestant = make(options)
        imported = time.perf_counter()
        contestant.load()
        loaded = time.perf_counter()
        prepared = contestant.prepare(read(0), next_time())
        ready = time.perf_counter()
        contestant.tell(contestant.run(prepared))
        done = time.perf_counter()
        versions = {name: importlib.metadata.version(name) for name in contestant.packages if _installed(name)}
    except Exception as error:  # Whatever it is, the other side can only report it.
        _say(answers, {"error": f"{type(error).__name__}: {error}"})
        return 1
    spans = {"import": imported - began, "load": loaded - imported, "first": done - ready}
    greeting = {"versions": {**versions, "python": platform.python_version()}, "began": BEGAN}
    _say(answers, {"ready": True, **greeting, "cold_start_ms": {part: 1e3 * span for part, span in spans.items()}})
    serve(contestant, read, next_time, sys.stdin, answers)
    return 0


def _installed(package: str) -> bool:
    try:
        return bool(importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return False


def _say(answers: TextIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Compete as one of the two kinds that this file knows."""
    parser = arguments()
    parser.add_argument("--system", choices=["ours", "lite", "full"], required=True)
    options = parser.parse_args(argv)
    return compete(Ours if options.system == "ours" else MediaPipe, options)


if __name__ == "__main__":
    sys.exit(main())
