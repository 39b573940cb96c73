# SPDX-License-Identifier: Apache-2.0
"""MediaPipe Hands on views of a photo: what one pass says about a hand, in the photo's pixels.

MediaPipe is imported when a :class:`Detector` is made, so everything else works without it.

Handedness
    MediaPipe Hands names the hand as if the picture were a mirror image (a selfie camera's preview). For an ordinary
    photo its "Left" is therefore an anatomical right hand, and the name is swapped here. The reasoning: look at your
    own right palm, fingers up, and the thumb points to your right; any camera that sees a right palm with fingers up
    sees the same. On photos of that kind MediaPipe says "Left".

Pixels
    MediaPipe's normalised coordinates run from the picture's edge to its edge, hence
    ``pixel = normalised * size - 0.5``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .view import View

__all__ = ["ROOT_JOINT", "Detector", "Pass", "from_mediapipe", "hands_class", "same_hand"]

ROOT_JOINT = 9
MIN_DETECTION = 0.4
"""MediaPipe's palm detection threshold; agreement does the filtering, so it is lower than the default 0.5."""
SAME_HAND = 0.5
"""Two detections closer than this part of the larger box side are one hand."""


@dataclass(frozen=True)
class Pass:
    """One hand as one pass of MediaPipe saw it, already mapped back to the unmirrored photo.

    Attributes
    ----------
    keypoints : ndarray (21, 2)
        Joints in pixels of the photo.
    world : ndarray (21, 3)
        Joints in metres relative to joint 9, x right, y down, z forward.
    right : float
        Probability that it is an anatomical right hand.
    """

    keypoints: np.ndarray
    world: np.ndarray
    right: float

    @property
    def side(self) -> float:
        """Larger side of the joints' bounding box in pixels."""
        return float(np.ptp(self.keypoints, axis=0).max())

    @property
    def centre(self) -> np.ndarray:
        """Centre (2,) of the joints' bounding box in pixels."""
        return (self.keypoints.min(axis=0) + self.keypoints.max(axis=0)) / 2

    @property
    def box(self) -> list[float]:
        """Bounding box x0, y0, x1, y1 of the joints in pixels."""
        return [round(float(v), 1) for v in (*self.keypoints.min(axis=0), *self.keypoints.max(axis=0))]


def same_hand(a: Pass, b: Pass) -> bool:
    """Whether two detections are one hand: their centres are close for their size."""
    return bool(np.linalg.norm(a.centre - b.centre) < SAME_HAND * max(a.side, b.side))


def from_mediapipe(points: np.ndarray, world: np.ndarray, label: str, score: float, view: View, mirrored: bool) -> Pass:
    """Translate MediaPipe's answer: edge-normalised points, selfie handedness, and a mirrored view if it was one.

    Parameters
    ----------
    points : ndarray (21, 2)
        Landmarks, normalised from edge to edge of what MediaPipe saw.
    world : ndarray (21, 3)
        World landmarks in metres.
    label : {"Left", "Right"}
        MediaPipe's name of the hand, which presumes a mirror image.
    score : float
        Probability of that name.
    view : View
        What MediaPipe saw, before mirroring.
    mirrored : bool
        Whether it saw the view's mirror image.
    """
    points, world = points.copy(), world - world[ROOT_JOINT]
    right = score if label == "Left" else 1.0 - score
    if mirrored:
        points[:, 0] = 1.0 - points[:, 0]
        world[:, 0] = -world[:, 0]
        right = 1.0 - right
    return Pass(view.to_image(points), world, float(right))


def hands_class() -> Any:
    """Return MediaPipe's class; ends the program where it is not installed."""
    try:
        from mediapipe.python.solutions.hands import Hands
    except ImportError as error:  # pragma: no cover - depends on the environment
        raise SystemExit(
            "cmr_models.pseudo_label needs mediapipe==0.10.14, which is not installed here; "
            "make an environment of its own: python -m venv mp && mp/bin/pip install mediapipe==0.10.14"
        ) from error
    return Hands


class Detector:
    """MediaPipe Hands, full and lite, on views of a photo."""

    def __init__(self) -> None:
        hands = hands_class()
        self._models = {
            name: hands(
                static_image_mode=True,
                max_num_hands=2,
                model_complexity=complexity,
                min_detection_confidence=MIN_DETECTION,
            )
            for name, complexity in (("full", 1), ("lite", 0))
        }

    def __call__(self, image: np.ndarray, view: View, model: str = "full", mirrored: bool = False) -> list[Pass]:
        """Find hands in a view.

        Parameters
        ----------
        image : ndarray (H, W, 3) uint8
            RGB photo.
        view : View
            Part of it to search.
        model : {"full", "lite"}
            Landmark network.
        mirrored : bool
            Show MediaPipe the mirror image; the result is mirrored back.

        Returns
        -------
        list of Pass
            Hands in pixels of the photo.
        """
        pixels = view.render(image)
        if mirrored:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
        result = self._models[model].process(pixels)
        if not result.multi_hand_landmarks:
            return []
        found = []
        for flat, solid, handedness in zip(
            result.multi_hand_landmarks, result.multi_hand_world_landmarks, result.multi_handedness, strict=True
        ):
            points = np.array([[p.x, p.y] for p in flat.landmark])
            world = np.array([[p.x, p.y, p.z] for p in solid.landmark])
            kind = handedness.classification[0]
            found.append(from_mediapipe(points, world, kind.label, kind.score, view, mirrored))
        return found
