# SPDX-License-Identifier: Apache-2.0
"""Backgrounds keep clear of hands, found or suspected."""

import numpy as np

from cmr_models.photos.backgrounds import BACKGROUND_SCALES, background_views, obstacles

HEIGHT, WIDTH = 240, 320


def test_background_squares_keep_clear_of_obstacles():
    rng = np.random.default_rng(1)
    avoid = [(100.0, 50.0, 200.0, 150.0), (0.0, 0.0, 40.0, 40.0)]
    views = background_views(rng, WIDTH, HEIGHT, avoid, 50, 64)
    assert len(views) == 50
    for view in views:
        assert 0 <= view.x0 < view.x1 <= WIDTH
        assert 0 <= view.y0 < view.y1 <= HEIGHT
        assert BACKGROUND_SCALES[0] * HEIGHT - 1 <= view.x1 - view.x0 <= HEIGHT
        for x0, y0, x1, y1 in avoid:
            assert view.x1 <= x0 or view.x0 >= x1 or view.y1 <= y0 or view.y0 >= y1
    assert background_views(rng, WIDTH, HEIGHT, [(0, 0, WIDTH, HEIGHT)], 5, 64) == []


def test_unmarked_frames_need_a_detection_and_distrust_what_hangs_below():
    hand = (100.0, 50.0, 140.0, 90.0)
    assert obstacles([], None) is None
    assert obstacles([], []) == []
    below = obstacles([hand], None)[-1]
    assert below[1] == 130
    assert below[0] < 0
    assert below[2] > WIDTH
    assert len(obstacles([hand, (200.0, 50.0, 240.0, 90.0)], None)) == 2
    assert len(obstacles([hand], [hand])) == 2
