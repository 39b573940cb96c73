# SPDX-License-Identifier: Apache-2.0
"""Your own detector finds the boxes, the tracker does the rest.

python examples/own_detector.py [IMAGE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from cmr_runtime import HandMeshTracker
from cmr_runtime.image_io import read_image

SAMPLE = Path(__file__).parent / "data" / "sample.jpg"


def detect(rgb: npt.NDArray[np.uint8]) -> list[tuple[float, float, float, float]]:
    """Boxes (x0, y0, x1, y1) in pixels around what has the colour of skin; put your detector here."""
    skin = cv2.inRange(cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb), (90, 140, 90), (230, 150, 125))
    skin = cv2.morphologyEx(skin, cv2.MORPH_OPEN, np.ones((7, 7), np.uint8))
    _, _, blobs, _ = cv2.connectedComponentsWithStats(skin)
    large = [blob for blob in blobs[1:].tolist() if blob[4] > 0.01 * skin.size]
    # A margin around the hand: boxes need not be square, or fit well, or lie within the image.
    return [(x - 0.2 * w, y - 0.2 * h, x + 1.2 * w, y + 1.2 * h) for x, y, w, h, _ in large]


def main(path: str | Path) -> None:
    """Look into each box; those without a hand give none."""
    rgb = read_image(path)
    boxes = detect(rgb)
    with HandMeshTracker(mode="image") as tracker:
        hands = tracker.track(rgb, rois=boxes)
    print(f"{len(boxes)} boxes, {len(hands)} with a hand")
    for hand in hands:
        print(f"{hand.handedness} hand ({hand.score:.2f}), wrist at pixel {hand.keypoints[0].round()}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else SAMPLE)
