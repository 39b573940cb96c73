# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest
from disc_bundle import draw_disc

from cmr_runtime import Bundle, BundleError, Camera, Roi
from cmr_runtime.pipeline import Pipeline, _settle

CAMERA = Camera.from_fov(60, 320, 240)


@pytest.fixture
def pipeline(bundle: Bundle) -> Pipeline:
    return Pipeline(bundle, 1, (1.0, 0.08), "osqp")


def _view(pipeline: Pipeline, image: np.ndarray, **prior: object):
    view = pipeline.viewer(image, Roi(150.0, 120.0, 160.0))
    return dataclasses.replace(view, prior=dataclasses.replace(view.prior, **prior))


def test_weak_heat_maps_still_give_a_position(pipeline: Pipeline) -> None:
    image = draw_disc(320, 240, 150, 120, 40)
    strong = pipeline.hand(image, _view(pipeline, image), CAMERA, True)
    weak_maps = 0.01 * pipeline.viewer(image, Roi(150.0, 120.0, 160.0)).prior.heatmaps
    weak = pipeline.hand(image, _view(pipeline, image, heatmaps=weak_maps), CAMERA, True)
    assert weak.keypoint_scores.max() <= 0.01
    np.testing.assert_allclose(weak.translation, strong.translation, atol=0.02)


def test_without_a_silhouette(pipeline: Pipeline) -> None:
    image = draw_disc(320, 240, 150, 120, 40)
    view = _view(pipeline, image, silhouette=np.zeros((16, 16), np.float32))
    hand = pipeline.hand(image, view, CAMERA, True)
    assert hand.silhouette.shape == (0, 2)
    assert hand.silhouette.dtype == np.float32
    assert np.isnan(hand.registration.residual_1d)


def test_a_network_that_gives_no_numbers_is_blamed(pipeline: Pipeline) -> None:
    image = draw_disc(320, 240, 150, 120, 40)
    view = _view(pipeline, image, features=np.full((1, 2, 4, 4), np.nan, np.float32))
    with pytest.raises(BundleError, match="not finite"):
        pipeline.hand(image, view, CAMERA, True)


def test_keypoints_are_settled_by_their_scores() -> None:
    seen, projected = np.full((21, 2), 10.0), np.full((21, 2), 16.0)
    np.testing.assert_allclose(_settle(seen, np.zeros(21), projected), projected)
    np.testing.assert_allclose(_settle(seen, np.full(21, 1e9), projected), seen, atol=1e-6)
    np.testing.assert_allclose(_settle(seen, np.full(21, 0.6), projected), 13.0)
