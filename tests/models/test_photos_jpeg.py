# SPDX-License-Identifier: Apache-2.0
"""JPEGs within a budget, in one buffer."""

import cv2
import numpy as np
import pytest

from cmr_models.photos.jpeg import QUALITIES, choose_quality, decode, encode_jobs, pack
from cmr_models.photos.view import View


def test_quality_falls_until_the_limit_is_kept(tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), np.random.default_rng(0).integers(90, 140, (240, 240, 3), np.uint8))
    jobs = [("0.png", View(0, 0, 240, 240, 240, 240))]
    full = len(encode_jobs(tmp_path, jobs, QUALITIES[0])[0])
    assert choose_quality(tmp_path, jobs, full) == QUALITIES[0]
    assert choose_quality(tmp_path, jobs, full - 1) < QUALITIES[0]
    with pytest.raises(SystemExit, match="lower --size"):
        choose_quality(tmp_path, jobs, 10)


def test_crops_come_back_in_their_order_and_colours(tmp_path):
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
    for i, colour in enumerate(colours):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((16, 16, 3), colour[::-1], np.uint8))
    view = View(0, 0, 16, 16, 16, 16)
    data, offsets = pack(encode_jobs(tmp_path, [(f"{i}.png", view) for i in range(3)], 90))
    for i, colour in enumerate(colours):
        np.testing.assert_allclose(decode(data, offsets, i).mean(axis=(0, 1)), colour, atol=4)
