# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import numpy as np

from cmr_runtime import Camera, Roi
from cmr_runtime.arguments import MAX_REACH
from cmr_runtime.motion import HORIZON, Motion

CAMERA = Camera.from_fov(60, 640, 480)
#: Root and tip of a hand that points at the camera, metres from its root.
SHAPE = np.array([[0.0, 0.0, 0.0], [0.03, 0.02, -0.15]])


def test_a_hand_that_flies_into_the_lens_is_looked_for_within_reach() -> None:
    motion, last = Motion(), Roi(320.0, 240.0, 100.0)
    for frame, depth in enumerate((0.6, 0.4, 0.27)):
        root = np.array([0.01, 0.0, depth])
        motion.update(SimpleNamespace(joints=root + SHAPE, translation=root, roi=last), frame / 30)
    before, behind = 2 / 30, 2 / 30 + HORIZON
    assert motion.root(before)[2] > 0.15 > motion.root(behind)[2]
    for _ in range(40):  # ever nearer to the moment at which the tip is in the camera itself
        time = 0.5 * (before + behind)
        before, behind = (time, behind) if motion.root(time)[2] > 0.15 else (before, time)
        roi = motion.roi(time, CAMERA)
        assert max(abs(roi.cx), abs(roi.cy), roi.size) <= MAX_REACH
    assert CAMERA.project(np.array(motion.root(before)) + SHAPE[1])[0] > 10 * MAX_REACH
    assert motion.roi(before, CAMERA) == motion.roi(behind, CAMERA) == last


def test_what_is_expected_is_that_of_the_time_the_camera_and_the_last_frame() -> None:
    motion, other = Motion(), Camera.from_fov(90, 640, 480)
    for frame in range(3):
        root = np.array([0.01 * frame, 0.0, 0.5])
        motion.update(SimpleNamespace(joints=root + SHAPE, translation=root, roi=Roi(320.0, 240.0, 100.0)), frame / 30)
        for time, camera in ((0.11, CAMERA), (0.11, CAMERA), (0.11, other), (0.13, other), (0.11, CAMERA)):
            expected = camera.project(np.array(motion.root(time)) + SHAPE)
            np.testing.assert_allclose(motion.points(time, camera), expected, rtol=1e-12)


def test_a_caller_who_changes_a_hand_does_not_move_the_next_region() -> None:
    motion, root = Motion(), np.array([0.0, 0.0, 0.5])
    hand = SimpleNamespace(
        joints=(root + SHAPE).astype(np.float32), translation=root.copy(), roi=Roi(320.0, 240.0, 100.0)
    )
    motion.update(hand, 0.0)
    expected = motion.points(0.02, CAMERA).copy()
    hand.joints += 0.05
    hand.translation += 0.1
    np.testing.assert_array_equal(motion.points(0.03, CAMERA), expected)
