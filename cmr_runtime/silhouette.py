# SPDX-License-Identifier: Apache-2.0
"""Silhouette map to the hand's outer contour, and the part of it that a border cuts."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["contour", "cut"]

#: The map is enlarged by this factor before its contour is traced.
_ENLARGE = 2
#: A hand covers at least this share of its crop; less is noise.
_SMALLEST = 0.005


def contour(probability: npt.NDArray[np.floating], S: int, threshold: float = 0.5) -> npt.NDArray[np.float32] | None:
    """Outer contour of the largest connected region of a silhouette map.

    Parameters
    ----------
    probability : (M, M) array
        Probability that the cell shows the hand.
    S : int
        Side of the crop that the map covers, pixels.
    threshold : float
        Level of the contour, 0 to 1.

    Returns
    -------
    (N, 2) float32, or None
        Pixels of the crop, in order around the region; None if no region is large enough to be a hand.
    """
    side = probability.shape[0] * _ENLARGE
    fine = cv2.resize(probability.astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
    mask = (fine >= threshold).astype(np.uint8)
    found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not found:
        return None
    points = max(found, key=cv2.contourArea).reshape(-1, 2)
    if len(points) < 8 or cv2.contourArea(points) < _SMALLEST * side * side:
        return None

    # The traced pixels lie just inside; one Newton step along the gradient moves them onto the level itself.
    padded = cv2.copyMakeBorder(fine, 1, 1, 1, 1, cv2.BORDER_REPLICATE).ravel()
    row = side + 2
    at = points[:, 1] * row + points[:, 0] + (row + 1)
    gradient = 0.5 * np.stack([padded[at + 1] - padded[at - 1], padded[at + row] - padded[at - row]])
    squared = np.maximum(np.square(gradient).sum(axis=0), 1e-8)
    # At most one pixel far.
    factor = (padded[at] - threshold) / np.maximum(squared, np.abs(padded[at] - threshold) * np.sqrt(squared))
    inside = (points > 0) & (points < side - 1)
    exact = points - inside * (gradient * factor).T
    outline: npt.NDArray[np.float32] = ((exact + 0.5) * (S / side) - 0.5).astype(np.float32)
    return outline


def cut(
    points_crop: npt.NDArray[np.floating],
    points_image: npt.NDArray[np.floating],
    S: int,
    width: int,
    height: int,
    margin: float = 1.5,
) -> npt.NDArray[np.bool_]:
    """Which points of a contour lie on the border of crop or image, where the hand goes on unseen.

    Parameters
    ----------
    points_crop, points_image : (N, 2) arrays
        The same points in pixels of the S × S crop and of the image.
    S, width, height : int
        Sizes of crop and image, pixels.
    margin : float
        Distance from the border that still counts as on it, pixels of either.

    Returns
    -------
    (N,) bool
    """
    flags = np.zeros(len(points_crop), dtype=np.bool_)
    for points, far in ((points_crop, np.array([S, S])), (points_image, np.array([width, height]))):
        beyond = (points < margin - 0.5) | (points > far - 0.5 - margin)
        flags |= beyond[:, 0] | beyond[:, 1]
    return flags
