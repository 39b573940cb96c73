# SPDX-License-Identifier: Apache-2.0
"""A world of hands of which all is known: a look shows the hand nearest to the region's centre."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
from disc_bundle import draw_disc

from cmr_runtime import Bundle, Camera, Hand, HandMeshTracker, Roi
from cmr_runtime.finding import ROOMY
from cmr_runtime.following import Follower
from cmr_runtime.motion import extent
from cmr_runtime.pipeline import Placed
from cmr_runtime.resting import TRUSTED

W, HEIGHT = 640, 480
CAMERA = Camera.from_fov(60, W, HEIGHT)


def hand_in_front(bundle: Bundle) -> Hand:
    """A right hand at (0, 0, 0.5), of which others are made."""
    image = draw_disc(W, HEIGHT, 319.5, 239.5, 40)
    with HandMeshTracker(bundle, mode="image") as tracker:
        (hand,) = tracker.track(image, CAMERA, rois=[(240, 160, 400, 320)])
    return at(hand, (0.0, 0.0, 0.5), "right")


def at(hand: Hand, root: tuple[float, float, float], side: str, misfit: float = 0.0) -> Hand:
    joints = (hand.joints_root + np.array(root)).astype(np.float32)
    points = CAMERA.project(joints)
    return dataclasses.replace(
        hand,
        joints=joints,
        vertices=(hand.vertices_root + np.array(root)).astype(np.float32),
        keypoints=points.astype(np.float32),
        translation=np.array(root, dtype=np.float64),
        handedness=side,
        handedness_score=1.0,
        roi=Roi.upright(points, ROOMY, mirrored=side == "left"),
        registration=dataclasses.replace(hand.registration, residual_2d=misfit * float(np.ptp(points, axis=0).max())),
    )


class World:
    """Stands for pipeline and finder. `hands` are (root, side[, misfit]); one in front hides those behind it."""

    def __init__(self, model: Hand, num_hands: int = 2) -> None:
        self.hands: list[tuple] = []
        self.searched, self.searches = 0, True
        self.looked, self.recalled, self._gone = 0, [], ((0.0, 0.0, 0.5), "right")
        self._model = model
        self.viewer = SimpleNamespace(judges=False, recalls=False, sided=self._sided, recall=self._recall)
        self._follower = Follower(self, self._find, num_hands, 0.5, lambda: None)
        self.time = 0.0

    def frame(self, *hands: tuple, dt: float = 1 / 30) -> list[Hand]:
        self.hands, self.time = list(hands), self.time + dt
        return self._follower(np.empty((HEIGHT, W, 3), np.uint8), CAMERA, True, self.time)

    def _look(self, image: np.ndarray, roi: Roi, min_presence: float) -> SimpleNamespace:
        near = []
        for hand in self.hands:
            x, y = CAMERA.project(hand[0])
            off = float(np.hypot(x - roi.cx, y - roi.cy))
            if off < 0.5 * roi.size:
                near.append((off, hand))
        # Of hands that lie one over the other, only the nearest to the camera is seen.
        in_front = [(off, hand) for off, hand in near if not any(self._hides(other, hand) for other in self.hands)]
        seen = min(in_front, key=lambda pair: pair[0])[1] if in_front else None
        return SimpleNamespace(presence=float(seen is not None), seen=seen, roi=roi, prior=SimpleNamespace(right=1.0))

    def _hides(self, other: tuple, hand: tuple) -> bool:
        a, b = CAMERA.project(other[0]), CAMERA.project(hand[0])
        return other[0][2] < hand[0][2] and float(np.hypot(*(a - b))) < 45

    def _sided(self, image: np.ndarray, roi: Roi, min_presence: float) -> SimpleNamespace:
        self.looked += 1
        return self._look(image, roi, min_presence)

    def _recall(self, image: np.ndarray, roi: Roi, said: object) -> SimpleNamespace:
        self.recalled.append((round(roi.cx), said))
        return self._look(image, roi, 0.5)

    def placed(self, image: np.ndarray, view: SimpleNamespace, camera: Camera, metric: bool) -> Placed:
        seen = view.seen or self._gone
        hand = dataclasses.replace(at(self._model, *seen), roi=view.roi, score=view.presence)
        return Placed(hand, ("said", seen), camera.project(hand.joints), extent(hand))

    def _find(self, image: np.ndarray, count: int, known: list[Roi]) -> list[SimpleNamespace]:
        self.searched += 1
        found = []
        for hand in self.hands if self.searches else ():
            roi = at(self._model, *hand[:2]).roi
            if all(roi.overlap(other) < 0.4 for other in known):
                found.append(SimpleNamespace(presence=1.0, seen=hand, roi=roi))
        return found[:count]


def ids(hands: list[Hand]) -> list[int | None]:
    return [hand.track_id for hand in hands]


def settled(model: Hand, *hands: tuple) -> World:
    """Return a world whose hands have been looked at often enough for the next frame to recall them."""
    world = World(model, len(hands))
    world.viewer.recalls = True
    for _ in range(1 + TRUSTED):
        assert len(world.frame(*hands)) == len(hands)
    assert world.recalled == []
    return world


def looks(world: World, *hands: tuple) -> int:
    """Looks of the prior in the next frame."""
    before = world.looked
    world.frame(*hands)
    return world.looked - before
