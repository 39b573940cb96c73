# SPDX-License-Identifier: Apache-2.0
"""A webcam's hands, as they move: in the terminal, or with --view in 3D in the browser. Ctrl-C ends it.

    python examples/webcam.py [SOURCE] [--view]

SOURCE is the number of a webcam, 0 by default, or a video file.
"""

from __future__ import annotations

import contextlib
import sys
import time

from cmr_runtime import HandMeshTracker
from cmr_runtime.sources import Video
from cmr_runtime.view3d import HandView


def main(arguments: list[str]) -> None:
    """Loop over the frames until there are no more."""
    name = next((word for word in arguments if not word.startswith("-")), "0")
    with contextlib.ExitStack() as stack:
        video = stack.enter_context(Video(int(name) if name.isdecimal() else name))
        tracker = stack.enter_context(HandMeshTracker(mode="video"))
        view = stack.enter_context(HandView()) if "--view" in arguments else None
        for image, seconds in video:
            start = time.perf_counter()
            hands = tracker.track(image, timestamp=seconds)
            frames_per_second = 1 / (time.perf_counter() - start)
            where = "  ".join(f"{hand.handedness} at {hand.translation.round(3)} m" for hand in hands)
            print(f"{frames_per_second:5.0f} frames/s possible  {where or 'no hand'}")
            if view is not None:
                view.show(image, hands)  # at http://localhost:8080


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(sys.argv[1:])
