# SPDX-License-Identifier: Apache-2.0
"""Palms in a region of an image, by the detector of a bundle, and the hands' boxes around them.

The graph's input and outputs are those of MediaPipe's palm detection, and so is the weighted suppression; the hand's
box around a palm is fitted to the boxes that our networks are trained with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .bundle import Bundle
from .errors import BundleError
from .roi import Roi
from .session import CPU, check_shapes, open_stage

__all__ = ["JOINTS", "Detector", "Palm", "merge"]

_Array = npt.NDArray[np.float64]

#: Values per box: centre, width, height, seven keypoints (x, y).
VALUES = 18
#: Boxes that share more than this (intersection over union) are of one palm (MediaPipe: ``min_suppression_threshold``).
SHARED = 0.3
#: Joints of a hand that a palm's keypoints are: wrist, knuckles from index to little finger, two joints of the thumb.
JOINTS = (0, 5, 9, 13, 17, 1, 2)
#: A hand's box is so many times as large as its palm's, and so many palms further up. Medians over 600 labelled photos,
#: whose hands' boxes are 2.1 (fists) to 4.0 (spread hands) palms large and 0.1 to 0.6 palms up.
HAND_SCALE, HAND_SHIFT = 2.9, 0.4
#: A closer look shows so many hands' boxes: the joints then span 65 of 192 pixels, where the detector misses fewest.
ZOOM = 1.75
#: Keypoints that give a palm its direction: wrist, middle knuckle.
WRIST, MIDDLE = 0, 2


@dataclass(frozen=True, eq=False)
class Palm:
    """A palm that the detector sees.

    Attributes
    ----------
    cx, cy : float
        Centre of its box, pixels of the image.
    size : float
        Larger side of that box, pixels.
    angle : float
        Turn of a square in which the hand points up, radians, as in `Roi`.
    score : float
        Probability.
    keypoints : (7, 2) float64
        Pixels of the image; they are the joints `JOINTS`.
    """

    cx: float
    cy: float
    size: float
    angle: float
    score: float
    keypoints: _Array

    @property
    def roi(self) -> Roi:
        """Square around the whole hand, in which it points up."""
        along = HAND_SHIFT * self.size
        across, down = math.sin(self.angle), math.cos(self.angle)
        return Roi(self.cx + along * across, self.cy - along * down, HAND_SCALE * self.size, self.angle)

    def distance(self, joints: npt.NDArray[np.float64]) -> float:
        """Mean distance of the keypoints from the same joints of a hand, (21, 2) pixels, in sizes of the palm."""
        return float(np.linalg.norm(joints[list(JOINTS)] - self.keypoints, axis=1).mean()) / self.size


class Detector:
    """Finds palms in a region of an image.

    Parameters
    ----------
    bundle : Bundle
        With a detector.
    threads : int
        Threads inside an operator.
    providers : sequence of str
        Execution providers of ONNX Runtime; see `open_stage`.

    Attributes
    ----------
    size : int
        Side of the input, pixels.

    Raises
    ------
    BundleError
        The bundle has no detector, or its graph does not load or has another input or output than the bundle's form.
    """

    def __init__(self, bundle: Bundle, threads: int = 1, providers: Sequence[str] = CPU) -> None:
        if bundle.detector is None or bundle.detector_size is None:
            raise BundleError(f"{bundle.source} has no detector; export it with `cmr-export --detector palm.npz`")
        S = self.size = bundle.detector_size
        self._session, part = open_stage(bundle, "detector", threads, providers)
        check_shapes(self._session.get_inputs(), {"image": (1, 3, S, S)}, part, required=("image",))
        outputs = {"boxes": (1, None, VALUES), "scores": (1, None)}
        shapes = check_shapes(self._session.get_outputs(), outputs, part, required=tuple(outputs))
        if shapes["boxes"][1] != shapes["scores"][1]:
            raise BundleError(
                f"{part} has {shapes['boxes'][1]} boxes and {shapes['scores'][1]} scores; export it again"
            )
        self._buffer = np.empty((1, 3, S, S), np.float32)

    def __call__(self, image: npt.NDArray[np.uint8], region: Roi, min_score: float) -> list[Palm]:
        """Look for palms.

        Parameters
        ----------
        image : (H, W, 3) uint8
            RGB.
        region : Roi
            Square to look at; what lies outside the image is black.
        min_score : float
            Least probability.

        Returns
        -------
        list of Palm
            The surest first.
        """
        crop = region.crop(image, self.size)
        np.multiply(crop.transpose(2, 0, 1), np.float32(1.0 / 255.0), out=self._buffer[0])
        boxes, scores = self._session.run(["boxes", "scores"], {"image": self._buffer})
        likely = (scores[0] >= min_score) & np.isfinite(boxes[0]).all(axis=1) & (boxes[0, :, 2:4] > 0).all(axis=1)
        found = merge(boxes[0, likely].astype(np.float64), scores[0, likely].astype(np.float64))
        return [self._palm(box, score, region) for box, score in found]

    def closer(self, image: npt.NDArray[np.uint8], palm: Palm, min_score: float) -> Palm | None:
        """Look again, close up and with the hand upright; None if there is no longer a palm of that score."""
        box = palm.roi
        near = Roi(box.cx, box.cy, ZOOM * box.size, box.angle)
        seen = self(image, near, min_score)
        return next((p for p in seen if math.hypot(p.cx - palm.cx, p.cy - palm.cy) < palm.size), None)

    def _palm(self, box: _Array, score: float, region: Roi) -> Palm:
        points = region.to_image(np.concatenate([box[:2], box[4:]]).reshape(-1, 2) * self.size - 0.5, self.size)
        keypoints = points[1:]
        across, down = keypoints[MIDDLE] - keypoints[WRIST]
        size = float(box[2:4].max()) * region.size
        return Palm(float(points[0, 0]), float(points[0, 1]), size, math.atan2(across, -down), score, keypoints)


def merge(boxes: _Array, scores: _Array) -> list[tuple[_Array, float]]:
    """Weighted suppression: each box becomes the mean, by score, of those that overlap the best one left.

    Parameters
    ----------
    boxes : (N, 4 + K) array
        Centre (x, y), width, height, and what else is to be averaged with them.
    scores : (N,) array
        Greater than 0.

    Returns
    -------
    list of (box, score)
        The mean box and the best score of each group, the best first.
    """
    order = np.argsort(-scores, kind="stable")
    boxes, scores = boxes[order], scores[order]
    low, high = boxes[:, :2] - 0.5 * boxes[:, 2:4], boxes[:, :2] + 0.5 * boxes[:, 2:4]
    area = boxes[:, 2] * boxes[:, 3]
    left = np.ones(len(boxes), bool)
    found = []
    while left.any():
        best = int(left.argmax())
        sides = np.maximum(np.minimum(high, high[best]) - np.maximum(low, low[best]), 0.0)
        inside = sides[:, 0] * sides[:, 1]
        group = left & (inside > SHARED * (area + area[best] - inside))
        group[best] = True
        found.append((np.average(boxes[group], axis=0, weights=scores[group]), float(scores[best])))
        left &= ~group
    return found
