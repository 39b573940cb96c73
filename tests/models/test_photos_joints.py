# SPDX-License-Identifier: Apache-2.0
"""Labels moved to the hand model's joints: what was planted is found again and turns with the hand."""

import json
import math

import numpy as np
import pytest
import torch

from cmr_models.hand import HandModel, load_hand
from cmr_models.photos.joint_offsets import main, measure
from cmr_models.photos.joints import OFFSETS, joint_frames, to_model
from cmr_models.synth.pose import library, neutral_angles

FOCAL, MIDDLE, DEPTH = 50000.0, 128.0, 60.0  # far away: labels know no perspective
PLANTED = np.random.default_rng(5).normal(0, 0.05, (21, 3))


def turns(random: np.random.Generator, count: int) -> np.ndarray:
    """Rotations drawn evenly, (N, 3, 3)."""
    q, r = np.linalg.qr(random.normal(size=(count, 3, 3)))
    q = q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None]
    return q * np.linalg.det(q)[:, None, None]


@pytest.fixture(scope="module")
def hands() -> np.ndarray:
    """Joints of right hands in gestures, each seen from five sides, (N, 21, 3) metres relative to the wrist."""
    hand, degrees = load_hand(), library()[0].repeat(5, 1, 1)
    model = HandModel(hand)
    angles = torch.cat((torch.zeros(len(degrees), 1, 3), degrees), 1) * (math.pi / 180)
    with torch.no_grad():
        joints = model(angles - neutral_angles(hand), torch.zeros(len(degrees), model.shape_count)).joints.double()
    joints = (joints - joints[:, :1]).numpy()
    return np.einsum("njx,nxy->njy", joints, turns(np.random.default_rng(2), len(joints)))


def labelled(hands: np.ndarray, offsets: np.ndarray, scale: float = 900.0) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints of a weak perspective camera, true and as labels that place their joints elsewhere have them."""
    palm = np.linalg.norm(hands[:, [5, 9, 13, 17]] - hands[:, :1], axis=-1).mean(1)
    moved = hands + palm[:, None, None] * np.einsum("njxk,jk->njx", joint_frames(hands), offsets)
    return scale * hands[..., :2] + MIDDLE, scale * moved[..., :2] + MIDDLE


def test_frames_are_rotations_that_turn_with_the_hand(hands):
    frames, turn = joint_frames(hands), turns(np.random.default_rng(0), 1)[0]
    np.testing.assert_allclose(frames.swapaxes(-1, -2) @ frames, np.broadcast_to(np.eye(3), frames.shape), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(frames), 1)
    np.testing.assert_allclose(joint_frames(hands @ turn.T), turn @ frames, atol=1e-9)
    for joint, (start, end) in {0: (0, 9), 4: (3, 4), 5: (5, 6), 8: (7, 8), 19: (19, 20)}.items():
        bone = hands[:, end] - hands[:, start]
        np.testing.assert_allclose(frames[:, joint, :, 0], bone / np.linalg.norm(bone, axis=1, keepdims=True))


def flat_hand() -> np.ndarray:
    """A right hand seen from its back, fingers up, in the image's plane: thumb on the left. Palm of 0.1 m."""
    joints = np.zeros((1, 21, 3))
    joints[0, 1:5, 0] = [-0.03, -0.05, -0.07, -0.09]
    for finger, x in enumerate((-0.03, -0.01, 0.01, 0.03)):
        joints[0, 5 + 4 * finger : 9 + 4 * finger] = [(x, -np.sqrt(0.01 - x**2) - 0.03 * k, 0) for k in range(4)]
    return joints


def test_the_axes_of_a_flat_hand_are_where_the_description_says():
    frames = joint_frames(flat_hand())[0]
    up, left, away = [0, -1, 0], [-1, 0, 0], [0, 0, 1]
    for joint in range(5, 21):  # along the finger; towards the thumb; square to both
        np.testing.assert_allclose(frames[joint].T, [up, left, np.cross(up, left)], atol=1e-12)
    # The thumb's second axis is out of the palm: as the back is seen, away from the viewer.
    for joint in range(1, 5):
        np.testing.assert_allclose(frames[joint].T, [left, away, np.cross(left, away)], atol=1e-12)


@pytest.mark.parametrize("seen_from_the_side", [False, True])
def test_each_joint_of_a_flat_hand_moves_by_its_own_offsets(seen_from_the_side):
    """Written out by hand: in sizes of the palm, against the axes that lie in the image."""
    scale, palm = 1000.0, 0.1
    joints = flat_hand()
    if seen_from_the_side:  # turned by a quarter: what lay behind comes to the right, what lay to the left behind
        joints = joints @ np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]]).T
    moved = (to_model(scale * joints[..., :2], joints, np.array([True]))[0] - scale * joints[0, :, :2]) / (scale * palm)
    for joint in (5, 8, 9, 12, 14, 17, 20):
        along, across, third = OFFSETS[joint]  # up, to the left, and towards the viewer or, from the side, to the left
        np.testing.assert_allclose(moved[joint], [third if seen_from_the_side else across, along], atol=1e-6)
    along, across, third = OFFSETS[1]  # to the left; away from the viewer or, from the side, to the right; down
    np.testing.assert_allclose(moved[1], [-across if seen_from_the_side else along, -third], atol=1e-6)


def test_planted_offsets_are_found_again_although_some_labels_are_wrong(hands):
    true, seen = labelled(hands, PLANTED)
    right = np.ones(len(hands), bool)
    world = hands + np.random.default_rng(1).normal(0, 1e-4, hands.shape)
    seen[::8] += np.random.default_rng(3).normal(0, 30, seen[::8].shape)  # an eighth of them, by centimetres
    np.testing.assert_allclose(measure(seen, world, right, true), PLANTED, atol=0.012)
    square = np.abs(measure(seen[1::8], world[1::8], right[1::8], true[1::8]) - PLANTED).max()
    assert square < 0.012


def test_labels_move_onto_the_joints_at_any_scale_and_place(hands):
    true, seen = labelled(hands, PLANTED)
    right = np.ones(len(hands), bool)
    before = np.linalg.norm(seen - true, axis=-1).mean()
    # A label's own scale is that of its moved joints, which is off by what the offsets say: up to a few per cent.
    after = np.linalg.norm(to_model(seen, hands, right, PLANTED) - true, axis=-1).mean()
    assert after < 0.1 * before
    for zoom, shift, size in ((0.3, 40.0, 1.0), (2.0, -7.0, 1.4)):
        again = to_model(zoom * seen + shift, size * hands, right, PLANTED)
        np.testing.assert_allclose(again, zoom * to_model(seen, hands, right, PLANTED) + shift, atol=1e-9)


def test_a_left_hand_moves_as_its_mirror_image(hands):
    _, seen = labelled(hands, PLANTED)
    right = np.ones(len(hands), bool)
    mirror = np.array([-1.0, 1.0, 1.0])
    left = to_model(seen * mirror[:2], hands * mirror, ~right, OFFSETS)
    np.testing.assert_allclose(left, to_model(seen, hands, right, OFFSETS) * mirror[:2], atol=1e-9)
    both = right.copy()
    both[::2] = False
    mixed = np.where(both[:, None, None], seen, seen * mirror[:2]), np.where(both[:, None, None], hands, hands * mirror)
    moved = to_model(*mixed, both, OFFSETS)
    np.testing.assert_allclose(np.where(both[:, None, None], moved, moved * mirror[:2]), left * mirror[:2], atol=1e-9)


def test_fingertips_of_a_flat_hand_move_outwards_and_the_wrist_away_from_them():
    """What was measured says so; and no joint moves by more than a thumb's width."""
    hand = load_hand()
    joints = (hand.joint_regressor @ hand.template)[None].astype(float)  # about flat, across the camera's axis
    seen = 900 * joints[..., :2]
    moved = to_model(seen, joints, np.array([True]))[0]
    tips = [4, 8, 12, 16, 20]
    before, after = (np.linalg.norm(points[tips] - points[0], axis=1) for points in (seen[0], moved))
    assert (after > before + 900 * 0.005).all()
    assert np.linalg.norm(moved - seen[0], axis=1).max() < 900 * 0.02


def test_no_labels_stay_none():
    assert to_model(np.zeros((0, 21, 2)), np.zeros((0, 21, 3)), np.zeros(0, bool)).shape == (0, 21, 2)


def write(folder, hands, offsets):
    """Annotated photos, every other hand left, and labels that misplace their joints; one label is of another hand."""
    entries, labels = [], []
    for number, joints in enumerate(hands + np.array([0, 0, DEPTH])):
        _, seen = labelled(hands[number, None], offsets, FOCAL / DEPTH)
        world, side, name = hands[number], "right", f"{number}.png"
        if number % 2:
            side, mirror = "left", np.array([-1.0, 1.0, 1.0])
            joints, world = joints * mirror, world * mirror
            seen = seen * [-1, 1] + [2 * MIDDLE, 0]
        matrix = [[FOCAL, 0, MIDDLE], [0, FOCAL, MIDDLE], [0, 0, 1]]
        entries.append({"image": name, "handedness": side, "K": matrix, "joints_camera_m": joints.tolist()})
        seen = seen[0] + (500 if number == 7 else 0)
        labels.append({"image": name, "handedness": side, "keypoints": seen.tolist(), "world": world.tolist()})
    (folder / "annotations.json").write_text(json.dumps(entries))
    (folder / "labels.json").write_text(json.dumps({"labels": labels}))
    return [str(folder), str(folder / "labels.json")]


def test_the_command_prints_what_it_measures(hands, tmp_path, capsys):
    main(write(tmp_path, hands, 0.2 * PLANTED))
    said = capsys.readouterr().out
    table = np.array(json.loads(said[: said.index("]]") + 2]))
    np.testing.assert_allclose(table, 0.2 * PLANTED, atol=0.004)
    before, after = (float(said.split(word)[0].split()[-1]) for word in (" as labelled", " moved"))
    assert after < 0.4 * before
    assert int(said.split("]]")[1].split()[0]) <= len(hands) - 1


def test_labels_that_contradict_themselves_are_left_out(hands, tmp_path, capsys):
    files = write(tmp_path, hands, 0.2 * PLANTED)
    said = json.loads((tmp_path / "labels.json").read_text())
    for number, factor in ((3, -1.0), (11, 0.0)):  # their 3D joints point the other way, or are none
        said["labels"][number]["world"] = (factor * np.array(said["labels"][number]["world"])).tolist()
    (tmp_path / "labels.json").write_text(json.dumps(said))
    main(files)
    table = capsys.readouterr().out
    np.testing.assert_allclose(json.loads(table[: table.index("]]") + 2]), 0.2 * PLANTED, atol=0.004)


@pytest.mark.parametrize("what", ["no folder", "no labels", "no joints", "other photos"])
def test_the_command_says_what_it_cannot_use(hands, tmp_path, capsys, what):
    files = write(tmp_path, hands, PLANTED)
    if what == "no folder":
        files[0] = str(tmp_path / "nowhere")
    elif what == "no labels":
        (tmp_path / "labels.json").unlink()
    else:
        entries = json.loads((tmp_path / "annotations.json").read_text())
        (tmp_path / "annotations.json").unlink()
        if what == "no joints":
            (tmp_path / "cameras.json").write_text(json.dumps([{**e, "joints_camera_m": None} for e in entries]))
        else:
            (tmp_path / "annotations.json").write_text(json.dumps(entries[5:]))
    with pytest.raises(SystemExit):
        main(files)
    assert "cannot be used" in capsys.readouterr().err.splitlines()[-1]


def test_the_command_wants_enough_hands(hands, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(write(tmp_path, hands[:60], PLANTED))
    assert "need 100" in capsys.readouterr().err
