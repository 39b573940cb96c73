# SPDX-License-Identifier: Apache-2.0
"""Another hand in the picture; which one is meant stays clear: the one that is nearer to the middle and mostly free."""

from __future__ import annotations

import cv2
import numpy as np

from .recut import warp

__all__ = ["join", "over", "second_hand"]

#: Share of second hands before a rendered one; the others are behind it.
FRONT = 0.3
#: Size of the second hand in that of the first, measured as sides of their joints' boxes.
SCALE = (0.6, 1.3)
#: Distance of the middles of both boxes in sides of the first, at least; and by how much it grows until there is room.
APART, STEP = (0.4, 1.1), 0.1
#: How much farther its middle is from the picture's than that of the first, in the same unit, at least.
FARTHER = 0.3
#: Deviation of its forearm from straight outwards, radians: arms come from outside of the picture.
TURN = 0.8
#: Share of the first hand's box in which the second one is seen, and share of the first hand that it hides, at most.
TAKEN, HIDDEN = 0.3, 1 / 3
#: Share of second hands of the first one's colour, and how far a channel is changed for that.
SAME_COLOUR, GAIN = 0.5, (0.4, 2.5)


def over(layer: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Lay a layer (H, W, 4), colour times alpha, 0 to 255, over colours (H, W, 3) or another layer; float."""
    return layer[..., : picture.shape[2]] + picture * (1 - layer[..., 3:] / 255)


def colour(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Colour (3,) of a hand in (H, W, 3 or 4) with joints at ``points`` (21, 2), pixels."""
    x, y = np.round(points).astype(int).clip(0, np.subtract(picture.shape[1::-1], 1)).T
    return np.median(picture[y, x, :3], axis=0)


def second_hand(
    other: np.ndarray,
    joints: np.ndarray,
    picture: np.ndarray,
    keypoints: np.ndarray,
    hand: np.ndarray | None,
    front: bool,
    random: np.random.Generator,
) -> np.ndarray:
    """Place another hand in a picture: as a right or left one, larger or smaller, turned, off the middle.

    Parameters
    ----------
    other : (H, W, 4) float32
        Picture of the other hand, colour times alpha, 0 to 255.
    joints : (21, 2)
        Its joints there, pixels.
    picture : (S, S, 3 or 4)
        The first hand, for its colour.
    keypoints : (21, 2)
        Its joints, pixels.
    hand : (S, S) uint8 or None
        Its share of each pixel, 0 to 255; None takes the convex hull of its joints.
    front : bool
        Whether the other hand comes before the first one, or behind it.

    Returns
    -------
    (S, S, 4) float32
        The other hand there.
    """
    size, low, high = len(picture), keypoints.min(0), keypoints.max(0)
    if hand is None:
        hand = cv2.fillConvexPoly(np.zeros((size, size), np.uint8), cv2.convexHull(np.int32(np.round(keypoints))), 255)
    if random.random() < 0.5:
        other, joints = np.ascontiguousarray(other[:, ::-1]), joints * [-1, 1] + [other.shape[1] - 1, 0]
    if random.random() < SAME_COLOUR:
        gain = (colour(picture, keypoints) / colour(other, joints).clip(1)).clip(*GAIN)
        other = np.dstack([np.minimum(other[..., :3] * np.float32(gain), other[..., 3:]), other[..., 3]])
    side, begin, end = (high - low).max(), joints.min(0), joints.max(0)
    scale = side / (end - begin).max() * np.exp(random.uniform(*np.log(SCALE)))
    way = random.uniform(0, 2 * np.pi)
    angle = way - np.arctan2(*(joints[0] - joints[9])[::-1]) + random.normal(0, TURN)
    distance, outwards = random.uniform(*APART), np.array([np.cos(way), np.sin(way)])
    (left, top), (right, bottom) = np.round([low, high + 1]).astype(int).clip(0, size)
    first = (low + high - (size - 1)) / 2
    free = np.float32(1) if front else 1 - hand / np.float32(255)
    while True:
        shift = first + distance * side * outwards
        placed = cv2.warpAffine(other, warp(size, angle, scale, (begin + end) / 2, shift), (size, size))
        seen = placed[..., 3] / 255 * free
        box = seen[top:bottom, left:right]
        farther = np.hypot(*shift) >= np.hypot(*first) + FARTHER * side
        if farther and box.sum() <= TAKEN * box.size and (seen * hand).sum() <= HIDDEN * hand.sum():
            return placed
        distance += STEP


def join(
    other: np.ndarray,
    joints: np.ndarray,
    layer: np.ndarray,
    keypoints: np.ndarray,
    outline: np.ndarray,
    background: np.ndarray,
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bring another hand into the picture of a rendered one.

    Parameters
    ----------
    other, joints, keypoints
        As for `second_hand`.
    layer : (S, S, 4) float32
        Picture of the first hand, colour times alpha.
    outline : (S, S) uint8
        Its share of each pixel.
    background : (S, S, 3)
        Colours.

    Returns
    -------
    layer, outline, background
        The other hand is a part of the layer, and hides some of the outline, or it is a part of the background.
    """
    front = random.random() < FRONT
    placed = second_hand(other, joints, layer, keypoints, outline, front, random)
    if front:
        return over(placed, layer), np.round(outline * (1 - placed[..., 3] / 255)).astype(np.uint8), background
    return layer, outline, over(placed, background)
