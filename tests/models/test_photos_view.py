# SPDX-License-Identifier: Apache-2.0
"""Points land where a view draws them."""

import numpy as np
import pytest

from cmr_models.photos.view import View


@pytest.mark.parametrize("view", [View(10, 20, 110, 120, 50, 50), View(-30, -40, 70, 60, 300, 300)])
def test_view_maps_points_to_where_it_draws_them(view):
    image = np.zeros((100, 100, 3), np.uint8)
    image[40:50, 30:40] = 255
    drawn = view.render(image)[..., 0].astype(float)
    assert drawn.shape == (view.height, view.width)
    ys, xs = np.mgrid[: view.height, : view.width]
    middle = np.array([(xs * drawn).sum(), (ys * drawn).sum()]) / drawn.sum()
    np.testing.assert_allclose(middle, view.from_image(np.array([34.5, 44.5])), atol=0.05)
    back = view.to_image((middle + 0.5) / [view.width, view.height])
    np.testing.assert_allclose(back, [34.5, 44.5], atol=0.05)


def test_view_repeats_the_border():
    image = np.full((60, 60, 3), 7, np.uint8)
    assert (View(-20, -20, 80, 80, 100, 100).render(image) == 7).all()
