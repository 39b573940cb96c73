# SPDX-License-Identifier: Apache-2.0
"""Where a hand will be in the next frame, if it goes on as it did: constant velocity in direction and in log depth."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .arguments import MAX_REACH
from .camera import Camera
from .compiled import core, taken
from .finding import ROOMY
from .results import Hand
from .roi import Roi

__all__ = ["Motion", "extent", "extent_of", "mean_distance"]

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
        # Direction at a depth of 1 and the logarithm of the depth, and what they change by in a second.
        self._at = self._velocity = (0.0, 0.0, 0.0)
        self._time = -math.inf
        self._expected: tuple[float, Camera, _Float, float] | None = None

    def update(self, hand: Hand, time: float) -> None:
        """Take over the hand of a frame, seconds."""
        place = _place(hand.translation)
        gap = time - self._time
        if gap > HORIZON:
            self._velocity = (0.0, 0.0, 0.0)
        else:
            x, y, log_depth = (
                velocity - math.expm1(-gap / averaged) * ((to - at) / gap - velocity)
                for velocity, averaged, to, at in zip(self._velocity, AVERAGED, place, self._at, strict=True)
            )
            self._velocity = x, y, log_depth
        self._at, self._time = place, time
        self._joints, self._root = hand.joints.copy(), hand.translation.tolist()  # the caller may have the hand, too
        self._roi = hand.roi
        self._expected = None

    def root(self, time: float) -> tuple[float, float, float]:
        """Where the root is expected, metres, camera frame."""
        ahead = min(time - self._time, HORIZON)
        (x, y, log_depth), (dx, dy, deeper) = self._at, self._velocity
        depth = math.exp(log_depth + ahead * deeper)
        return depth * (x + ahead * dx), depth * (y + ahead * dy), depth

    @property
    def region(self) -> Roi:
        """Where the hand was last looked at."""
        return self._roi

    def points(self, time: float, camera: Camera) -> _Float:
        """Where the joints are expected, (J, 2) pixels: as they were placed, steadier than 2D keypoints."""
        return self._expect(time, camera)[0]

    def _expect(self, time: float, camera: Camera) -> tuple[_Float, float]:
        """Return these points, and the largest of their coordinates but for its sign."""
        known = self._expected
        if known is None or known[0] != time or known[1] is not camera:  # a frame asks for them twice
            points, farthest = _project_moved(self._joints, self._root, self.root(time), camera)
            self._expected = known = time, camera, points, farthest
        return known[2], known[3]

    def roi(self, time: float, camera: Camera) -> Roi:
        """Where to look for the hand, turned so that it points up; the last region if it goes out of reach."""
        points, farthest = self._expect(time, camera)
        # Of a hand that is expected to pass the camera, the image has no place, or none that can be looked at.
        if not farthest <= MAX_REACH:
            return self._roi
        roi = Roi.upright(points, ROOMY, self._roi.angle, self._roi.mirrored)
        return roi if roi.size <= MAX_REACH else self._roi

    def possible(self, root: _Float, time: float) -> bool:
        """Whether the hand can have come to this depth: a registration that fails may put it anywhere."""
        depth, log_depth = float(root[2]), self._at[2]
        reach = UNSURE + FASTEST * (time - self._time) / min(depth, math.exp(log_depth))
        return abs(math.log(depth) - log_depth) <= reach

    def distance(self, hand: Hand, time: float) -> float:
        """How far a hand of a frame is from where this one is expected: in extents, a doubled depth counting as one."""
        root = self.root(time)
        places = hand.camera.project(np.stack([np.array(root), hand.translation]))
        apart = math.dist(*places) / extent(hand)
        return apart + abs(math.log2(hand.translation[2] / root[2]))

    def surprise(self, projected: _Float, extent: float, time: float, camera: Camera) -> float:
        """Mean distance of a hand's joints in the image, (J, 2), from where they are expected, in its extents."""
        return mean_distance(projected, self.points(time, camera)) / extent


def extent(hand: Hand) -> float:
    """Larger side of the box around the placed joints, pixels."""
    return extent_of(hand.camera.project(hand.joints))


def mean_distance(points: _Float, others: _Float) -> float:
    """Mean distance of points, (N, 2) float64, from others, one by one."""
    if core is not None and taken(points, np.float64) and taken(others, np.float64):
        mean: float = core.mean_distance(points, others)
        return mean
    return float(np.linalg.norm(points - others, axis=1).mean())


def extent_of(points: _Float) -> float:
    """Larger side of the box around points, (N, 2) float64 pixels, 1 at least."""
    if core is not None and taken(points, np.float64):
        side: float = core.extent(points)
        return max(side, 1.0)
    return max(float(np.ptp(points, axis=0).max()), 1.0)


def _project_moved(
    points: npt.NDArray[np.float32], root: Sequence[float], to: tuple[float, float, float], camera: Camera
) -> tuple[_Float, float]:
    """Pixels, (N, 2), of points, (N, 3) metres, whose root moves, and the largest coordinate but for its sign."""
    x, y, z = root
    way = to[0] - x, to[1] - y, to[2] - z
    if core is not None and taken(points, np.float32):
        pixels = np.empty((len(points), 2))
        farthest: float = core.project_placed(points, way, camera.pinhole, pixels)
        return pixels, farthest
    projected = camera.project(points + np.array(way))
    return projected, float(np.abs(projected).max())


def _place(root: _Float) -> tuple[float, float, float]:
    """Direction, (x, y) at a depth of 1, and the logarithm of the depth."""
    x, y, z = root.tolist()
    return x / z, y / z, math.log(z)
