# SPDX-License-Identifier: Apache-2.0
"""The hands of a photo are labelled once each."""

import numpy as np
import pytest
from fake_hands import FakeDetector, seen

from cmr_models.photos.label import label_image


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)


def test_every_hand_is_labelled_once(photo):
    hands = [seen((150, 200)), seen((450, 300), side=60, right=0.03)]
    records = label_image(FakeDetector(hands, noise=0.004), photo)
    assert sorted(record["handedness"] for record in records) == ["left", "right"]
    assert all(record["reason"] == "" for record in records)
    for record in records:
        hand = hands[0] if record["handedness"] == "right" else hands[1]
        assert np.linalg.norm(np.array(record["keypoints"]) - hand.keypoints, axis=1).max() < 0.03 * hand.side
        assert len(record["box"]) == 4


def test_rejected_hands_stay_in_the_list(photo):
    (record,) = label_image(FakeDetector([seen()], noise=0.1), photo)
    assert record["reason"] == "2D disagreement"
    assert record["box"][0] < record["box"][2]
