# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from disc_bundle import OFFSETS, draw_disc

from cmr_runtime import Bundle, Roi
from cmr_runtime.network import PriorStage
from cmr_runtime.view import Viewer

ROI = Roi(100.0, 80.0, 128.0)


@pytest.fixture
def viewer(bundle: Bundle) -> Viewer:
    return Viewer(PriorStage(bundle))


@pytest.mark.parametrize("side", ["right", "left"])
def test_sided_shows_the_network_a_right_hand(viewer: Viewer, side: str) -> None:
    view = viewer.sided(draw_disc(240, 180, 104, 82, 30, side), ROI, 0.5)
    assert view.roi.mirrored == (side == "left")
    assert view.prior.right > 0.9
    assert (view.right > 0.5) == (side == "right")


@pytest.mark.parametrize("side", ["right", "left"])
def test_keypoints_are_in_image_pixels_and_unmirrored(viewer: Viewer, side: str) -> None:
    view = viewer.sided(draw_disc(240, 180, 104, 82, 30, side), ROI, 0.5)
    sign = -1 if side == "left" else 1
    np.testing.assert_allclose(view.keypoints, np.array([104, 82]) + 30 * OFFSETS * (sign, 1), atol=1.0)


def test_without_a_hand_there_is_one_look(viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    fill = Roi.fill
    monkeypatch.setattr(Roi, "fill", lambda self, *a: looks.append(self) or fill(self, *a))
    view = viewer.sided(np.zeros((180, 240, 3), np.uint8), ROI, 0.5)
    assert view.presence < 0.01
    assert len(looks) == 1
