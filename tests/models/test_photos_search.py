# SPDX-License-Identifier: Apache-2.0
"""Where hands are looked for."""

import numpy as np

from cmr_models.photos.search import ENLARGED, TILE, tile_views, whole_view

HEIGHT, WIDTH = 480, 640


def test_small_pictures_are_enlarged_and_not_tiled():
    small = np.zeros((100, 100, 3), np.uint8)
    view = whole_view(small)
    assert view.x0 < 0
    assert view.x1 > 100
    assert view.width == ENLARGED
    assert tile_views(small) == []


def test_tiles_cover_the_photo():
    covered = np.zeros((HEIGHT, WIDTH), int)
    for tile in tile_views(np.zeros((HEIGHT, WIDTH, 3), np.uint8)):
        assert tile.width == tile.height == HEIGHT * TILE
        covered[tile.y0 : tile.y1, tile.x0 : tile.x1] += 1
    assert covered.min() >= 1
