# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from cmr_models.hand import HandModel, load_hand
from cmr_models.synth import pose
from cmr_models.synth.gestures import GESTURES
from cmr_models.synth.pose import MCP, clamp_to_limits, limits, neutral_angles, sample_poses, sample_shapes
from cmr_models.synth.pose import gesture_angles as angles_of
from cmr_models.synth.rng import Rng
from cmr_models.synth.view import DISTANCE, FAR_SHIFT, place, project, sample_rotations


@pytest.fixture(scope="module")
def hand():
    return load_hand()


def posed(hand, name):
    angles = torch.zeros(1, 16, 3)
    angles[0, 1:] = angles_of(name) * math.pi / 180
    model = HandModel(hand)
    return model(clamp_to_limits(angles) - neutral_angles(hand), torch.zeros(1, model.shape_count)).joints[0]


def test_poses_keep_the_limits():
    poses = sample_poses(Rng(0), 2000)
    low, high = limits()
    assert (poses >= low - 1e-6).all()
    assert (poses <= high + 1e-6).all()
    assert poses[:, 5, 0].std() > 0.4  # index PIP: varied
    bent = poses[poses[:, 4, 0] > math.radians(70)]
    assert bent[:, 4, 1].abs().max() < math.radians(8)  # a bent knuckle hardly spreads


def test_a_quarter_of_poses_are_seen_ones_and_some_of_these_on_their_way_to_others(monkeypatch):
    """Told by one photographed pose that no other kind makes: straight, but for middle joints at a right angle."""
    seen = torch.zeros(1, 15, 3)
    seen[0, [4, 7, 10, 13], 0] = 90.0
    monkeypatch.setattr(pose, "seen_poses", lambda: (seen, torch.ones(1)))
    monkeypatch.setattr(pose, "add_noise", lambda rng, angles: angles)
    angles = sample_poses(Rng(3), 6000)[:, 1:].rad2deg()
    share = ((angles - seen).abs().amax((1, 2)) < 1e-3).float().mean().item()
    assert share == pytest.approx(0.25 * (1 - pose.SEEN_BLENDED), abs=0.02)
    assert sum(pose.MIXTURE.values()) == pytest.approx(1)
    others = torch.zeros(4000, 15, 3)
    drawn = pose.sample_seen(Rng(4), others)
    assert ((drawn != seen).flatten(1).any(1)).float().mean().item() == pytest.approx(pose.SEEN_BLENDED, abs=0.05)
    assert (drawn >= 0).all()  # between the two
    assert (drawn <= seen).all()


def test_shapes_are_bounded():
    assert sample_shapes(Rng(0), 500, 10).abs().max() <= 2.5


def test_every_gesture_is_within_the_limits():
    low, high = limits()
    for name in GESTURES:
        degrees = angles_of(name) * math.pi / 180
        assert (degrees >= low[1:] - 1e-6).all(), name
        assert (degrees <= high[1:] + 1e-6).all(), name
    assert len(MCP) == 4


def test_flat_hand_is_flat_and_fist_is_closed(hand):
    flat, fist, spread = posed(hand, "flat"), posed(hand, "fist"), posed(hand, "spread")
    for base in (5, 9, 13, 17):
        along = torch.nn.functional.normalize(flat[base + 3] - flat[base], dim=0)
        assert along[1] < -0.95  # straight up: canonical -y
        assert (fist[base + 3] - fist[base]).norm() < 0.65 * (flat[base + 3] - flat[base]).norm()
        assert fist[base + 3, 2] > fist[base, 2] + 0.008  # curled to the palm's side: canonical +z
    gaps = [(hand_[8] - hand_[20]).norm() for hand_ in (flat, spread)]
    assert gaps[1] > 1.3 * gaps[0]


def test_ok_sign_brings_thumb_and_index_together(hand):
    for name, tip in (("ok", 8), ("pinch", 8), ("eight", 12), ("seven", 16), ("six", 20)):
        joints = posed(hand, name)
        assert (joints[4] - joints[tip]).norm() < 0.03, name


def test_rotations_are_rotations_and_seldom_hide_the_hand():
    turned = sample_rotations(Rng(1), 500)
    torch.testing.assert_close(turned @ turned.transpose(1, 2), torch.eye(3).expand(500, 3, 3), atol=1e-5, rtol=0)
    assert (torch.linalg.det(turned) > 0.99).all()
    assert turned[:, 2, 1].min() >= -0.821  # the forearm does not point at the camera
    assert (turned[:, 2, 2] > 0).float().mean().item() == pytest.approx(0.45, abs=0.2)  # palms and backs


def test_crops_fit_the_hand(hand):
    model, rng, count, size = HandModel(hand), Rng(2), 300, 128
    joints = model(sample_poses(rng, count) - neutral_angles(hand), sample_shapes(rng, count, model.shape_count)).joints
    view = place(rng, joints, sample_rotations(rng, count), size)
    camera = joints @ view.rotation.transpose(1, 2) + view.translation[:, None]
    distance = camera[:, 9, 2]
    assert distance.min() >= DISTANCE[0] - 1e-5
    assert distance.max() <= DISTANCE[1] + 1e-5
    pixels = project(camera, view.focal, size)[..., :2]
    box = pixels.amax(1) - pixels.amin(1)
    side = size / box.amax(1)
    assert 1.1 < side.min() < 1.5
    assert 1.9 < side.max() < 2.5
    centre = (pixels.amax(1) + pixels.amin(1)) / 2 - (size - 1) / 2
    assert centre.abs().max() < (FAR_SHIFT + 0.12) * size
    assert (centre.abs().amax(1) < 0.15 * size).float().mean() > 0.85
