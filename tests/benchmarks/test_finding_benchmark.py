# SPDX-License-Identifier: Apache-2.0
"""What the benchmark of finding hands makes of its pictures and figures."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import finding
from benchmarks.finding import Row, hand_free, main, nearest, side_by_side, table, twice
from cmr_runtime import Camera, HandMeshTracker
from cmr_runtime.image_io import read_image
from cmr_runtime.precision import open_bundle


def test_frames_side_by_side_keep_their_pixels():
    left, right = np.full((4, 3, 3), 7, np.uint8), np.full((2, 5, 3), 9, np.uint8)
    both = side_by_side(left, right)
    assert both.shape == (4, 8, 3)
    assert (both[:, :3] == 7).all()
    assert (both[:2, 3:] == 9).all()
    assert not both[2:, 3:].any()


def test_the_nearest_hand_counts_in_sides_of_the_box():
    joints = np.stack([np.linspace(0, 50, 21), np.linspace(0, 20, 21)], axis=1)
    assert nearest(joints, [joints + np.array([0, 30]), joints + np.array([5, 0])]) == pytest.approx(0.1)
    assert nearest(joints, []) == float("inf")


def test_a_hand_given_twice_is_seen():
    one = np.stack([np.linspace(0, 50, 21), np.linspace(0, 20, 21)], axis=1)
    aside, beside = one + np.array([0, 6]), one + np.array([60, 0])
    assert not twice([])
    assert not twice([one, beside])
    assert twice([beside, one, aside])


@pytest.fixture
def frames(tmp_path):
    """Ten frames, white where somebody marked a hand, red where one was detected."""
    (tmp_path / "unlabelled" / "room").mkdir(parents=True)
    rows, detections = ["image,source,licence,group,hand_boxes_xyxy"], {}
    for k in range(10):
        image = np.zeros((120, 160, 3), np.uint8)
        image[20:60, 30:70] = 255
        image[80:110, 100:130] = (0, 0, 255)
        cv2.imwrite(str(tmp_path / "unlabelled" / "room" / f"{k}.png"), image)
        group = "rooms_55" if k % 2 else "rooms_1"
        rows.append(f'unlabelled/room/{k}.png,x,y,{group},"[[30, 20, 70, 60]]"')
        detections[f"room/{k}.png"] = [{"box": [100, 80, 130, 110], "reason": "small"}]
    (tmp_path / "unlabelled.csv").write_text("\n".join(rows) + "\n")
    return tmp_path, detections


@pytest.mark.parametrize("held_out", [True, False, None])
def test_hand_free_squares_hold_no_hand(frames, held_out):
    folder, detections = frames
    crops = list(hand_free(folder, detections, 23, held_out))
    assert len(crops) == 23
    assert all(not crop.any() for crop in crops)
    assert len({crop.shape for crop in crops}) > 3


def test_frames_without_room_are_named(frames):
    folder, detections = frames
    everywhere = {name: [{"box": [0, 0, 160, 120]}] for name in detections}
    with pytest.raises(ValueError, match="no frame with a hand-free square"):
        list(hand_free(folder, everywhere, 5, None))


def test_keypoints_of_a_photo_are_held_against_the_peers(monkeypatch, tmp_path):
    data = Path(__file__).parents[2] / "examples" / "data"
    image, camera = read_image(data / "sample.jpg"), Camera.from_json(data / "sample.json")
    photo = {"image": str(data / "sample.jpg"), "handedness": "right", "K": camera.matrix.tolist()}
    (tmp_path / "cameras.json").write_text(json.dumps([photo, photo]))
    with HandMeshTracker(mode="image") as tracker:
        (hand,) = tracker.track(image, camera, rois=[(0, 0, image.shape[1], image.shape[0])])
    away = hand.keypoints + 0.1 * np.ptp(hand.keypoints, axis=0).max() * np.array([0.6, 0.8])
    other = hand.keypoints + 500  # of another hand in the photo
    seen = [[other.tolist(), away.tolist()], []]
    monkeypatch.setattr(finding, "peer_hands", lambda python, paths: seen)
    count, mean, median = finding.photos(open_bundle(None), tmp_path, "python")
    assert count.value == "1 of 2"
    assert mean.value == median.value == "10.0 %"


def test_the_table_and_what_is_left_out(frames, capsys):
    assert table([Row("a", "1 of 2", "≥ 1")]).splitlines()[-1] == "| a | 1 of 2 | ≥ 1 |"
    folder, detections = frames
    (folder / "labels.json").write_text(json.dumps({"detections": detections}))
    assert main([str(folder), "--labels", str(folder / "labels.json"), "--crops", "4"]) == 0
    output = capsys.readouterr().out
    assert "| 2 hand-free crops, scenes held out: a hand | 0 of 2 (0.0 %) | ≤ 1 % |" in output
    assert "left out: eval_only/webcam_people is not there" in output
    assert main([str(folder), "--model", str(folder / "absent.cmr")]) == 2
    assert "benchmarks.finding: no bundle at" in capsys.readouterr().err
