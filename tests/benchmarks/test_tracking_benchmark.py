# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from disc_bundle import draw_disc, make_content

from benchmarks import tracking, tracking_crossing, tracking_moving
from benchmarks.tracking_figures import OneEuro, jitter, lag, resting
from benchmarks.tracking_moving import film
from benchmarks.tracking_peer import Seen, follow, next_roi
from benchmarks.tracking_scenes import CAMERA, ROOT, Errors, move, observe
from cmr_runtime import write_bundle
from cmr_runtime.smoothing import Smoothing

TIMES = np.arange(90) / 30


def test_jitter_is_the_second_difference() -> None:
    parabola = np.stack([0.5 * 3.0 * np.arange(10.0) ** 2, np.arange(10.0)], axis=1)[:, None]
    assert jitter(parabola) == pytest.approx(3.0)
    some = np.zeros(10, bool)
    some[4] = True
    parabola[7] = np.nan
    assert jitter(parabola) == pytest.approx(3.0)
    assert jitter(parabola, some) == pytest.approx(3.0)


@pytest.mark.parametrize("late", [0.0, 0.025, 0.08])
def test_lag_of_a_wave_that_is_late(late: float) -> None:
    truth, seen = (np.sin(2 * np.pi * (TIMES - held))[:, None] * [1.0, 0.5] for held in (0.0, late))
    assert lag(seen + 7.0, truth, TIMES) == pytest.approx(late, abs=0.002)


def test_rest_is_told_from_motion_and_from_absence() -> None:
    hand = np.random.default_rng(0).uniform(0, 100, (21, 2))
    way = np.concatenate([np.zeros(20), np.arange(1, 21) * 5.0, np.full(20, 100.0)])
    points = hand + way[:, None, None]
    points[52] = np.nan
    rest = resting(points)
    assert rest[5:14].all()
    assert rest[46]
    assert not rest[17:42].any()
    assert not rest[47:].any()


def test_one_euro_lags_less_with_more_gain_and_steadies() -> None:
    wave = np.sin(2 * np.pi * TIMES)[:, None]
    late = [lag(OneEuro(1.0, gain, 1.0).over(wave, TIMES), wave, TIMES) for gain in (0.0, 1.0, 10.0)]
    assert late[0] > late[1] > late[2] > 0
    noise = np.random.default_rng(0).normal(size=(90, 5, 3))
    assert jitter(OneEuro(1.0, 0.0, 1.0).over(noise, TIMES)) < 0.2 * jitter(noise)


def test_without_errors_the_observed_hand_is_the_true_one() -> None:
    motion = move(1, 1.0, 0.2)
    for hand, joints, vertices in zip(
        observe(motion, 1, Errors(0, 0, 0, 0, 0)), motion.joints, motion.vertices, strict=True
    ):
        np.testing.assert_allclose(hand.joints, joints, atol=1e-4)
        np.testing.assert_allclose(hand.vertices, vertices, atol=1e-4)


def test_errors_are_those_of_a_network() -> None:
    motion = move(2, 0.0, 4.0)
    hands = observe(motion, 2)
    off = np.array([hand.vertices_root for hand in hands]) - (motion.vertices - motion.joints[:, ROOT, None])
    depth = np.array([hand.translation[2] for hand in hands]) / motion.joints[:, ROOT, 2]
    assert 1.5e-3 < np.linalg.norm(off, axis=2).mean() < 4.5e-3
    assert 0.01 < depth.std() < 0.03


@pytest.fixture(scope="module")
def rows() -> dict[tuple[float, str], dict]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "SECONDS", 3.0)
        patch.setattr(tracking, "HERTZ", (0.0, 1.0, 2.0))
        found = tracking.synthetic(5, Smoothing(), seed=50)
    return {(row["hertz"], row["way"]): row for row in found}


def test_smoothing_halves_the_jitter_at_rest(rows: dict) -> None:
    for figure in ("jitter_joints_mm", "jitter_depth_mm"):
        assert rows[0.0, "smoothed"][figure] < 0.5 * rows[0.0, "unsmoothed"][figure]


@pytest.mark.parametrize("hertz", [1.0, 2.0])
def test_smoothing_lags_little_and_lowers_the_error_of_a_moving_hand(rows: dict, hertz: float) -> None:
    row = rows[hertz, "smoothed"]
    assert all(row[f"lag_{part}_ms"] < 40 for part in ("direction", "depth", "shape"))
    assert row["error_mm"] < rows[hertz, "unsmoothed"]["error_mm"]
    assert row["error_mm"] < rows[hertz, "One-Euro"]["error_mm"]


def test_the_peers_next_region_is_upright_and_a_little_higher() -> None:
    points = np.zeros((21, 2))
    points[:, 1] = np.repeat([100.0, 80.0, 60.0], 7)
    points[0], points[5], points[6], points[10], points[14], points[17] = (
        (50, 120),
        (30, 60),
        (40, 40),
        (50, 40),
        (60, 40),
        (70, 60),
    )
    points[[1, 2, 3, 9, 13, 18]] = (50, 60)
    roi = next_roi(points)
    assert roi.angle == pytest.approx(0.0)
    assert roi.size == pytest.approx(2.0 * 80)
    assert (roi.cx, roi.cy) == pytest.approx((50.0, 80.0 - 8.0))


def test_the_peer_is_followed_and_begun_again_when_lost() -> None:
    world = np.random.default_rng(0).uniform(-0.05, 0.05, (21, 3))
    place = np.array([0.02, -0.01, 0.5])
    asked = []

    class Stub:
        def look(self, image: np.ndarray, roi: object) -> Seen | None:
            asked.append(roi)
            return None if len(asked) == 3 else Seen(CAMERA.project(world + place), world)

    joints, frames = follow(Stub(), [np.zeros((480, 640, 3), np.uint8)] * 5, [None, "a", "b", "c", "d"], CAMERA)
    assert frames == 3
    assert asked[0] == "a"
    assert asked[3] == "d"
    np.testing.assert_allclose(joints[1], world + place, atol=1e-4)
    assert np.isnan(joints[[0, 3]]).all()


def test_hands_that_cross_are_drawn_where_they_are_said_to_be() -> None:
    (hand,) = tracking_crossing.pick(3, 1)
    empty, shown = tracking_crossing.compose(0), tracking_crossing.compose(0, (hand, (200.0, 150.0)))
    changed = np.argwhere((empty != shown).any(axis=2))
    assert np.abs(changed.mean(axis=0) - (150.0, 200.0)).max() < 60
    clip = tracking_crossing.cross(hand, tracking_crossing.mirror(hand), 0, frames=9)
    np.testing.assert_array_equal(clip[0], clip[2])
    assert (clip[0] != clip[-1]).any()


@pytest.mark.slow
def test_hands_that_cross_keep_their_identity_and_one_that_returns_is_found() -> None:
    found = tracking.crossings(None, 4)
    kept, clips = (sum(each[name] for each in found["crossing"].values()) for name in ("kept", "clips"))
    assert clips >= 4
    assert kept == clips
    assert all(frames is not None and frames <= 5 for frames in found["frames_until_found_again"])


def test_the_command_prints_a_clip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "_peers", lambda python: {})
    monkeypatch.setattr(tracking, "HERTZ", (0.0,))
    monkeypatch.setattr(tracking, "SECONDS", 1.0)
    bundle, clip = tmp_path / "disc.cmr", tmp_path / "disc.avi"
    write_bundle(bundle, **make_content())
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"MJPG"), 25, (160, 120))
    for _ in range(20):
        writer.write(draw_disc(160, 120, 80, 60, 25)[..., ::-1])
    writer.release()
    assert (
        tracking.main([str(clip), "--model", str(bundle), "--hands", "1", "--pairs", "1", "--films", "0", "--json"])
        == 0
    )
    report = json.loads(capsys.readouterr().out)
    assert report["clip"]["frames"] == 20
    assert [row["followed"] for row in report["clip"]["rows"]] == [20, 20]
    assert "smoothed" in tracking._text(report)
    assert (
        tracking.main(
            [str(tmp_path / "none.avi"), "--model", str(bundle), "--hands", "1", "--pairs", "1", "--films", "0"]
        )
        == 2
    )


def test_a_film_shows_the_hand_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    white = lambda rgba, ground: rgba[..., 3:].expand(-1, -1, 3)  # noqa: E731  where there is hand or arm
    monkeypatch.setattr(tracking_moving, "compose", white)
    images, motion = film(2001, 1.0, 0.2)
    assert len(images) == len(motion.times) == 6
    for image, joints in zip(images, motion.joints, strict=True):
        assert image.shape == (CAMERA.height, CAMERA.width, 3)
        assert image.dtype == np.uint8
        shown = cv2.dilate(image[..., 0], np.ones((5, 5), np.uint8)) > 100
        x, y = np.rint(CAMERA.project(joints)).astype(int).T
        assert shown[y, x].all()
        assert shown.mean() < 0.3
    assert np.abs(images[0].astype(int) - images[5]).max() > 200


def test_followed_hands_are_measured_against_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    motion = move(2001, 1.0, 0.2)
    hands = observe(motion, 1, Errors(0, 0, 0, 0, 0))

    class Known:
        def __init__(self, bundle: None, smoothing: bool, shift: float) -> None:
            self.shift, self.left = shift, iter(hands)

        def __enter__(self) -> "Known":
            return self

        def __exit__(self, *_: object) -> None: ...

        def track(self, image: np.ndarray, camera: object, seconds: float) -> list:
            hand = next(self.left)
            offset = np.array([0.0, 0.0, self.shift])
            joints, root = (hand.joints + offset).astype(np.float32), hand.translation + offset
            return [] if seconds == 0 else [dataclasses.replace(hand, joints=joints, translation=root)]

    monkeypatch.setattr(tracking_moving, "HandMeshTracker", Known)
    figures = tracking_moving.followed(None, [([np.zeros(1)] * len(hands), motion)], shift=0.01)
    assert figures["seen_%"] == pytest.approx(100 * (len(hands) - 1) / len(hands))
    assert figures["camera_mm"] == pytest.approx(10, abs=2)
    assert figures["root_mm"] < 2
    assert figures["jump_mm"] < 2
    nothing = tracking_moving.followed(None, [([np.zeros(1)], move(2001, 1.0, 1 / 30))], shift=0.0)
    assert nothing == {"seen_%": 0.0}
