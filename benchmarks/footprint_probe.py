# SPDX-License-Identifier: Apache-2.0
"""One fresh process, from its start to its first hand and through a video: what each part takes.

`footprint` runs this file with the interpreter of an environment that holds nothing but the package, so it imports
nothing else of this folder, and nothing of the package before its clock runs.
"""

from __future__ import annotations

import json
import resource
import sys
import time

__all__ = ["main"]


def _peak_bytes() -> int:
    """Peak resident memory of this process so far; the unit of ``ru_maxrss`` is the byte on macOS and KiB elsewhere."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _private_bytes() -> int | None:
    """Resident memory that no file backs; the rest is mostly libraries. None where the system does not tell."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["RssAnon"].split()[0]) * 1024
    except (OSError, KeyError):
        return None


def main(argv: list[str]) -> None:
    """Print ``{"seconds": {part: s}, "peak_bytes": {moment: bytes}, "private_bytes": bytes, "hands": n}``.

    Parameters
    ----------
    argv : list of str
        `time.monotonic` when the process was asked for, the image, the file of its camera, and how many frames.
    """
    started, image, about, frames = float(argv[0]), argv[1], argv[2], int(argv[3])
    marks = [started, time.monotonic()]

    from cmr_runtime import Camera, HandMeshTracker
    from cmr_runtime.image_io import read_image

    marks.append(time.monotonic())
    rgb = read_image(image)
    camera = Camera.from_json(about)
    marks.append(time.monotonic())
    with HandMeshTracker(mode="video") as tracker:
        marks.append(time.monotonic())
        hands = tracker.track(rgb, camera)
        marks.append(time.monotonic())
        peaks = {"1 frame": _peak_bytes()}
        for _ in range(frames - 1):
            tracker.track(rgb, camera)
        peaks[f"{frames} frames"] = _peak_bytes()
        private = _private_bytes()
    parts = ("start of the interpreter", "import", "reading the image", "making the tracker", "first frame")
    seconds = {part: later - earlier for part, earlier, later in zip(parts, marks, marks[1:], strict=False)}
    print(json.dumps({"seconds": seconds, "peak_bytes": peaks, "private_bytes": private, "hands": len(hands)}))


if __name__ == "__main__":
    main(sys.argv[1:])
