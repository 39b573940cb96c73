# SPDX-License-Identifier: Apache-2.0
"""Hands that MediaPipe's full model sees in images; runs in an environment with mediapipe.

Paths come on standard input, one a line; for each a JSON line leaves: a list of hands, each 21 (x, y) in pixels.
"""

from __future__ import annotations

import json
import sys

import cv2
import mediapipe


def main() -> None:
    """Answer path by path."""
    hands = mediapipe.solutions.hands.Hands(static_image_mode=True, max_num_hands=2, model_complexity=1)
    for line in sys.stdin:
        image = cv2.imread(line.rstrip("\n"))
        height, width = image.shape[:2]
        found = hands.process(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).multi_hand_landmarks or []
        # Landmarks count from the corner of the first pixel; in ours its centre is (0, 0).
        points = [[[p.x * width - 0.5, p.y * height - 0.5] for p in hand.landmark] for hand in found]
        print(json.dumps(points), flush=True)


if __name__ == "__main__":
    main()
