# SPDX-License-Identifier: Apache-2.0
"""Things laid over photographed hands: labels made on the bare photo hold for what is hidden then."""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["cover"]

#: Share of bars (bottles, pens, another arm); the others are rounded or have corners.
BARS = 0.5
#: Thickness of a bar and radius of the others, in sides of the joints' box.
THICKNESS, RADIUS = (0.08, 0.3), (0.08, 0.28)
#: A bar goes through the hand: its half length in the same unit.
HALF_LENGTH = (0.4, 1.5)
#: Largest distance of its middle from a joint, in the same unit.
ASIDE = 0.15
#: Darkest edge of a thing that the light falls on from one side.
SHADE = 0.5
#: Blur of its outline, pixels.
EDGE = 0.7


def cover(image: np.ndarray, keypoints: np.ndarray, texture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Lay one thing over a hand, its middle near a joint.

    Parameters
    ----------
    image : (S, S, 3) uint8
        A crop; it stays as it is.
    keypoints : (J, 2)
        Joints, pixels.
    texture : (S, S, 3) uint8
        What the thing looks like.

    Returns
    -------
    (S, S, 3) uint8
    """
    side = float(np.ptp(keypoints, axis=0).max())
    middle = keypoints[random.integers(len(keypoints))] + random.uniform(-ASIDE, ASIDE, 2) * side
    angle = random.uniform(0, np.pi)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    if random.random() < BARS:
        reach = np.array([random.uniform(*HALF_LENGTH), random.uniform(*THICKNESS) / 2]) * side
        corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]] * reach
    else:
        reach = random.uniform(*RADIUS, 2) * side
        turns = np.sort(random.uniform(0, 2 * np.pi, random.choice([4, 5, 6, 24])))
        corners = np.stack([np.cos(turns), np.sin(turns)], 1) * reach
    outline = middle + corners @ np.stack([along, across])
    mask = np.zeros(image.shape[:2], np.float32)
    cv2.fillPoly(mask, [cv2.convexHull(np.round(outline * 16).astype(np.int32))], 1.0, cv2.LINE_AA, shift=4)
    mask = cv2.GaussianBlur(mask, (0, 0), EDGE)[..., None]
    rows, columns = np.indices(mask.shape[:2])
    place = ((np.stack([columns, rows], -1) - middle) @ across / max(reach[1], 1.0)).clip(-1, 1)
    light = 1 - random.uniform(0, 1 - SHADE) * (1 + random.choice([-1, 1]) * place) / 2
    thing = texture * light[..., None].astype(np.float32)
    covered: np.ndarray = np.round(image * (1 - mask) + thing * mask).astype(np.uint8)
    return covered
