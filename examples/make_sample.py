# SPDX-License-Identifier: Apache-2.0
"""Render the sample of `make demo`: one hand, 640 x 480, with its camera and its true joints.

    python examples/make_sample.py

The picture is the data engine's own, so that it may be shipped; ``sample.json`` holds what is exactly known about it.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import torch

from cmr_models.hand import load_hand
from cmr_models.synth.background import Backgrounds
from cmr_models.synth.engine import Engine, compose

WIDTH, HEIGHT = 640, 480
SEED = 376  # of 23 hands that lie wholly in the picture and are found, the one with the median error
FOLDER = Path(__file__).parent / "data"


def main() -> None:
    """Write ``data/sample.jpg`` and ``data/sample.json``."""
    batch = Engine(load_hand(), size=HEIGHT, seed=SEED).render(1)
    background = torch.from_numpy(np.ascontiguousarray(Backgrounds(None, SEED).sample(1, WIDTH)[0][:HEIGHT]))
    left = (WIDTH - HEIGHT) // 2
    image = background.clone()
    image[:, left : left + HEIGHT] = compose(batch.rgba[0], background[:, left : left + HEIGHT])
    FOLDER.mkdir(exist_ok=True)
    cv2.imwrite(str(FOLDER / "sample.jpg"), image.numpy()[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    focal, middle = float(batch.focal[0]), (HEIGHT - 1) / 2
    about = {
        "camera": {"fx": focal, "fy": focal, "cx": middle + left, "cy": middle, "width": WIDTH, "height": HEIGHT},
        "handedness": "right",
        "joints_camera_m": (batch.joints[0] + batch.root[0]).numpy().round(5).tolist(),
        "keypoints_px": (batch.keypoints[0].numpy() + np.float32([left, 0])).round(2).tolist(),
    }
    (FOLDER / "sample.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
