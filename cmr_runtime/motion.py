# SPDX-License-Identifier: Apache-2.0
"""Where a hand will be in the next frame, if it goes on as it did: constant velocity in direction and in log depth."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from .arguments import MAX_REACH
from .camera import Camera
from .finding import ROOMY
from .results import Hand
from .roi import Roi

__all__ = ["Motion", "extent"]

_Float = npt.NDArray[np.float64]

#: Seconds over which velocities are averaged: in the image, and of the depth, which trembles more.
AVERAGED = (0.05, 0.05, 0.2)
#: Seconds after which a hand that was not seen is no longer taken to go on.
HORIZON = 0.25
#: Fastest that a hand moves towards the camera or away from it, m/s: about a boxer's.
FASTEST = 8.0
#: Part of the depth, as its logarithm, that two frames may differ by without any motion: the depth's own error.
UNSURE = 0.3


class Motion:
    """The last placed joints of a hand, when that was, and how fast it went."""

    def __init__(self) -> None:
        self._at = np.zeros(3)
        self._velocity = np.zeros(3)
        self._time = -math.inf

    def update(self, hand: Hand, time: float) -> None:
        """Take over the hand of a frame, seconds."""
        place = _place(hand.translation)
        gap = time - self._time
        if gap > HORIZON:
            self._velocity = np.zeros(3)
        else:
            share = -np.expm1(-gap / np.array(AVERAGED))
            self._velocity = self._velocity + share * ((place - self._at) / gap - self._velocity)
        self._at, self._time = place, time
        self._shape = hand.joints.astype(np.float64) - hand.translation
        self._roi = hand.roi

    def root(self, time: float) -> _Float:
        """Where the root is expected, (3,) metres, camera frame."""
        x, y, log_depth = self._at + min(time - self._time, HORIZON) * self._velocity
        return math.exp(log_depth) * np.array([x, y, 1.0])

    @property
    def region(self) -> Roi:
        """Where the hand was last looked at."""
        return self._roi

    def points(self, time: float, camera: Camera) -> _Float:
        """Where the joints are expected, (J, 2) pixels: as they were placed, steadier than 2D keypoints."""
        return camera.project(self._shape + self.root(time))

    def roi(self, time: float, camera: Camera) -> Roi:
        """Where to look for the hand, turned so that it points up; the last region if it goes out of reach."""
        points = self.points(time, camera)
        # Of a hand that is expected to pass the camera, the image has no place, or none that can be looked at.
        if not np.abs(points).max() <= MAX_REACH:
            return self._roi
        roi = Roi.upright(points, ROOMY, self._roi.angle, self._roi.mirrored)
        return roi if roi.size <= MAX_REACH else self._roi

    def possible(self, root: _Float, time: float) -> bool:
        """Whether the hand can have come to this depth: a registration that fails may put it anywhere."""
        nearer = min(float(root[2]), math.exp(self._at[2]))
        reach = UNSURE + FASTEST * (time - self._time) / nearer
        return abs(math.log(root[2]) - float(self._at[2])) <= reach

    def distance(self, hand: Hand, time: float) -> float:
        """How far a hand of a frame is from where this one is expected: in extents, a doubled depth counting as one."""
        root = self.root(time)
        places = hand.camera.project(np.stack([root, hand.translation]))
        apart = math.dist(*places) / extent(hand)
        return apart + abs(math.log2(hand.translation[2] / root[2]))

    def surprise(self, hand: Hand, time: float) -> float:
        """Mean distance of a hand's joints in the image from where they are expected, in extents."""
        apart = hand.camera.project(hand.joints) - self.points(time, hand.camera)
        return float(np.linalg.norm(apart, axis=1).mean()) / extent(hand)


def extent(hand: Hand) -> float:
    """Larger side of the box around the placed joints, pixels."""
    return max(float(np.ptp(hand.camera.project(hand.joints), axis=0).max()), 1.0)


def _place(root: _Float) -> _Float:
    """Direction, (x, y) at a depth of 1, and the logarithm of the depth."""
    x, y, z = (float(value) for value in root)
    return np.array([x / z, y / z, math.log(z)])
