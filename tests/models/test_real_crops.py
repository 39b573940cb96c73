# SPDX-License-Identifier: Apache-2.0
"""Baked crops: labels land where the pixels are, backgrounds hold no hand, the file follows from the seed."""

import json

import cv2
import numpy as np
import pytest

from cmr_models.photos.crops import CROP_SCALE
from cmr_models.photos.jpeg import decode
from cmr_models.real_crops import bake, main

HEIGHT, WIDTH = 240, 320


def joints(centre=(160.0, 120.0), side=60.0) -> np.ndarray:
    """21 points on a ring with the given bounding box's side."""
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1) * side / 2
    return np.concatenate([[[0, 0]], ring]) + centre


def label(image, points, hand="right", group="rooms_1", disagreement=0.01):
    return {
        "image": image,
        "width": WIDTH,
        "height": HEIGHT,
        "group": group,
        "handedness": hand,
        "score": 0.99,
        "keypoints": points.tolist(),
        "world": np.zeros((21, 3)).tolist(),
        "disagreement_2d": disagreement,
        "disagreement_3d": 0.005,
    }


def box_of(points):
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]


@pytest.fixture
def folder(tmp_path):
    """Two frames with a red dot at joint 1 of a hand, one in a corner; and two small pictures, their hands in blue."""
    for name in ("rooms", "digits"):
        (tmp_path / name).mkdir()
    labels, detections = [], {}
    rng = np.random.default_rng(0)
    for i, centre in enumerate([(160.0, 120.0), (280.0, 30.0)]):
        points = joints(centre)
        image = rng.integers(90, 140, (HEIGHT, WIDTH, 3), np.uint8)
        low, high = points.min(axis=0).astype(int), points.max(axis=0).astype(int)
        image[max(low[1], 0) : high[1], low[0] : high[0]] = (255, 0, 0)
        cv2.circle(image, tuple(points[1].round().astype(int).tolist()), 4, (0, 0, 255), -1)
        name = f"rooms/{i}.png"
        cv2.imwrite(str(tmp_path / name), image)
        labels.append(label(name, points, "left" if i else "right", group="rooms_55" if i else "rooms_1"))
        detections[name] = [{"box": box_of(points), "reason": ""}]
    for i in range(2):
        name = f"digits/{i}.png"
        cv2.imwrite(str(tmp_path / name), np.full((100, 100, 3), (255, 0, 0), np.uint8))
        detections[name] = [{"box": [20, 20, 80, 80], "reason": "too small"}]
    return tmp_path, {"labels": labels, "detections": detections}


def test_labels_land_on_the_pixels(folder):
    path, labelled = folder
    data = bake(path, labelled, {}, size=128, backgrounds=6, bg_size=64)
    assert data["keypoints"].shape == (2, 21, 2)
    assert data["right"].tolist() == [True, False]
    assert data["val"].tolist() == [False, True]
    for i in range(2):
        crop = decode(data["jpeg"], data["offsets"], i).astype(float)
        assert crop.shape == (128, 128, 3)
        red = (crop[..., 0] > 150) & (crop[..., 2] < 110)
        ys, xs = np.nonzero(red)
        np.testing.assert_allclose([xs.mean(), ys.mean()], data["keypoints"][i, 1], atol=1.5)
        span = np.ptp(data["keypoints"][i], axis=0).max()
        assert span == pytest.approx(128 / CROP_SCALE, rel=0.03)
    np.testing.assert_allclose(data["valid"][0], [-0.5, -0.5, 127.5, 127.5], atol=1e-4)
    x0, y0, x1, y1 = data["valid"][1]
    assert (x0, y1) == (-0.5, 127.5)
    assert y0 > 0
    assert x1 < 127


def test_backgrounds_hold_no_hand(folder):
    path, labelled = folder
    data = bake(path, labelled, {}, size=64, backgrounds=8, bg_size=64)
    count = len(data["bg_group"])
    assert count > 0
    assert set(data["bg_group"].tolist()) == {"rooms_1", "rooms_55"}, "the numbered pictures show nothing but hands"
    for i in range(count):
        crop = decode(data["bg_jpeg"], data["bg_offsets"], i).astype(int)
        assert crop.shape == (64, 64, 3)
        assert not ((crop[..., 2] > 180) & (crop[..., 0] < 60)).any()


def test_same_seed_same_file(folder):
    path, labelled = folder
    first, second = (bake(path, labelled, {}, size=64, backgrounds=4, bg_size=64) for _ in range(2))
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])


def test_command_and_its_file(folder, capsys):
    path, labelled = folder
    (path / "labels.json").write_text(json.dumps(labelled))
    (path / "boxes.csv").write_text(
        'image,group,hand_boxes_xyxy\nx/rooms/0.png,rooms_1,"[[0, 0, 320, 240]]"\nx/rooms/1.png,rooms_55,\n'
    )
    files = [str(path), str(path / "labels.json"), str(path / "o.npz")]
    main([*files, "--boxes", str(path / "boxes.csv"), "--backgrounds", "20"])
    with np.load(path / "o.npz") as data:
        assert len(data["offsets"]) == 3
        assert data["jpeg"].dtype == np.uint8
        assert 0 < len(data["bg_group"]) <= 20
        assert data["bg_group"].tolist() == ["rooms_55"] * len(data["bg_group"]), "the other frame is all box"
        assert data["bg_val"].all()
    assert "2 hands (1 right, 1 held out)" in capsys.readouterr().out


def test_groups_can_be_left_out(folder):
    path, labelled = folder
    groups = {"rooms/0.png": "rooms_1", "rooms/1.png": "rooms_55"}
    data = bake(path, labelled, {}, groups, size=64, backgrounds=6, bg_size=64, skip_groups="rooms_1")
    assert data["group"].tolist() == ["rooms_55"]
    assert set(data["bg_group"].tolist()) == {"rooms_55"}


def test_hands_and_backgrounds_of_a_scene_are_held_out_together(folder):
    """Whoever states the groups: the labels, or the index where the labels know folders only."""
    path, labelled = folder
    plain = {**labelled, "labels": [{**la, "group": "rooms"} for la in labelled["labels"]]}
    listed = {"rooms/0.png": "rooms_1", "rooms/1.png": "rooms_55"}
    stated = {**plain, "groups": listed}
    for labels, groups in ((labelled, {}), (stated, {}), (plain, listed)):
        data = bake(path, labels, {}, groups, size=64, backgrounds=8, bg_size=64)
        assert data["group"].tolist() == ["rooms_1", "rooms_55"]
        assert data["val"].tolist() == [False, True]
        assert data["bg_val"].tolist() == (data["bg_group"] == "rooms_55").tolist()
        assert data["bg_val"].any()
        data = bake(path, labels, {}, groups, size=64, backgrounds=8, bg_size=64, skip_groups="rooms_1")
        assert set(data["group"].tolist()) == set(data["bg_group"].tolist()) == {"rooms_55"}


def test_groups_to_leave_out_must_be_there(folder):
    path, labelled = folder
    with pytest.raises(SystemExit, match=r"--skip-groups rooms_Hand_: .* there are rooms_1, rooms_55; is --boxes"):
        bake(path, labelled, {}, size=64, backgrounds=1, skip_groups="rooms_Hand_")


def test_missing_photo_is_named(folder):
    path, labelled = folder
    (path / "rooms" / "0.png").unlink()
    with pytest.raises(SystemExit, match=r"rooms/0\.png"):
        bake(path, labelled, {}, size=64, backgrounds=1)
