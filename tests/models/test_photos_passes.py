# SPDX-License-Identifier: Apache-2.0
"""The meaning of what MediaPipe says."""

import importlib.util

import numpy as np
import pytest
from fake_hands import mirrored, right_hand

from cmr_models.photos.passes import ROOT_JOINT, Detector, from_mediapipe
from cmr_models.photos.view import View
from cmr_models.pseudo_label import main

HEIGHT, WIDTH = 480, 640


def test_mediapipes_left_is_an_anatomical_right_hand():
    view = View(0, 0, WIDTH, HEIGHT, WIDTH, HEIGHT)
    points = np.full((21, 2), 0.25)
    straight = from_mediapipe(points, right_hand(), "Left", 0.9, view, mirrored=False)
    assert straight.right == pytest.approx(0.9)
    np.testing.assert_allclose(straight.keypoints[0], [WIDTH / 4 - 0.5, HEIGHT / 4 - 0.5])
    np.testing.assert_allclose(straight.world[ROOT_JOINT], 0)
    # the same hand in the mirror image: MediaPipe says "Right" and sees a left hand
    flipped = from_mediapipe(np.full((21, 2), [0.75, 0.25]), mirrored(right_hand()), "Right", 0.9, view, mirrored=True)
    assert flipped.right == pytest.approx(0.9)
    np.testing.assert_allclose(flipped.keypoints, straight.keypoints)
    np.testing.assert_allclose(flipped.world, straight.world, atol=1e-12)


def test_without_mediapipe_the_command_says_what_to_install(tmp_path):
    if importlib.util.find_spec("mediapipe"):
        pytest.skip("mediapipe is installed here")
    with pytest.raises(SystemExit, match=r"mediapipe==0\.10\.14"):
        Detector()
    with pytest.raises(SystemExit, match=r"mediapipe==0\.10\.14"):
        main([str(tmp_path), str(tmp_path / "labels.json")])
