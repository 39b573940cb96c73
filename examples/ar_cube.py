# SPDX-License-Identifier: Apache-2.0
"""Augmented reality: a cube of 4 cm that stands on the palm, in camera space and in metres.

python examples/ar_cube.py OUT.png [IMAGE CAMERA.json]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from cmr_runtime import Camera, HandMeshTracker
from cmr_runtime.draw import draw_mesh
from cmr_runtime.image_io import read_image, write_image

DATA = Path(__file__).parent / "data"
WRIST, INDEX, LITTLE = 0, 5, 17
SIDE = 0.04
# A cube of side 1 on the plane z = 0: four corners a side, counter-clockwise seen from outside, two triangles each.
CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0.0, 1.0)])
CUBE = CORNERS[[0, 1, 3, 2, 4, 6, 7, 5, 0, 4, 5, 1, 2, 3, 7, 6, 0, 2, 6, 4, 1, 5, 7, 3]]
FACES = np.array([[4 * side + i for i in corners] for side in range(6) for corners in ((0, 1, 2), (0, 2, 3))], np.int32)


def main(out: Path, image: Path = DATA / "sample.jpg", camera: Path = DATA / "sample.json") -> None:
    """Find the palm's plane, stand the cube on it, draw it as the camera sees it."""
    rgb = read_image(image)
    intrinsics = Camera.from_json(camera, rgb.shape[1], rgb.shape[0])
    with HandMeshTracker(mode="image") as tracker:
        for hand in tracker.track(rgb, intrinsics):
            wrist, index, little = hand.joints[[WRIST, INDEX, LITTLE]].astype(float)
            up = np.cross(index - wrist, little - wrist)  # out of a right palm, into a left one
            up *= (1 if hand.handedness == "right" else -1) / np.linalg.norm(up)
            along = (index + little) / 2 - wrist
            along /= np.linalg.norm(along)
            along -= (along @ up) * up
            axes = np.stack([along, np.cross(up, along), up])
            # On the skin, which is a centimetre above the bones.
            cube = (wrist + index + little) / 3 + 0.01 * up + SIDE * CUBE @ axes
            rgb = draw_mesh(rgb, cube, FACES, hand.camera, (255, 196, 60), opacity=0.9)
            print(f"cube on the {hand.handedness} palm, {cube[:, 2].min():.3f} to {cube[:, 2].max():.3f} m away")
    write_image(out, rgb)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
