# SPDX-License-Identifier: Apache-2.0
"""Joint angles against a hand built from known ones; what is reported of a hand, and what is refused."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cmr_runtime import InputError, Violation, biomechanics, bone_lengths, joint_angles, violations

KNUCKLES = np.array([5, 9, 13, 17])
#: Knuckles of an adult, metres, the middle one straight ahead of the wrist.
PALM = np.array([(-0.027, 0.097, 0), (0, 0.097, 0), (0.021, 0.09, 0), (0.04, 0.078, 0)])
THUMB = [(-0.025, 0.03, -0.008), (-0.05, 0.055, -0.022), (-0.066, 0.08, -0.027), (-0.074, 0.104, -0.03)]
#: Phalanges of Buryanov and Kotiuk (2010), with their pulp, and standard deviations, millimetres.
PHALANGES = np.array([(39.8, 22.4, 19.7), (44.6, 26.3, 21.4), (41.4, 25.7, 21.3), (32.7, 18.1, 19.7)])
DEVIATIONS = np.array([(4.9, 2.5, 2.3), (3.8, 3.0, 1.9), (3.9, 3.3, 2.2), (2.8, 2.5, 2.5)])
OUTWARD = (1, 1, -1, -1)  # turning about the back of the hand leads index and middle finger to the thumb, at -x
SOFT = np.tile((5.0, 0.0, 8.0, 5.0), (4, 1))


def build(poses: np.ndarray = SOFT, lengths: np.ndarray = PHALANGES) -> np.ndarray:
    """Right hand, fingers along +y, palm to -z, from (4, 4) degrees: flexion, abduction, flexion of PIP and of DIP."""
    joints = [np.zeros((1, 3)), THUMB]
    for place, outward, pose, length in zip(PALM, OUTWARD, poses, 0.001 * lengths, strict=True):
        flexion, abduction, pip, dip = pose
        turns = np.cumsum([0, pip, dip])
        # Hinges bend about the axis that abduction has turned.
        knuckle = Rotation.from_euler("XZ", [-flexion, outward * abduction], degrees=True)
        bones = [
            knuckle.apply(Rotation.from_euler("X", -turn, degrees=True).apply([0, along, 0]))
            for turn, along in zip(turns, length, strict=True)
        ]
        joints.append(place + np.cumsum([np.zeros(3), *bones], axis=0))
    return np.concatenate(joints)


def flip(joints: np.ndarray) -> np.ndarray:
    return joints * [-1, 1, 1]


def degrees(low: float, high: float) -> st.SearchStrategy[list[float]]:
    return st.lists(st.floats(low, high), min_size=4, max_size=4)


poses = st.tuples(degrees(-40, 94), degrees(-29, 29), degrees(-9, 114), degrees(-19, 89)).map(np.transpose)


@settings(deadline=None)
@given(pose=poses)
def test_angles_are_those_that_a_hand_was_built_from(pose: np.ndarray) -> None:
    found = joint_angles(build(pose), "right")
    for k, angles in enumerate((found.flexion, found.abduction)):
        np.testing.assert_allclose(angles[KNUCKLES], pose[:, k], atol=1e-6)
    for k in (1, 2):
        np.testing.assert_allclose(found.flexion[KNUCKLES + k], pose[:, k + 1], atol=1e-6)
        np.testing.assert_allclose(found.sideways[KNUCKLES + k], 0, atol=1e-6)
    assert violations(build(pose), "right", tolerance=0) == []


@settings(deadline=None)
@given(pose=poses, turn=st.integers(0, 2**32 - 1), scale=st.floats(0.01, 1000))
def test_angles_and_lengths_do_not_depend_on_place_size_and_side(pose: np.ndarray, turn: int, scale: float) -> None:
    hand = build(pose)
    random = np.random.default_rng(turn)
    moved = scale * Rotation.random(random_state=random).apply(hand) + random.normal(size=3)
    for other, side in ((moved, "right"), (flip(moved), "left")):
        np.testing.assert_allclose(joint_angles(other, side), joint_angles(hand, "right"), atol=1e-5)
        np.testing.assert_allclose(bone_lengths(other), bone_lengths(hand), atol=1e-8)


def test_a_thumb_bends_to_the_little_finger() -> None:
    hand = build()
    base = hand[2] - hand[1]
    hand[3], hand[4] = hand[2] + 0.8 * base, hand[2] + 1.5 * base
    straight = joint_angles(hand, "right")
    np.testing.assert_allclose([straight.flexion[[2, 3]], straight.sideways[[2, 3]]], 0, atol=1e-6)
    axis = np.cross(base, hand[17] - hand[1])
    turn = Rotation.from_rotvec(np.radians(50) * axis / np.linalg.norm(axis))
    hand[4] = hand[3] + turn.apply(hand[4] - hand[3])
    bent = joint_angles(hand, "right")
    np.testing.assert_allclose(bent.flexion[[2, 3]], [0, 50], atol=1e-6)
    # Out of the palm's plane, z = 0, by the sine of its depth.
    assert bent.abduction[1] == pytest.approx(np.degrees(np.arcsin(-base[2] / np.linalg.norm(base))))


@pytest.mark.parametrize("finger", range(4))
@pytest.mark.parametrize("joint", range(3))
def test_a_finger_bent_back_is_reported_where_it_is(finger: int, joint: int) -> None:
    pose = SOFT.copy()
    pose[finger, (0, 2, 3)[joint]] = -60
    (violation,) = violations(build(pose), "right")
    assert violation[:2] == (KNUCKLES[finger] + joint, "flexion")
    assert violation.value == pytest.approx(-60)


@pytest.mark.parametrize("finger", range(4))
@pytest.mark.parametrize("angle", [-50, 50])
def test_a_finger_bent_sideways_is_reported_where_it_is(finger: int, angle: float) -> None:
    hand, pip = build(), KNUCKLES[finger] + 1
    end = hand[pip + 1 : pip + 3] - hand[pip]
    hand[pip + 1 : pip + 3] = hand[pip] + Rotation.from_euler("z", angle, degrees=True).apply(end)
    (violation,) = violations(hand, "right")
    assert violation[:2] == (pip, "sideways")
    assert violation.value == pytest.approx(-angle, abs=2)  # the little finger's side is at +x


@pytest.mark.parametrize("one", range(4))
@pytest.mark.parametrize("other", range(4))
def test_swapped_knuckles_are_reported(one: int, other: int) -> None:
    hand = build()
    hand[KNUCKLES[[one, other]]] = hand[KNUCKLES[[other, one]]]
    found = violations(hand, "right")
    assert ("fan" in {v.kind for v in found}) == (one != other)
    assert one == other or {v.joint for v in found} & {KNUCKLES[one], KNUCKLES[other]}


def test_the_wrong_side_is_reported_of_every_bent_joint() -> None:
    fist = np.tile((60.0, 0.0, 80.0, 45.0), (4, 1))
    found = {v.joint for v in violations(build(fist), "left") if v.kind == "flexion"}
    assert found == {k + joint for k in KNUCKLES for joint in range(3)}


@pytest.mark.parametrize("finger", range(4))
@pytest.mark.parametrize("bone", range(3))
def test_a_bone_is_possible_two_deviations_from_its_mean_and_not_at_twice_or_half(finger: int, bone: int) -> None:
    for sign in (-2, 2):
        lengths = PHALANGES.copy()
        lengths[finger, bone] += sign * DEVIATIONS[finger, bone]
        assert violations(build(lengths=lengths), "right") == []
    for factor in (0.5, 2.0):
        lengths = PHALANGES.copy()
        lengths[finger, bone] *= factor
        (violation,) = violations(build(lengths=lengths), "right")
        assert violation[:2] == (KNUCKLES[finger] + bone + 1, "length")
        usual = bone_lengths(build())[violation.joint]
        assert violation.value == pytest.approx(factor * usual, rel=0.05)  # one bone hardly changes the hand's size


def test_a_tolerance_widens_what_is_possible() -> None:
    pose = SOFT.copy()
    pose[1, 2] = -25.0
    ranges = [[(v.joint, v.low, v.high) for v in violations(build(pose), "right", t)] for t in (0, 14, 16)]
    assert ranges == [[(10, -10, 115)], [(10, -24, 129)], []]


def test_violations_read_well() -> None:
    assert str(Violation(6, "flexion", -38.2, -20.0, 125.0)) == "index PIP: flexion -38°, possible are -20° to 125°"
    text = "little middle phalanx: 1.62 of its usual length, possible are 0.6 to 1.5"
    assert str(Violation(19, "length", 1.618, 0.6, 1.5)) == text


def test_the_example_runs() -> None:
    assert doctest.testmod(biomechanics).failed == 0
    assert doctest.testmod(biomechanics).attempted > 0


FLAT = build()


@pytest.mark.parametrize(
    ("joints", "message"),
    [
        (FLAT[:20], r"\(20, 3\); give the 21 joints"),
        (FLAT[:, :2], r"\(21, 2\)"),
        (np.zeros((70, 3)), r"\(70, 3\)"),
        ("hand", "str"),
        ([["a"] * 3] * 21, "list"),
        (np.where(np.arange(21)[:, None] == 4, np.nan, FLAT), "joint 4 is at .*nan"),
        (np.where(np.arange(21)[:, None] == 20, np.inf, FLAT), "joint 20"),
        (FLAT * 1e200, "joint 1"),
        (FLAT[[*range(7), 6, *range(8, 21)]], "joints 6 and 7 are in one place"),
        (np.zeros((21, 3)), "joints 0 and 1 are in one place"),
        (FLAT * [0, 1, 0], "line"),
    ],
)
def test_what_is_no_hand_is_refused(joints: object, message: str) -> None:
    for ask in (lambda: violations(joints, "right"), lambda: joint_angles(joints, "left")):
        with pytest.raises(InputError, match=message):
            ask()


def test_sides_and_tolerances_are_checked() -> None:
    with pytest.raises(InputError, match="side is 'Right'"):
        violations(FLAT, "Right")
    for tolerance in (-1, np.nan, np.inf, "10"):
        with pytest.raises(InputError, match="tolerance is"):
            violations(FLAT, "right", tolerance)


def test_what_is_given_stays_as_it_is() -> None:
    hand = FLAT.copy()
    violations(hand, "left")
    np.testing.assert_array_equal(hand, FLAT)
