# SPDX-License-Identifier: Apache-2.0
"""Draw the README's picture: the sample, what is found in it, and the mesh seen from the side.

python examples/make_picture.py
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from cmr_runtime import Camera, HandMeshTracker
from cmr_runtime.draw import draw_hands

DATA = Path(__file__).parent / "data"
OUT = Path(__file__).parents[1] / "docs" / "sample.png"
TURN = np.deg2rad(70.0)


def main() -> None:
    """Write ``docs/sample.png``."""
    rgb = cv2.cvtColor(cv2.imread(str(DATA / "sample.jpg")), cv2.COLOR_BGR2RGB)
    camera = Camera.from_json(DATA / "sample.json")
    with HandMeshTracker(mode="image") as tracker:
        (hand,) = tracker.track(rgb, camera)
    c, s = np.cos(TURN), np.sin(TURN)
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]], np.float32)
    centre = hand.translation.astype(np.float32)
    joints, vertices = ((points - centre) @ turn.T + centre for points in (hand.joints, hand.vertices))
    side = replace(
        hand,
        vertices=vertices.astype(np.float32),
        joints=joints.astype(np.float32),
        keypoints=camera.project(joints).astype(np.float32),
        silhouette=np.empty((0, 2), np.float32),
    )
    panels = [rgb, draw_hands(rgb, [hand]), draw_hands(np.full_like(rgb, 245), [side])]
    panels = [panel[:, 80:560] for panel in panels]
    OUT.parent.mkdir(exist_ok=True)
    picture = cv2.resize(np.hstack(panels), None, fx=2 / 3, fy=2 / 3, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(OUT), picture[..., ::-1])


if __name__ == "__main__":
    main()
