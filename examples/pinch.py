# SPDX-License-Identifier: Apache-2.0
"""A pinch of thumb and index finger, judged in metres: the same near and far, whichever way the hand is turned.

python examples/pinch.py VIDEO|WEBCAM
"""

from __future__ import annotations

import sys

import numpy as np

from cmr_runtime import HandMeshTracker
from cmr_runtime.sources import Video

THUMB_TIP, INDEX_TIP = 4, 8
#: It closes under the first and opens over the second, metres: between them it stays what it is and does not flicker.
CLOSED, OPEN = 0.025, 0.040


def main(source: str) -> None:
    """Print when the fingers close and open."""
    pinched = False
    with HandMeshTracker(mode="video") as tracker, Video(int(source) if source.isdecimal() else source) as video:
        for image, seconds in video:
            for hand in tracker.track(image, timestamp=seconds):
                # A distance within the hand is in metres even without a camera matrix; the hand's size is assumed.
                gap = float(np.linalg.norm(hand.joints[THUMB_TIP] - hand.joints[INDEX_TIP]))
                now = gap < (OPEN if pinched else CLOSED)
                if now != pinched:
                    print(f"{seconds:6.2f} s  {'pinch' if now else 'open '}  at {hand.joints[INDEX_TIP].round(3)} m")
                pinched = now
                print(f"{seconds:6.2f} s  tips {1000 * gap:3.0f} mm apart", end="\r", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1])
