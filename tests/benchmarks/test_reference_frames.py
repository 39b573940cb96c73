# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.reference_frames import slsqp_task
from benchmarks.registration_baselines import SlsqpBaseline
from cmr_runtime import Camera, Roi

CAMERA = Camera.from_fov(60.0, 640, 360)


@pytest.mark.parametrize("roi", [Roi(330, 200, 180, 0.4), Roi(300, 180, 200, -1.0, mirrored=True)])
def test_the_reference_is_given_a_hand_that_it_can_place(roi: Roi) -> None:
    rng, place = np.random.default_rng(0), np.array([0.01, 0.02, 0.5])
    joints = rng.uniform(-0.06, 0.06, (21, 3))
    hand = SimpleNamespace(
        vertices_root=joints.astype(np.float32),
        joints_root=joints.astype(np.float32),
        keypoints=CAMERA.project(joints + place),
        silhouette=np.empty((0, 2), np.float32),
        roi=roi,
        camera=CAMERA,
    )
    task = slsqp_task(hand, 224)
    assert task.contour is None
    found = SlsqpBaseline()(*task)
    np.testing.assert_allclose(found, place, atol=1e-3)
