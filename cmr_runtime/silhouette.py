# SPDX-License-Identifier: Apache-2.0
"""Silhouette map to the hand's outer contour, and the part of it that a border cuts."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["FEWEST", "LEVEL", "MARGIN", "SMALLEST", "contour", "cut"]

#: A hand covers at least this share of its crop; less is noise.
SMALLEST = 0.005
#: Points that a contour has at least.
FEWEST = 8
#: Probability at the contour.
LEVEL = 0.5
#: Distance from a border that still counts as on it, pixels of crop or image.
MARGIN = 1.5


def contour(probability: npt.NDArray[np.floating], S: int) -> npt.NDArray[np.float32] | None:
    """Outer contour of the largest connected region of a silhouette map.

    Parameters
    ----------
    probability : (M, M) array
        Probability that the cell shows the hand.
    S : int
        Side of the crop that the map covers, pixels.

    Returns
    -------
    (N, 2) float32, or None
        Pixels of the crop, in order around the region; None if no region is large enough to be a hand.
    """
    cells = np.ascontiguousarray(probability, np.float32)
    side = 2 * len(cells)
    # Traced at twice the size, more nearly.
    fine = np.asarray(cv2.resize(cells, (side, side), interpolation=cv2.INTER_LINEAR))
    mask = (fine >= LEVEL).view(np.uint8)
    regions, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not regions:
        return None
    areas = [cv2.contourArea(region) for region in regions]
    area = max(areas)
    largest = regions[areas.index(area)]
    if len(largest) < FEWEST or area < SMALLEST * side * side:
        return None

    # The traced pixels lie just inside; one Newton step along the gradient moves them onto the level itself.
    points = largest.reshape(-1, 2)
    row = side + 2
    padded = cv2.copyMakeBorder(fine, 1, 1, 1, 1, cv2.BORDER_REPLICATE).ravel()
    here, right, below, left, above = row + 1, row + 2, 2 * row + 1, row, 1
    near = padded.take(points @ np.array([1, row], np.int32) + np.array([[here], [right], [below], [left], [above]]))
    excess = near[0] - np.float32(LEVEL)
    step = near[1:3] - near[3:5]
    step *= 0.5
    squared = np.maximum(np.einsum("ij,ij->j", step, step), np.float32(1e-8))
    # At most one pixel far, and none along a border of the map.
    step *= excess / np.maximum(squared, np.abs(excess) * np.sqrt(squared))
    across = points.T
    step *= (across > 0) & (across < side - 1)
    outline = points.astype(np.float32)
    outline -= step.T
    outline += 0.5
    outline *= S / side
    outline -= 0.5
    return outline


def cut(
    points_crop: npt.NDArray[np.floating],
    points_image: npt.NDArray[np.floating],
    S: int,
    width: int,
    height: int,
) -> npt.NDArray[np.bool_]:
    """Which points of a contour lie on the border of crop or image, where the hand goes on unseen.

    Parameters
    ----------
    points_crop, points_image : (N, 2) arrays
        The same points in pixels of the S × S crop and of the image.
    S, width, height : int
        Sizes of crop and image, pixels.

    Returns
    -------
    (N,) bool
    """
    flags = np.zeros(len(points_crop), dtype=np.bool_)
    for points, far in ((points_crop, np.array([S, S])), (points_image, np.array([width, height]))):
        x, y, w, h = cv2.boundingRect(np.ascontiguousarray(points, np.float32))  # whole pixels around the points
        if min(x, y) > MARGIN - 0.5 and max(x + w - far[0], y + h - far[1]) < -0.5 - MARGIN:
            continue
        beyond = (points < MARGIN - 0.5) | (points > far - 0.5 - MARGIN)
        flags |= beyond[:, 0] | beyond[:, 1]
    return flags
