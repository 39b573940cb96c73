# SPDX-License-Identifier: Apache-2.0
"""MediaPipe Hands on photos, in an environment of its own, for the columns beside ours of `cmr-eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from .accuracy import Seen
from .bench.peer import mend, peer_python
from .bench.worker import Worker
from .camera import Camera

__all__ = ["MODELS", "Peer", "place"]

#: MediaPipe's hand models.
MODELS = ("lite", "full")

_SCRIPT = Path(__file__).with_name("bench") / "peer_photos.py"
#: MediaPipe Hands names a hand as if the photo were a mirror image. The photos of `joints3d`, which are none, bear it
#: out: all hands there are left ones, and every one that it finds is "Right" to it.
_SIDES: dict[str, Literal["left", "right"]] = {"Left": "right", "Right": "left"}

_Array = npt.NDArray[np.float64]


class Peer(Worker):
    """A model of MediaPipe Hands in a process of its own.

    Parameters
    ----------
    model : {"lite", "full"}
        Which.
    python : str or None
        Interpreter with mediapipe; None is that of `bench.peer`.

    Attributes
    ----------
    name : str
        Heads its column.

    Raises
    ------
    PeerError
        There is no such environment, or the worker does not start.
    """

    def __init__(self, model: str, python: str | None = None) -> None:
        self.name = f"MediaPipe {model}"
        super().__init__([peer_python(python), "-I", str(_SCRIPT), "--model", model], self.name, mend(python))

    def look(self, photo: Path, camera: Camera) -> Seen | None:
        """Return what it says of a photo; None where it finds no hand, or one that is nowhere before the camera.

        It does not place the hand: perspective-n-point of its world landmarks onto its image landmarks does.

        Raises
        ------
        PeerError
            The worker is gone, or answers with anything but a hand.
        """
        hand = self.ask({"photo": str(photo.resolve())}, "hand")
        if hand is None:
            return None
        try:
            landmarks, world = _points(hand["landmarks"], 2), _points(hand["world"], 3)
            side = _SIDES[hand["handedness"]]
        except (KeyError, TypeError, ValueError) as error:
            raise self.error(f"answers to {photo.name} with what is no hand ({error!r})") from error
        # Landmarks count from the corner of the first pixel; in ours its centre is (0, 0).
        keypoints = landmarks * (camera.width, camera.height) - 0.5
        joints = place(world, keypoints, camera)
        return None if joints is None else Seen(keypoints, joints, world, side)


def place(relative: _Array, keypoints: _Array, camera: Camera) -> _Array | None:
    """Turn and move joints so that they project where they are seen (SQPnP: Terzakis and Lourakis, ECCV 2020).

    Parameters
    ----------
    relative : (N, 3) array
        Joints in a frame of their own, metres.
    keypoints : (N, 2) array
        Pixels.
    camera : Camera
        Of the photo.

    Returns
    -------
    (N, 3) array or None
        Metres, camera frame; None where there is no such place before the camera.
    """
    try:
        solved, turn, shift = cv2.solvePnP(relative, keypoints, camera.matrix, None, flags=cv2.SOLVEPNP_SQPNP)
    except cv2.error:  # all in one point
        return None
    if not solved:
        return None
    joints: _Array = relative @ cv2.Rodrigues(turn)[0].T + shift[:, 0]
    return joints if (joints[:, 2] > 0).all() else None


def _points(value: Any, dimensions: int) -> _Array:
    points = np.asarray(value, dtype=np.float64)
    if points.shape != (21, dimensions) or not np.isfinite(points).all():
        raise ValueError(f"points of shape {points.shape}, finite or not, in place of {(21, dimensions)}")
    return points
