# SPDX-License-Identifier: Apache-2.0
"""The agreement of passes, the geometry of views and the meaning of handedness."""

import importlib.util
import json

import cv2
import numpy as np
import pytest

from cmr_models import pseudo_label as pl
from cmr_models.pseudo_label import Pass, View

HEIGHT, WIDTH = 480, 640


def right_hand() -> np.ndarray:
    """A right hand (21, 3) in metres seen from its palm, fingers up and bent towards the camera: thumb on the right."""
    joints = np.zeros((21, 3))
    joints[0] = (0, 0.09, 0)
    joints[1:5] = [(0.02 + 0.012 * i, 0.07 - 0.015 * i, -0.005 * i) for i in range(1, 5)]
    for finger, x in enumerate((0.03, 0.01, -0.01, -0.03)):
        for i in range(4):
            joints[5 + 4 * finger + i] = (x, -0.025 * i, -0.012 * i)
    return joints


def mirrored(joints: np.ndarray) -> np.ndarray:
    return joints * [-1, 1, 1]


def seen(centre=(300.0, 200.0), side=100.0, right=0.98, noise=0.0, seed=0) -> Pass:
    world = right_hand() if right > 0.5 else mirrored(right_hand())
    flat = world[:, :2] - (world[:, :2].min(axis=0) + world[:, :2].max(axis=0)) / 2
    shift = np.random.default_rng(seed).normal(size=(21, 2)) * noise * side
    return Pass(flat / np.ptp(flat, axis=0).max() * side + centre + shift, world - world[9], right)


class FakeDetector:
    """Answers with hands whose centre lies in the view, as MediaPipe would."""

    def __init__(self, hands, noise=0.0):
        self.hands, self.noise, self.calls = hands, noise, 0

    def __call__(self, image, view, model="full", mirrored=False):
        self.calls += 1
        view.render(image)
        found = []
        for index, hand in enumerate(self.hands):
            x, y = hand.centre
            if view.x0 <= x < view.x1 and view.y0 <= y < view.y1:
                jitter = np.random.default_rng([self.calls, index]).normal(size=(21, 2)) * self.noise * hand.side
                found.append(Pass(hand.keypoints + jitter, hand.world, hand.right))
        return found


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)


def test_bend_of_fingers_tells_the_hand():
    assert pl.curl_sign(right_hand()) == 1
    assert pl.curl_sign(mirrored(right_hand())) == -1
    turned = right_hand() @ cv2.Rodrigues(np.array([0.4, 2.5, -0.7]))[0].T
    assert pl.curl_sign(turned) == 1
    assert pl.curl_sign(right_hand() * [1, 1, 0]) == 0


def test_mediapipes_left_is_an_anatomical_right_hand():
    view = View(0, 0, WIDTH, HEIGHT, WIDTH, HEIGHT)
    points = np.full((21, 2), 0.25)
    straight = pl.from_mediapipe(points, right_hand(), "Left", 0.9, view, mirrored=False)
    assert straight.right == pytest.approx(0.9)
    np.testing.assert_allclose(straight.keypoints[0], [WIDTH / 4 - 0.5, HEIGHT / 4 - 0.5])
    np.testing.assert_allclose(straight.world[pl.ROOT_JOINT], 0)
    # the same hand in the mirror image: MediaPipe says "Right" and sees a left hand
    flipped = pl.from_mediapipe(
        np.full((21, 2), [0.75, 0.25]), mirrored(right_hand()), "Right", 0.9, view, mirrored=True
    )
    assert flipped.right == pytest.approx(0.9)
    np.testing.assert_allclose(flipped.keypoints, straight.keypoints)
    np.testing.assert_allclose(flipped.world, straight.world, atol=1e-12)


@pytest.mark.parametrize("view", [View(10, 20, 110, 120, 50, 50), View(-30, -40, 70, 60, 300, 300)])
def test_view_maps_points_to_where_it_draws_them(view):
    image = np.zeros((100, 100, 3), np.uint8)
    image[40:50, 30:40] = 255
    drawn = view.render(image)[..., 0].astype(float)
    assert drawn.shape == (view.height, view.width)
    ys, xs = np.mgrid[: view.height, : view.width]
    middle = np.array([(xs * drawn).sum(), (ys * drawn).sum()]) / drawn.sum()
    np.testing.assert_allclose(middle, view.from_image(np.array([34.5, 44.5])), atol=0.05)
    back = view.to_image((middle + 0.5) / [view.width, view.height])
    np.testing.assert_allclose(back, [34.5, 44.5], atol=0.05)


def test_view_repeats_the_border():
    image = np.full((60, 60, 3), 7, np.uint8)
    assert (View(-20, -20, 80, 80, 100, 100).render(image) == 7).all()


def test_small_pictures_are_enlarged_and_not_tiled():
    small = np.zeros((100, 100, 3), np.uint8)
    view = pl.view_of(small)
    assert view.x0 < 0
    assert view.x1 > 100
    assert view.width == pl.ENLARGED
    assert pl.tile_views(small) == []


def test_tiles_cover_the_photo(photo):
    covered = np.zeros((HEIGHT, WIDTH), int)
    for tile in pl.tile_views(photo):
        assert tile.width == tile.height == HEIGHT * pl.TILE
        covered[tile.y0 : tile.y1, tile.x0 : tile.x1] += 1
    assert covered.min() >= 1


def test_procrustes_forgives_similarity_but_not_mirroring():
    a = right_hand()
    b = 1.7 * a @ cv2.Rodrigues(np.array([0.3, -1.0, 0.5]))[0].T + [1, 2, 3]
    assert pl.procrustes_distance(a, b) < 1e-9
    assert pl.procrustes_distance(a, mirrored(a)) > 1e-3


def test_agreement_is_accepted_and_averaged():
    passes = [seen(noise=0.005, seed=s) for s in range(3)]
    label = pl.consensus(passes)
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
    assert pl.consensus(passes)["reason"] == reason


def test_every_hand_is_labelled_once(photo):
    hands = [seen((150, 200)), seen((450, 300), side=60, right=0.03)]
    records = pl.label_image(FakeDetector(hands, noise=0.004), photo)
    assert sorted(record["handedness"] for record in records) == ["left", "right"]
    assert all(record["reason"] == "" for record in records)
    for record in records:
        hand = hands[0] if record["handedness"] == "right" else hands[1]
        assert np.linalg.norm(np.array(record["keypoints"]) - hand.keypoints, axis=1).max() < 0.03 * hand.side
        assert len(record["box"]) == 4


def test_rejected_hands_stay_in_the_list(photo):
    (record,) = pl.label_image(FakeDetector([seen()], noise=0.1), photo)
    assert record["reason"] == "2D disagreement"
    assert record["box"][0] < record["box"][2]


def test_groups_come_from_the_index_or_the_folder(tmp_path):
    index = tmp_path / "index.csv"
    index.write_text("image,group\nall/rooms/a.jpg,rooms_7\n")
    groups = pl.load_groups(index)
    assert pl.group_of(tmp_path / "rooms" / "a.jpg", tmp_path, groups) == "rooms_7"
    assert pl.group_of(tmp_path / "rooms" / "b.jpg", tmp_path, groups) == "rooms"
    assert pl.group_of(tmp_path / "c.jpg", tmp_path, groups) == "."


def test_summary_counts_by_folder():
    result = {
        "labels": [{"image": "a/1.jpg"}, {"image": "a/1.jpg"}],
        "detections": {"a/1.jpg": [], "a/2.jpg": [{"box": [0, 0, 1, 1], "reason": "too small"}]},
    }
    text = pl.summary(result)
    assert text.splitlines()[1].split() == ["a", "2", "1", "2"]
    assert "rejected in a: 1 too small" in text


def test_without_mediapipe_the_command_says_what_to_install():
    if importlib.util.find_spec("mediapipe"):
        pytest.skip("mediapipe is installed here")
    with pytest.raises(SystemExit, match=r"mediapipe==0\.10\.14"):
        pl.Detector()


def test_command_on_a_photo_without_hands(tmp_path, photo):
    if importlib.util.find_spec("mediapipe") is None:
        pytest.skip("mediapipe==0.10.14 is not installed here")
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "noise.png"), photo[:240, :240])
    out = tmp_path / "labels.json"
    pl.main([str(tmp_path / "photos"), str(out), "--workers", "1"])
    result = json.loads(out.read_text())
    assert result["labels"] == []
    assert list(result["detections"]) == ["noise.png"]
