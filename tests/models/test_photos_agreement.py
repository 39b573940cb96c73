# SPDX-License-Identifier: Apache-2.0
"""The agreement of passes, and each reason to reject a hand."""

import cv2
import numpy as np
import pytest
from fake_hands import mirrored, right_hand, seen

from cmr_models.photos.agreement import consensus, curl_sign, procrustes_distance
from cmr_models.photos.passes import Pass


def test_bend_of_fingers_tells_the_hand():
    assert curl_sign(right_hand()) == 1
    assert curl_sign(mirrored(right_hand())) == -1
    turned = right_hand() @ cv2.Rodrigues(np.array([0.4, 2.5, -0.7]))[0].T
    assert curl_sign(turned) == 1
    assert curl_sign(right_hand() * [1, 1, 0]) == 0


def test_procrustes_forgives_similarity_but_not_mirroring():
    a = right_hand()
    b = 1.7 * a @ cv2.Rodrigues(np.array([0.3, -1.0, 0.5]))[0].T + [1, 2, 3]
    assert procrustes_distance(a, b) < 1e-9
    assert procrustes_distance(a, mirrored(a)) > 1e-3


def test_agreement_is_accepted_and_averaged():
    passes = [seen(noise=0.005, seed=s) for s in range(3)]
    label = consensus(passes)
    assert label["reason"] == ""
    assert label["handedness"] == "right"
    assert 0 < label["disagreement_2d"] < 0.03
    assert label["disagreement_3d"] == pytest.approx(0, abs=1e-4)
    np.testing.assert_allclose(label["keypoints"], np.mean([p.keypoints for p in passes], axis=0), atol=0.01)
    assert np.shape(label["world"]) == (21, 3)


@pytest.mark.parametrize(
    ("passes", "reason"),
    [
        ([seen(), seen(), None], "not found by every pass"),
        ([seen(noise=0.05, seed=s) for s in range(3)], "2D disagreement"),
        ([seen(), seen(), Pass(seen().keypoints, seen(right=0.02).world, 0.3)], "handedness uncertain"),
        ([Pass(seen().keypoints, seen().world, 0.1)] * 3, "handedness against the bend of the fingers"),
        ([seen(side=12.0)] * 3, "too small"),
        ([seen(), seen(), Pass(seen().keypoints, seen().world * [1, 1, -3], 0.98)], "3D disagreement"),
    ],
)
def test_disagreement_is_rejected_with_its_reason(passes, reason):
    assert consensus(passes)["reason"] == reason
