# SPDX-License-Identifier: Apache-2.0
"""Things over hands: they hide some of the hand, never all of it, and nothing else changes."""

import numpy as np
import pytest

from cmr_models.photos.cover import cover

SIZE = 160
HAND = np.stack(np.meshgrid(np.linspace(50, 110, 7), np.linspace(50, 110, 3)), -1).reshape(-1, 2)


def covered(seed: int, grey: int = 100, texture: int = 255) -> np.ndarray:
    image = np.full((SIZE, SIZE, 3), grey, np.uint8)
    out = cover(image, HAND, np.full_like(image, texture), np.random.default_rng(seed))
    assert (image == grey).all()
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    return out


def test_a_thing_hides_a_part_of_the_hand():
    hidden = np.array([(covered(seed, 0, 255)[50:111, 50:111].max(-1) > 60).mean() for seed in range(200)])
    assert (hidden > 0.005).mean() > 0.95
    assert hidden.max() < 0.6
    assert 0.05 < hidden.mean() < 0.3


@pytest.mark.parametrize("seed", range(6))
def test_pixels_are_the_photos_or_the_things_in_some_light(seed):
    out = covered(seed, 0, 200)
    assert out.max() <= 200
    assert (out == 0).mean() > 0.5  # the photo's own
    assert (out[..., 0] == out[..., 1]).all()


def test_a_hand_outside_of_the_picture_is_left_alone():
    image = np.full((SIZE, SIZE, 3), 7, np.uint8)
    out = cover(image, HAND + 1000, np.full_like(image, 255), np.random.default_rng(0))
    np.testing.assert_array_equal(out, image)
