# SPDX-License-Identifier: Apache-2.0
"""Baked crops: labels land where the pixels are, backgrounds stay clear of hands, held-out groups stay apart."""

import json

import cv2
import numpy as np
import pytest

from cmr_models import real_crops as rc
from cmr_models.pseudo_label import View

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
    data = rc.bake(path, labelled, {}, size=128, backgrounds=6, bg_size=64)
    assert data["keypoints"].shape == (2, 21, 2)
    assert data["right"].tolist() == [True, False]
    assert data["val"].tolist() == [False, True]
    for i in range(2):
        crop = rc.decode(data["jpeg"], data["offsets"], i).astype(float)
        assert crop.shape == (128, 128, 3)
        red = (crop[..., 0] > 150) & (crop[..., 2] < 110)
        ys, xs = np.nonzero(red)
        np.testing.assert_allclose([xs.mean(), ys.mean()], data["keypoints"][i, 1], atol=1.5)
        span = np.ptp(data["keypoints"][i], axis=0).max()
        assert span == pytest.approx(128 / rc.CROP_SCALE, rel=0.03)
    np.testing.assert_allclose(data["valid"][0], [-0.5, -0.5, 127.5, 127.5], atol=1e-4)
    x0, y0, x1, y1 = data["valid"][1]
    assert (x0, y1) == (-0.5, 127.5)
    assert y0 > 0
    assert x1 < 127


def test_backgrounds_hold_no_hand(folder):
    path, labelled = folder
    data = rc.bake(path, labelled, {}, size=64, backgrounds=8, bg_size=64)
    count = len(data["bg_group"])
    assert count > 0
    assert set(data["bg_group"].tolist()) == {"rooms"}, "the numbered pictures show nothing but hands"
    for i in range(count):
        crop = rc.decode(data["bg_jpeg"], data["bg_offsets"], i).astype(int)
        assert crop.shape == (64, 64, 3)
        assert not ((crop[..., 2] > 180) & (crop[..., 0] < 60)).any()


def test_same_seed_same_file(folder):
    path, labelled = folder
    first, second = (rc.bake(path, labelled, {}, size=64, backgrounds=4, bg_size=64) for _ in range(2))
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])


def test_command_and_its_file(folder, capsys):
    path, labelled = folder
    (path / "labels.json").write_text(json.dumps(labelled))
    (path / "boxes.csv").write_text(
        'image,group,hand_boxes_xyxy\nx/rooms/0.png,rooms_1,"[[0, 0, 320, 240]]"\nx/rooms/1.png,rooms_55,\n'
    )
    files = [str(path), str(path / "labels.json"), str(path / "o.npz")]
    rc.main([*files, "--boxes", str(path / "boxes.csv"), "--backgrounds", "20"])
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
    data = rc.bake(path, labelled, {}, groups, size=64, backgrounds=6, bg_size=64, skip_groups="rooms_1")
    assert data["group"].tolist() == ["rooms_55"]
    assert set(data["bg_group"].tolist()) == {"rooms_55"}


def test_quality_falls_until_the_limit_is_kept(folder):
    path, _ = folder
    jobs = [("rooms/0.png", View(0, 0, 240, 240, 240, 240))]
    full = len(rc.encode_jobs(path, jobs, rc.QUALITIES[0])[0])
    assert rc.choose_quality(path, jobs, full) == rc.QUALITIES[0]
    assert rc.choose_quality(path, jobs, full - 1) < rc.QUALITIES[0]
    with pytest.raises(SystemExit, match="lower --size"):
        rc.choose_quality(path, jobs, 10)


def test_missing_photo_is_named(folder):
    path, labelled = folder
    (path / "rooms" / "0.png").unlink()
    with pytest.raises(SystemExit, match=r"rooms/0\.png"):
        rc.bake(path, labelled, {}, size=64, backgrounds=1)


def test_background_squares_keep_clear_of_obstacles():
    rng = np.random.default_rng(1)
    avoid = [(100.0, 50.0, 200.0, 150.0), (0.0, 0.0, 40.0, 40.0)]
    views = rc.background_views(rng, WIDTH, HEIGHT, avoid, 50, 64)
    assert len(views) == 50
    for view in views:
        assert 0 <= view.x0 < view.x1 <= WIDTH
        assert 0 <= view.y0 < view.y1 <= HEIGHT
        assert rc.BACKGROUND_SCALES[0] * HEIGHT - 1 <= view.x1 - view.x0 <= HEIGHT
        for x0, y0, x1, y1 in avoid:
            assert view.x1 <= x0 or view.x0 >= x1 or view.y1 <= y0 or view.y0 >= y1
    assert rc.background_views(rng, WIDTH, HEIGHT, [(0, 0, WIDTH, HEIGHT)], 5, 64) == []


def test_unmarked_frames_need_a_detection_and_distrust_what_hangs_below():
    hand = (100.0, 50.0, 140.0, 90.0)
    assert rc.obstacles([], None, HEIGHT) is None
    assert rc.obstacles([], [], HEIGHT) == []
    below = rc.obstacles([hand], None, HEIGHT)[-1]
    assert below[1] == 130
    assert below[0] < 0
    assert below[2] > WIDTH
    assert len(rc.obstacles([hand, (200.0, 50.0, 240.0, 90.0)], None, HEIGHT)) == 2
    assert len(rc.obstacles([hand], [hand], HEIGHT)) == 2


def test_weight_falls_with_disagreement():
    assert rc.weight_of(0.0) == 1
    assert rc.weight_of(rc.HALF_WEIGHT) == pytest.approx(0.5)
    assert rc.weight_of(0.05) < 0.25


def test_held_out_runs_are_whole():
    names = [f"digits/{n % 10}_IMG_{n}.jpg" for n in range(1000, 3000)] + ["rooms/996_pic1.jpg", "rooms/2_pic1.jpg"]
    groups = ["digits"] * 2000 + ["rooms_996", "rooms_2"]
    val = rc.held_out(names, groups)
    assert val[-2:].tolist() == [True, False]
    assert val[:2000].sum() == pytest.approx(2000 * rc.VAL_SHARE, abs=rc.VAL_RUN)
    runs = val[:2000].reshape(-1, rc.VAL_RUN)
    assert (runs.all(axis=1) | ~runs.any(axis=1)).all()
    assert (rc.held_out(names, groups) == val).all()
    assert (rc.held_out(names, groups, seed=1) != val).any()
