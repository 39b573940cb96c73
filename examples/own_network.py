# SPDX-License-Identifier: Apache-2.0
"""The registration alone: your network's mesh and keypoints in, its place in the camera out.

    python examples/own_network.py

Any network that gives a root-relative mesh, its joints and 2D keypoints will do; here the sample's truth, with noise,
stands for one, so that the result can be judged.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from cmr_runtime import Camera, register

SAMPLE = Path(__file__).parent / "data" / "sample.json"
ABOUT = json.loads(SAMPLE.read_text())


def main() -> None:
    """Place the hand, and say how far off it is."""
    rng, truth = np.random.default_rng(0), np.array(ABOUT["joints_camera_m"])
    camera = Camera.from_json(SAMPLE)
    # What a network gives: joints relative to the root (the middle knuckle) off by 3 mm, keypoints by 2 pixels.
    joints = truth - truth[9] + rng.normal(0, 0.003, truth.shape)
    keypoints = np.array(ABOUT["keypoints_px"]) + rng.normal(0, 2.0, (21, 2))
    scores = np.ones(21)
    # The silhouette's contour would go in the place of None; without it the 2D pose decides alone. The size is that of
    # the network's hand within 8 %; scale_prior or hand_length say what you know better.
    fit = register(joints, joints, keypoints, scores, None, camera)

    in_camera = fit.scale * joints + fit.translation
    print("root at", fit.translation.round(3), "m; the truth is", truth[9].round(3))
    print("standard deviation", (1000 * fit.sigma).round(1), "mm;", int(fit.inliers.sum()), "of 21 joints agree")
    print(f"mean error of the joints {1000 * np.linalg.norm(in_camera - truth, axis=1).mean():.1f} mm")


if __name__ == "__main__":
    main()
