# SPDX-License-Identifier: Apache-2.0
"""Hands as passes of MediaPipe would report them, and a detector that reports them."""

from __future__ import annotations

import numpy as np

from cmr_models.photos.passes import Pass


def right_hand() -> np.ndarray:
    """A right hand (21, 3) in metres seen from its palm, fingers up and bent towards the camera: thumb on the right."""
    joints = np.zeros((21, 3))
    joints[0] = (0, 0.09, 0)
    joints[1:5] = [(0.02 + 0.012 * i, 0.07 - 0.015 * i, -0.005 * i) for i in range(1, 5)]
    for finger, x in enumerate((0.03, 0.01, -0.01, -0.03)):
        for i in range(4):
            joints[5 + 4 * finger + i] = (x, -0.025 * i, -0.012 * i)
    return joints


def mirrored(joints: np.ndarray) -> np.ndarray:
    return joints * [-1, 1, 1]


def seen(centre=(300.0, 200.0), side=100.0, right=0.98, noise=0.0, seed=0) -> Pass:
    world = right_hand() if right > 0.5 else mirrored(right_hand())
    flat = world[:, :2] - (world[:, :2].min(axis=0) + world[:, :2].max(axis=0)) / 2
    shift = np.random.default_rng(seed).normal(size=(21, 2)) * noise * side
    return Pass(flat / np.ptp(flat, axis=0).max() * side + centre + shift, world - world[9], right)


class FakeDetector:
    """Answers with hands whose centre lies in the view, as MediaPipe would."""

    def __init__(self, hands, noise=0.0):
        self.hands, self.noise, self.calls = hands, noise, 0

    def __call__(self, image, view, model="full", mirrored=False):
        self.calls += 1
        view.render(image)
        found = []
        for index, hand in enumerate(self.hands):
            x, y = hand.centre
            if view.x0 <= x < view.x1 and view.y0 <= y < view.y1:
                jitter = np.random.default_rng([self.calls, index]).normal(size=(21, 2)) * self.noise * hand.side
                found.append(Pass(hand.keypoints + jitter, hand.world, hand.right))
        return found
