# SPDX-License-Identifier: Apache-2.0
"""A webcam's hands as they move, in the terminal, and with --view in 3D in the browser. Ctrl-C ends it.

    python examples/webcam.py [SOURCE] [--view]

SOURCE is the number of a webcam, 0 by default, or a video file, which is played at its own speed.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque

import numpy as np

from cmr_runtime import Hand, HandMeshTracker
from cmr_runtime.sources import Video
from cmr_runtime.view3d import HandView


def main(arguments: list[str]) -> None:
    """Hand frames over as they come; the tracker looks at the newest in a thread of its own, and drops the rest."""
    name = next((word for word in arguments if not word.startswith("-")), "0")
    shown_at: deque[float] = deque(maxlen=30)

    def show(hands: list[Hand], timestamp: float, image: np.ndarray) -> None:
        shown_at.append(time.perf_counter())
        rate = (len(shown_at) - 1) / max(shown_at[-1] - shown_at[0], 1e-9)
        where = "  ".join(f"{hand.handedness} at {hand.translation.round(3)} m" for hand in hands)
        print(f"{timestamp:7.2f} s  {rate:3.0f} frames/s  {tracker.dropped} dropped  {where or 'no hand'}", flush=True)
        if view is not None:
            view.show(image, hands)  # at http://localhost:8080

    with contextlib.ExitStack() as stack:
        video = stack.enter_context(Video(int(name) if name.isdecimal() else name))
        view = stack.enter_context(HandView()) if "--view" in arguments else None
        tracker = stack.enter_context(HandMeshTracker(mode="live", on_result=show))
        start = time.perf_counter()
        for image, seconds in video:
            time.sleep(max(0.0, start + seconds - time.perf_counter()))  # a file's frames would come all at once
            tracker.submit(image, timestamp=seconds)  # returns at once


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(sys.argv[1:])
