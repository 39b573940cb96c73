# SPDX-License-Identifier: Apache-2.0
"""A video in, the same video with hands drawn on it out.

python examples/track_video.py VIDEO OUT.mp4
"""

from __future__ import annotations

import sys

from cmr_runtime import HandMeshTracker
from cmr_runtime.draw import draw_hands
from cmr_runtime.outputs import OverlayVideo
from cmr_runtime.sources import Video


def main(source: str, out: str) -> None:
    """Track every frame; a hand found is followed into the next one."""
    with HandMeshTracker(mode="video") as tracker, Video(source) as video, OverlayVideo(out, video.rate) as overlay:
        for image, seconds in video:
            # Timestamps tell the tracker how fast things move; they must increase.
            hands = tracker.track(image, timestamp=seconds)
            overlay.write(draw_hands(image, hands))
            for hand in hands:
                print(f"{seconds:6.2f} s  {hand.handedness:<5}  {hand.translation[2]:.3f} m away")


if __name__ == "__main__":
    main(*sys.argv[1:3])
