# SPDX-License-Identifier: Apache-2.0
"""One image in, hands in camera space out.

    python examples/track_image.py [IMAGE] [CAMERA.json]

Without arguments it takes the sample, for which the truth is known, and says how far off the hand is. The camera is a
file as cmr-calibrate writes it, of the image's shape.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from cmr_runtime import Camera, HandMeshTracker
from cmr_runtime.image_io import read_image

DATA = Path(__file__).parent / "data"
SAMPLE = DATA / "sample.jpg", DATA / "sample.json"


def main(image: Path, camera_file: Path | None = None) -> None:
    """Track one image and print what was found."""
    rgb = read_image(image)
    camera = Camera.from_json(camera_file, rgb.shape[1], rgb.shape[0]) if camera_file else None
    with HandMeshTracker(mode="image") as tracker:
        hands = tracker.track(rgb, camera)
    for hand in hands:
        x, y, z = hand.translation
        fit = hand.registration
        print(f"{hand.handedness} hand ({hand.score:.2f}) at x {x:+.3f}  y {y:+.3f}  z {z:.3f} m")
        print(f"  standard deviation {np.round(1000 * fit.sigma, 1)} mm, camera {'known' if fit.metric else 'assumed'}")
        if (image, camera_file) == SAMPLE:
            root = np.array(json.loads(camera_file.read_text())["joints_camera_m"])[9]
            error = 1000 * (hand.translation - root)
            print(f"  the truth is {np.hypot(*error[:2]):.0f} mm off to the side and {abs(error[2]):.0f} mm in depth")
    if not hands:
        print("no hand found")


if __name__ == "__main__":
    main(*(map(Path, sys.argv[1:]) if len(sys.argv) > 1 else SAMPLE))
