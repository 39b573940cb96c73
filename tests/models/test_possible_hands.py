# SPDX-License-Identifier: Apache-2.0
"""The runtime's check of hands against the hand model: what is posed within limits is possible, what is not is told."""

import math

import numpy as np
import pytest
import torch

from cmr_models.hand import HandModel, load_hand
from cmr_models.synth.pose import neutral_angles, sample_poses, sample_shapes
from cmr_models.synth.rng import Rng
from cmr_runtime import joint_angles, violations

HAND = load_hand()
MODEL = HandModel(HAND)
COUNT = 500
KNUCKLES = (5, 9, 13, 17)


@pytest.fixture(scope="module")
def sampled() -> tuple[np.ndarray, np.ndarray]:
    """Angles in degrees (N, 16, 3) and joints (N, 21, 3) of random poses and shapes."""
    rng = Rng(11)
    poses, shapes = sample_poses(rng, COUNT), sample_shapes(rng, COUNT, MODEL.shape_count)
    return np.degrees(poses.numpy()), MODEL(poses - neutral_angles(HAND), shapes).joints.numpy()


def posed(angles: dict[tuple[int, int], float] | None = None) -> np.ndarray:
    """Joints of the mean hand, straight but for angles (bone, axis) in degrees."""
    pose = torch.zeros(1, 16, 3)
    for place, angle in (angles or {}).items():
        pose[0][place] = math.radians(angle)
    return MODEL(pose - neutral_angles(HAND), torch.zeros(1, MODEL.shape_count)).joints[0].numpy()


def test_hands_of_the_model_are_possible(sampled):
    joints = sampled[1]
    assert np.mean([not violations(hand, "right") for hand in joints]) >= 0.99
    assert np.mean([not violations(hand * [-1, 1, 1], "left") for hand in joints]) >= 0.99


def test_hands_taken_for_the_other_side_are_not(sampled):
    bent = [hand for pose, hand in zip(*sampled, strict=True) if (pose[5::3, 0] > 40).any()]
    assert len(bent) > COUNT / 2
    assert np.mean([bool(violations(hand, "left")) for hand in bent]) >= 0.99


def test_angles_are_near_those_that_the_model_was_posed_by(sampled):
    poses, joints = sampled
    found = [joint_angles(hand, "right") for hand in joints]
    for knuckle, bone in zip(KNUCKLES, (4, 7, 10, 13), strict=True):
        for k in range(3):
            error = np.abs([angles.flexion[knuckle + k] for angles in found] - poses[:, bone + k, 0])
            assert np.median(error) < 5, (knuckle, k)
            assert np.percentile(error, 99) < (14 if k == 0 else 6), (knuckle, k)
        spread = np.abs(poses[:, bone, 0]) < 20  # knuckles' own axes are oblique: bent, fingers lean to the thumb
        error = np.abs([angles.abduction[knuckle] for angles in found] - poses[:, bone, 1])[spread]
        assert np.percentile(error, 99) < 8, knuckle


@pytest.mark.parametrize("knuckle", KNUCKLES)
@pytest.mark.parametrize("joint", range(3))
def test_a_joint_bent_back_is_told(knuckle, joint):
    bone = 3 * (knuckle // 4) + 1 + joint
    found = violations(posed({(bone, 0): -60}), "right")
    assert [v[:2] for v in found] == [(knuckle + joint, "flexion")]


@pytest.mark.parametrize("knuckle", KNUCKLES)
@pytest.mark.parametrize("angle", [-60, 60])
def test_a_middle_joint_bent_sideways_is_told(knuckle, angle):
    bone = 3 * (knuckle // 4) + 2
    assert (knuckle + 1, "sideways") in [v[:2] for v in violations(posed({(bone, 1): angle}), "right")]


@pytest.mark.parametrize("end", [j for j in range(3, 21) if j not in KNUCKLES])
def test_a_phalanx_that_is_too_long_is_told(end):
    hand = posed()
    # The model's little finger has a short middle phalanx, 15 mm in a hand of 190; Buryanov and Kotiuk's has 18.
    factor = 2.0 if end == 19 else 1.6
    tip = 4 * ((end - 1) // 4) + 4
    hand[end : tip + 1] += (factor - 1) * (hand[end] - hand[end - 1])
    assert [v[:2] for v in violations(hand, "right")] == [(end, "length")]


@pytest.mark.parametrize(("one", "other"), [(5, 9), (9, 13), (13, 17), (5, 17)])
def test_swapped_knuckles_are_told(one, other):
    hand = posed()
    hand[[one, other]] = hand[[other, one]]
    assert {v.joint for v in violations(hand, "right")} & {one, other}
