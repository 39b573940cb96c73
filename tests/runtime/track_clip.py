# SPDX-License-Identifier: Apache-2.0
"""A clip of a moving disc, and the lines that `cmr-track` wrote about it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from disc_bundle import draw_disc


def disc_frame(number: int) -> np.ndarray:
    return draw_disc(160, 120, 70 + 2 * number, 60, 24)


def make_clip(path: Path, frames: int = 8) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (160, 120))
    assert writer.isOpened()
    for number in range(frames):
        writer.write(cv2.cvtColor(disc_frame(number), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def read_lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "hands.jsonl").read_text().splitlines()]
