# SPDX-License-Identifier: Apache-2.0
"""A rectangle of a picture, resampled: cut it out, and map points there and back."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

__all__ = ["Box", "View"]

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""


class View(NamedTuple):
    """A rectangle of a picture, resampled: edges in whole pixels, may reach outside; and the size it is drawn at."""

    x0: int
    y0: int
    x1: int
    y1: int
    width: int
    height: int

    def to_image(self, points: np.ndarray) -> np.ndarray:
        """Map points (..., 2), normalised to the view from edge to edge, to pixels of the picture."""
        span = np.array([self.x1 - self.x0, self.y1 - self.y0], np.float64)
        return points * span + np.array([self.x0, self.y0], np.float64) - 0.5

    def from_image(self, points: np.ndarray) -> np.ndarray:
        """Map points (..., 2) in pixels of the picture to pixels of the view as it is drawn."""
        scale = np.array([self.width / (self.x1 - self.x0), self.height / (self.y1 - self.y0)])
        return (points + 0.5 - np.array([self.x0, self.y0], np.float64)) * scale - 0.5

    def render(self, image: np.ndarray) -> np.ndarray:
        """Cut the view out of a picture (H, W, 3); what lies outside repeats the border."""
        height, width = image.shape[:2]
        left, top = max(0, -self.x0), max(0, -self.y0)
        right, bottom = max(0, self.x1 - width), max(0, self.y1 - height)
        part = image[max(self.y0, 0) : min(self.y1, height), max(self.x0, 0) : min(self.x1, width)]
        if left or top or right or bottom:
            part = cv2.copyMakeBorder(part, top, bottom, left, right, cv2.BORDER_REPLICATE)
        if part.shape[:2] == (self.height, self.width):
            return np.ascontiguousarray(part)
        shrink = self.width < self.x1 - self.x0
        return cv2.resize(part, (self.width, self.height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_CUBIC)
