# SPDX-License-Identifier: Apache-2.0
"""MediaPipe's hand landmarks through a clip: its network in its loop, begun where our tracker first sees a hand.

The next frame's box is drawn around the landmarks of palm and lower finger joints: turned so that the hand points up,
2.0 times their extent, a tenth of it up; a hand is there while presence is at least 0.5 (MediaPipe 0.10.14,
``hand_landmark_tracking``). Its camera space is perspective-n-point of its world landmarks onto its image landmarks.
"""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cmr_runtime import Camera, Roi
from cmr_runtime.bench.peer import mend, peer_python
from cmr_runtime.bench.worker import Worker
from cmr_runtime.peer_eval import place

__all__ = ["Peer", "Seen", "follow"]

FloatArray = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]

SIDE, PRESENCE = 224, 0.5
SCALE, SHIFT = 2.0, 0.1
PALM = [0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18]
INDEX, MIDDLE, RING = 6, 10, 14


class Seen(NamedTuple):
    """Landmarks of a frame."""

    image: FloatArray  # (21, 2) pixels of the image
    world: FloatArray  # (21, 3) metres


class Peer(Worker):
    """The landmark network in a process of its own."""

    def __init__(self, model: str, python: str | None = None) -> None:
        script = Path(__file__).with_name("peer_tracks.py")
        super().__init__(
            [peer_python(python), "-I", str(script), "--model", model], f"MediaPipe {model}", mend=mend(python)
        )

    def look(self, image: Image, roi: Roi) -> Seen | None:
        """Return the landmarks in a region; None without a hand.

        Raises
        ------
        PeerError
            The worker fails.
        """
        crop = roi.crop(image, SIDE)
        landmarks = self.ask({"crop": base64.b64encode(crop.tobytes()).decode()}, "landmarks")
        if not self.answer["presence"] >= PRESENCE:
            return None
        points = np.reshape(landmarks, (21, 3))[:, :2]
        return Seen(roi.to_image(points, SIDE), np.reshape(self.answer["world"], (21, 3)))


def next_roi(points: FloatArray) -> Roi:
    """Return the next frame's region from landmarks (21, 2)."""
    across, down = 0.25 * (points[INDEX] + points[RING]) + 0.5 * points[MIDDLE] - points[0]
    angle = math.atan2(across, -down)
    roi = Roi.around(points[PALM], SCALE, angle)
    up = SHIFT * roi.size / SCALE
    return Roi(roi.cx + up * math.sin(angle), roi.cy - up * math.cos(angle), roi.size, angle)


def follow(peer: Peer, clip: list[Image], starts: list[Roi | None], camera: Camera) -> tuple[FloatArray, int]:
    """Follow one hand through a clip.

    Parameters
    ----------
    peer : Peer
        The network.
    clip : list of (H, W, 3) uint8
        RGB.
    starts : list of Roi or None
        By frame, where to begin while no hand is followed.
    camera : Camera
        Of the clip.

    Returns
    -------
    joints, frames
        (T, 21, 3) metres, camera space, NaN where there is no hand; in how many frames there is one.
    """
    joints, roi, frames = np.full((len(clip), 21, 3), np.nan), None, 0
    for number, image in enumerate(clip):
        roi = roi or starts[number]
        seen = None if roi is None else peer.look(image, roi)
        roi = None if seen is None else next_roi(seen.image)
        if seen is None:
            continue
        frames += 1
        placed = place(seen.world, seen.image, camera)
        if placed is not None:
            joints[number] = placed
    return joints, frames
