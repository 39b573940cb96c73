# SPDX-License-Identifier: Apache-2.0
"""Find every hand of a photo: whole, mirrored, then in tiles, each hand once.

A palm detector that sees a whole frame at 192 pixels misses small hands, hence the tiles.
"""

from __future__ import annotations

import numpy as np

from .passes import Detector, Pass, same_hand
from .view import View

__all__ = ["search", "tile_views", "whole_view"]

SMALL_IMAGE = 200
"""A picture whose shorter side is below this many pixels is enlarged and padded before the search."""
ENLARGED = 420
"""Longer side in pixels of an enlarged small picture, padding of 20 % on each side included."""
TILE = 0.5
"""Side of a search tile as a part of the picture's shorter side; neighbours overlap by half."""


def whole_view(image: np.ndarray) -> View:
    """Whole photo as a view; a small one is enlarged, with a margin of repeated border that the detector needs."""
    height, width = image.shape[:2]
    if min(height, width) >= SMALL_IMAGE:
        return View(0, 0, width, height, width, height)
    margin = round(0.2 * max(height, width))
    scale = ENLARGED / (max(height, width) + 2 * margin)
    x0, y0, x1, y1 = -margin, -margin, width + margin, height + margin
    return View(x0, y0, x1, y1, round((x1 - x0) * scale), round((y1 - y0) * scale))


def tile_views(image: np.ndarray) -> list[View]:
    """Overlapping square tiles of a photo for small hands, from the top; none for a photo that is itself small."""
    height, width = image.shape[:2]
    if min(height, width) < SMALL_IMAGE:
        return []
    side = round(TILE * min(height, width))
    rows, columns = (max(1, int(np.ceil(2 * (length - side) / side)) + 1) for length in (height, width))
    tops = np.linspace(0, height - side, rows).round().astype(int)
    lefts = np.linspace(0, width - side, columns).round().astype(int)
    return [View(int(x), int(y), int(x) + side, int(y) + side, side, side) for y in tops for x in lefts]


def search(detector: Detector, image: np.ndarray) -> list[Pass]:
    """Every hand that any search of a photo (H, W, 3) finds; tiles are searched if the whole shows fewer than two."""
    whole = whole_view(image)
    found: list[Pass] = []

    def add(hands: list[Pass]) -> None:
        found.extend(hand for hand in hands if not any(same_hand(hand, other) for other in found))

    add(detector(image, whole))
    add(detector(image, whole, mirrored=True))
    if len(found) < 2:
        for tile in tile_views(image):
            add(detector(image, tile))
    return found
