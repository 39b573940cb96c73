# SPDX-License-Identifier: Apache-2.0
import dataclasses
import gc
import warnings
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from disc_bundle import OFFSETS, draw_disc
from disc_detector import SIZE, make_detector

from cmr_runtime import Bundle, BundleError, Camera, CameraError, HandMeshTracker, InputError, Roi, Topology
from cmr_runtime.arguments import Clock
from cmr_runtime.finding import ROOMY, SCALE
from cmr_runtime.network import PriorOutput
from cmr_runtime.search import Search
from cmr_runtime.smoothing import Smoothing
from cmr_runtime.view import View, Viewer

W, HEIGHT = 320, 240
CAMERA = Camera.from_fov(60, W, HEIGHT)
BOX = (70, 40, 230, 200)


@pytest.mark.parametrize("side", ["right", "left"])
def test_box_to_hand(bundle: Bundle, topology: Topology, side: str) -> None:
    with HandMeshTracker(bundle, mode="image") as tracker:
        (hand,) = tracker.track(draw_disc(W, HEIGHT, 150, 120, 40, side), CAMERA, rois=[BOX])
    sign = -1 if side == "left" else 1
    assert hand.handedness == side
    assert hand.handedness_score > 0.9
    assert hand.score > 0.99
    np.testing.assert_allclose(hand.keypoints, np.array([150, 120]) + 40 * OFFSETS * (sign, 1), atol=1.5)
    # The mesh is where the keypoints are, at the distance at which it is as large as they are.
    np.testing.assert_allclose(CAMERA.project(hand.joints), hand.keypoints, atol=3)
    depth = CAMERA.fx * 0.045 / 40
    assert hand.translation[2] == pytest.approx(depth, rel=0.1)
    np.testing.assert_allclose(hand.joints[9], hand.translation, atol=1e-6)
    # The mesh is the network's, scaled, turned and mirrored: distances stay.
    spread = np.linalg.norm(hand.vertices_root[:, None] - hand.vertices_root[None], axis=2)
    template = np.linalg.norm(topology.template[:, None] - topology.template[None], axis=2)
    np.testing.assert_allclose(spread, hand.scale * template, atol=1e-5)
    # Triangles are wound outwards for either side.
    corners = hand.vertices_root[hand.faces].astype(np.float64)
    volume = np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    assert volume > 0
    assert hand.registration.metric
    assert hand.silhouette is not None
    centre = 0.5 * (hand.silhouette.min(axis=0) + hand.silhouette.max(axis=0))
    np.testing.assert_allclose(centre, (150, 120), atol=3)
    ran = {stage for stage, value in vars(hand.times).items() if value > 0}
    assert ran == {"crop", "prior", "mesh", "decode", "registration"}


@pytest.mark.parametrize("side", [50, 100, 180, 230])
def test_a_box_that_fits_badly_is_drawn_again_around_the_hand(bundle: Bundle, side: float) -> None:
    """Whatever the caller's box, the region that the hand is read in fits its joints; without rounds it is the box."""
    image = draw_disc(W, HEIGHT, 150, 120, 40)
    box = Roi(152, 118, side)
    rois = {}
    for refine in (0, 2):
        with HandMeshTracker(bundle, mode="image", refine=refine) as tracker:
            (hand,) = tracker.track(image, CAMERA, rois=[box])
        rois[refine] = hand.roi
        fitting = Roi.upright(hand.keypoints, SCALE)
    assert (rois[0].cx, rois[0].cy, rois[0].size) == (box.cx, box.cy, box.size)
    assert rois[2].overlap(fitting) > 0.7
    if rois[0].overlap(fitting) > 0.8:
        assert rois[2] == rois[0]


def test_each_box_gives_a_hand_unless_there_is_none(bundle: Bundle) -> None:
    image = draw_disc(W, HEIGHT, 150, 120, 40)
    with HandMeshTracker(bundle, mode="image") as tracker:
        assert len(tracker.track(image, rois=[BOX, (250, 180, 310, 235), (60, 50, 220, 190)])) == 2
        assert tracker.track(image, rois=[]) == []
        assert len(tracker.track(image, rois=np.array([[-100, -50, 300, 350]]))) == 1


def test_without_a_camera_depth_is_not_metric(bundle: Bundle) -> None:
    image = draw_disc(W, HEIGHT, 150, 120, 40)
    with HandMeshTracker(bundle, mode="image") as tracker:
        (assumed,), (given,) = tracker.track(image, rois=[BOX]), tracker.track(image, CAMERA, rois=[BOX])
    assert not assumed.registration.metric
    assert given.registration.metric
    np.testing.assert_allclose(assumed.translation, given.translation, atol=1e-9)


def test_image_mode_searches_and_remembers_nothing(bundle: Bundle) -> None:
    image = draw_disc(W, HEIGHT, 90, 100, 25, "left")
    with HandMeshTracker(bundle, mode="image") as tracker:
        (first,), (second,) = tracker.track(image, CAMERA), tracker.track(image, CAMERA)
        assert tracker.track(np.zeros_like(image), CAMERA) == []
    assert first.handedness == "left"
    np.testing.assert_array_equal(first.vertices, second.vertices)


def test_a_hand_that_was_searched_for_is_read_in_a_tight_box(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    image = draw_disc(W, HEIGHT, 150, 120, 40)
    with HandMeshTracker(bundle, mode="image") as tracker:
        (hand,) = tracker.track(image, CAMERA)
        assert hand.roi.size == pytest.approx(Roi.upright(hand.keypoints, SCALE).size, rel=0.04)
        assert hand.roi.size < 0.97 * Roi.upright(hand.keypoints, ROOMY).size

        # If the hand is not seen there, it stays as it was found.
        tight, nothing = hand.roi, PriorOutput(presence=0.0)
        look = Viewer.__call__

        def fading(self: Viewer, image: np.ndarray, roi: Roi) -> View:
            view = look(self, image, roi)
            return dataclasses.replace(view, prior=nothing) if roi.overlap(tight) > 0.95 else view

        monkeypatch.setattr(Viewer, "__call__", fading)
        (hand,) = tracker.track(image, CAMERA)
    assert hand.roi.size > 1.03 * tight.size
    assert hand.score > 0.99


def test_video_follows_without_searching_again(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    searches = []
    search = Search.__call__
    monkeypatch.setattr(Search, "__call__", lambda self, *a: searches.append(a) or search(self, *a))
    with HandMeshTracker(bundle) as tracker:
        for frame in range(12):
            cx = 140 + 4 * frame
            hands = tracker.track(draw_disc(W, HEIGHT, cx, 120, 45, "left"), CAMERA, frame / 25)
            assert len(hands) == 1
            assert hands[0].handedness == "left"
            assert abs(hands[0].keypoints[9, 0] - cx) < 4
        assert len(searches) == 1
        assert tracker.track(np.zeros((HEIGHT, W, 3), np.uint8), CAMERA, 1.0) == []
        assert len(searches) == 2


def test_two_hands_in_a_video(bundle: Bundle) -> None:
    image = np.maximum(draw_disc(400, 160, 70, 80, 30), draw_disc(400, 160, 330, 80, 30, "left"))
    with HandMeshTracker(bundle, num_hands=2) as tracker:
        for _ in range(12):
            hands = tracker.track(image)
    assert sorted(hand.handedness for hand in hands) == ["left", "right"]


def test_a_followed_hand_changes_sides_only_after_several_frames(bundle: Bundle) -> None:
    right, left = (draw_disc(W, HEIGHT, 150, 120, 45, side) for side in ("right", "left"))
    with HandMeshTracker(bundle) as tracker:
        assert tracker.track(right)[0].handedness == "right"
        assert tracker.track(right)[0].handedness == "right"  # now its side is settled
        assert tracker.track(left)[0].handedness == "right"
        assert tracker.track(right)[0].handedness == "right"  # the count begins again
        sides = [tracker.track(left)[0].handedness for _ in range(4)]
    assert sides[0] == "right"
    assert sides[-1] == "left"


@pytest.mark.parametrize(
    "scale",
    [1.05, (1.05, -1), (0, 0.1), "ab", "10", b"10", ("1", "0.1"), (True, 0), (1, 2, 3), (float("nan"), 0.1)],
)
def test_a_hand_scale_that_is_none_is_refused_by_name(bundle: Bundle, scale: object) -> None:
    with pytest.raises(InputError, match="hand_scale"):
        HandMeshTracker(bundle, hand_scale=scale)


@pytest.mark.parametrize(
    ("scale", "limit"), [((1.0, 0.5), "0 to 0.3"), ((2.0, 0.7), "0 to 0.6"), ((20.0, 1), "0.1 to 10")]
)
def test_a_hand_scale_beyond_its_limits_is_refused_by_name_and_limit(
    bundle: Bundle, scale: tuple[float, float], limit: str
) -> None:
    with pytest.raises(InputError, match=f"of hand_scale is .*{limit}"):
        HandMeshTracker(bundle, hand_scale=scale)
    HandMeshTracker(bundle, hand_scale=(2.0, 0.6)).close()


@pytest.mark.parametrize("providers", [None, 5, "CPUExecutionProvider", ["NoneExecutionProvider"], [None], [[]]])
def test_providers_that_are_none_are_refused_with_those_there_are(bundle: Bundle, providers: object) -> None:
    with pytest.raises(InputError, match=r"providers is .*CPUExecutionProvider"):
        HandMeshTracker(bundle, providers=providers)


@pytest.mark.parametrize("rois", [5, (0, 0, 100, 100), np.array([0, 0, 100, 100]), np.array(5)])
def test_one_box_that_is_no_list_is_refused(bundle: Bundle, rois: object) -> None:
    with HandMeshTracker(bundle) as tracker, pytest.raises(InputError, match="list of boxes"):
        tracker.track(draw_disc(W, HEIGHT, 150, 120, 45), rois=rois)


def test_numbers_of_numpy_are_taken_and_words_refused(bundle: Bundle) -> None:
    HandMeshTracker(bundle, num_hands=np.int64(2), min_presence=np.float32(0.5)).close()
    for word in ("a", True, 10**400):
        with pytest.raises(InputError, match="min_presence"):
            HandMeshTracker(bundle, min_presence=word)


def test_a_box_that_fits_is_kept_and_one_that_does_not_is_drawn_again(bundle: Bundle) -> None:
    image = draw_disc(W, HEIGHT, 150, 120, 40)
    fits, wide = (87, 57, 214, 184), (0, -40, 320, 280)
    with HandMeshTracker(bundle, mode="image") as tracker:
        (kept,), (drawn,) = tracker.track(image, CAMERA, rois=[fits]), tracker.track(image, CAMERA, rois=[wide])
    assert kept.roi == Roi.from_box(fits)
    assert drawn.roi.size < 0.6 * 320
    assert np.hypot(drawn.roi.cx - 150, drawn.roi.cy - 120) < 8


def test_refine_draws_the_box_tighter(bundle: Bundle) -> None:
    image = draw_disc(W, HEIGHT, 150, 120, 40)
    with HandMeshTracker(bundle, mode="image", refine=2) as tracker:
        (hand,) = tracker.track(image, CAMERA, rois=[(0, 0, W, HEIGHT)])
    assert abs(hand.roi.cx - 150) < 4
    assert hand.roi.size < W


def test_boxes_do_not_disturb_what_is_followed(bundle: Bundle) -> None:
    image = draw_disc(W, HEIGHT, 150, 120, 45)
    with HandMeshTracker(bundle) as tracker, HandMeshTracker(bundle) as other:
        tracker.track(image)
        other.track(image)
        other.track(image, rois=[(0, 0, 100, 100)])
        np.testing.assert_array_equal(tracker.track(image)[0].vertices, other.track(image)[0].vertices)


def test_boxes_do_not_move_the_time_of_a_video(bundle: Bundle) -> None:
    images = [draw_disc(W, HEIGHT, 150 + 4 * k, 120, 45) for k in range(4)]
    with HandMeshTracker(bundle) as tracker, HandMeshTracker(bundle) as other:
        for number, image in enumerate(images):
            hands, same = (each.track(image, CAMERA, number / 30) for each in (tracker, other))
            np.testing.assert_array_equal(hands[0].vertices, same[0].vertices)
            for timestamp in (number / 30, 0.0, 100.0):
                assert len(other.track(image, CAMERA, timestamp, rois=[BOX])) == 1


def test_numbers_of_hands_and_what_has_none(bundle: Bundle) -> None:
    image = draw_disc(W, HEIGHT, 150, 120, 45)
    with HandMeshTracker(bundle) as tracker, HandMeshTracker(bundle, mode="image") as stills:
        assert [tracker.track(image)[0].track_id for _ in range(3)] == [0, 0, 0]
        assert tracker.track(image, rois=[BOX])[0].track_id is None
        assert stills.track(image, rois=[BOX])[0].track_id is None
        tracker.reset()
        assert tracker.track(image)[0].track_id == 0


def test_a_hand_that_leaves_and_returns_is_found_within_five_frames(bundle: Bundle) -> None:
    empty = np.zeros((HEIGHT, W, 3), np.uint8)
    with HandMeshTracker(bundle) as tracker:
        for away in (3, 20, 60):
            for _ in range(5):
                tracker.track(draw_disc(W, HEIGHT, 150, 120, 45), CAMERA)
            assert not any(tracker.track(empty, CAMERA) for _ in range(away))
            found = [tracker.track(draw_disc(W, HEIGHT, 90, 100, 40), CAMERA) for _ in range(5)]
            assert found[-1]


def test_smoothing_is_for_videos_alone_and_may_be_left_out(bundle: Bundle) -> None:
    images = [draw_disc(W, HEIGHT, 150 + 2 * (k % 2), 120, 45) for k in range(8)]
    paths = {}
    for smoothing in (True, False, Smoothing(direction_cutoff=0.2, direction_gain=0.0)):
        with HandMeshTracker(bundle, smoothing=smoothing) as tracker:
            paths[str(smoothing)] = [tracker.track(image, CAMERA)[0].translation[0] for image in images]
    steps = [float(np.abs(np.diff(path)[3:]).mean()) for path in paths.values()]
    assert steps[2] < 0.5 * steps[1]
    assert steps[0] < steps[1]
    stills = []
    for smoothing in (True, False):
        with HandMeshTracker(bundle, mode="image", smoothing=smoothing) as tracker:
            stills += [tracker.track(image, CAMERA)[0].vertices for image in images[:2]]
    np.testing.assert_array_equal(stills[:2], stills[2:])
    with pytest.raises(InputError, match="smoothing"):
        HandMeshTracker(bundle, smoothing="much")


def test_a_rig_is_made_only_where_something_is_smoothed(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr("cmr_runtime.tracker.Rig", lambda *a: made.append(a))
    for mode, smoothing in (("video", False), ("image", True), ("image", False)):
        HandMeshTracker(bundle, mode, smoothing=smoothing).close()
    assert not made
    HandMeshTracker(bundle).close()
    assert len(made) == 1


@pytest.mark.parametrize("mode", ["image", "video"])
def test_joints_only(bundle: Bundle, mode: str) -> None:
    image = draw_disc(W, HEIGHT, 150, 120, 45)
    hands = []
    for joints_only in (False, True):
        with HandMeshTracker(bundle, mode=mode, smoothing=False, joints_only=joints_only) as tracker:
            hands += [tracker.track(image, CAMERA)[0]]
    whole, lean = hands
    assert lean.vertices.shape == lean.faces.shape == (0, 3)
    np.testing.assert_array_equal(lean.joints, whole.joints)
    np.testing.assert_array_equal(lean.translation, whole.translation)
    np.testing.assert_array_equal(lean.silhouette, whole.silhouette)
    lean.draw(image)


def test_timestamps_must_increase(bundle: Bundle) -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    with HandMeshTracker(bundle) as tracker:
        tracker.track(image, timestamp=1.0)
        tracker.track(image)
        for bad in (1.0, 0.5, float("nan"), "2", True, 10**400, 1e300):
            with pytest.raises(InputError, match="timestamp"):
                tracker.track(image, timestamp=bad)  # type: ignore[arg-type]
        tracker.track(image, timestamp=1.01)  # less than the frame without one was taken for
        tracker.track(image, timestamp=1.1)
        tracker.reset()
        tracker.track(image, timestamp=0.0)


@pytest.mark.parametrize("before", [1, 2, 60])
def test_frames_without_timestamps_before_those_with_them_do_not_bend_the_time_between(before: int) -> None:
    clock = Clock()
    ahead = [clock(None) for _ in range(before)]
    given = [0.04 * k for k in range(100)]
    seconds = [clock(timestamp) for timestamp in given]
    assert seconds[0] > ahead[-1]
    np.testing.assert_allclose(np.diff(seconds), 0.04)
    assert clock(None) > seconds[-1]
    clock.reset()
    assert [clock(timestamp) for timestamp in (5.0, 5.5)] == [5.0, 5.5]


def test_the_bounds_of_depth_are_the_callers(bundle: Bundle) -> None:
    image = draw_disc(W, HEIGHT, 150, 120, 40)
    with HandMeshTracker(bundle, mode="image") as tracker:
        (free,) = tracker.track(image, CAMERA, rois=[BOX])
    assert not free.registration.bounds_active
    farthest = 0.5 * free.translation[2]
    with HandMeshTracker(bundle, mode="image", depth_bounds=(0.05, farthest)) as tracker:
        (bound,) = tracker.track(image, CAMERA, rois=[BOX])
    assert bound.registration.bounds_active
    assert bound.translation[2] == pytest.approx(farthest)
    with pytest.raises(InputError, match="depth_bounds"):
        HandMeshTracker(bundle, depth_bounds=(1.0, 0.5))


def test_timestamps_that_seem_to_be_milliseconds_are_warned_of_once() -> None:
    clock = Clock()
    with pytest.warns(UserWarning, match="divide milliseconds by 1000") as warned:
        assert [clock(40 * k) for k in range(50)][-1] == 40 * 49
    assert len(warned) == 1


def test_a_pause_in_a_video_is_not_warned_of() -> None:
    clock = Clock()
    with warnings.catch_warnings(action="error"):
        for k in range(50):
            clock(0.04 * k + 60.0 * (k // 10))


@pytest.mark.parametrize(
    ("image", "word"),
    [
        (np.zeros((60, 80), np.uint8), "shape"),
        (np.zeros((60, 80, 4), np.uint8), "alpha"),
        (np.zeros((60, 80, 3), np.float32), "float32"),
        (np.zeros((0, 80, 3), np.uint8), "empty"),
        (np.zeros((1, 40000, 3), np.uint8), "too large"),
        ([[0]], "NumPy"),
        (None, "NumPy"),
    ],
)
def test_bad_images(bundle: Bundle, image: object, word: str) -> None:
    with HandMeshTracker(bundle) as tracker, pytest.raises(InputError, match=word):
        tracker.track(image)  # type: ignore[arg-type]


def test_unusual_images_are_fine(bundle: Bundle) -> None:
    image = draw_disc(W, HEIGHT, 150, 120, 40)
    with HandMeshTracker(bundle, mode="image") as tracker:
        assert tracker.track(np.zeros((1, 1, 3), np.uint8)) == []
        (plain,) = tracker.track(image, rois=[BOX])
        (strided,) = tracker.track(np.asfortranarray(image), rois=[BOX])
    np.testing.assert_array_equal(plain.vertices, strided.vertices)


def test_bad_cameras_and_boxes(bundle: Bundle) -> None:
    image = np.zeros((HEIGHT, W, 3), np.uint8)
    with HandMeshTracker(bundle) as tracker:
        with pytest.raises(CameraError, match="320×240"):
            tracker.track(image, Camera.from_fov(60, 640, 480))
        with pytest.raises(CameraError, match="ndarray"):
            tracker.track(image, np.eye(3))  # type: ignore[arg-type]
        with pytest.raises(InputError, match="box"):
            tracker.track(image, rois=[(5, 5, 5, 5)])


def test_closed_tracker_says_so(bundle: Bundle) -> None:
    tracker = HandMeshTracker(bundle)
    tracker.close()
    tracker.close()
    with pytest.raises(InputError, match="closed"):
        tracker.track(np.zeros((60, 80, 3), np.uint8))
    assert tracker.detect_ms == 0


def _networks() -> int:
    return sum(type(each) is ort.InferenceSession for each in gc.get_objects())


@pytest.mark.parametrize("mode", ["image", "video", "live"])
def test_closing_frees_the_networks_at_once(bundle: Bundle, mode: str) -> None:
    whole = dataclasses.replace(bundle, detector=make_detector(), detector_size=SIZE)
    image = draw_disc(W, HEIGHT, 150, 120, 45)
    gc.collect()
    gc.disable()  # nothing that only a collector would find
    try:
        before = _networks()
        tracker = HandMeshTracker(whole, mode, on_result=print if mode == "live" else None)
        assert _networks() == before + 3
        if mode == "live":
            tracker.submit(image)
        else:
            assert tracker.track(image)
        tracker.close()
        assert _networks() == before
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "option",
    [
        {"mode": "movie"},
        {"num_hands": 0},
        {"min_presence": 2},
        {"threads": 0},
        {"threads": 257},
        {"refine": -1},
        {"num_hands": True},
    ],
)
def test_bad_options(bundle: Bundle, option: dict) -> None:
    with pytest.raises(InputError, match=next(iter(option))):
        HandMeshTracker(bundle, **option)


def test_opens_paths(bundle_path: Path, tmp_path: Path, topology: Topology) -> None:
    with HandMeshTracker(str(bundle_path)) as tracker:
        assert tracker.faces.dtype == np.int32
        np.testing.assert_array_equal(tracker.faces, topology.faces)
    with pytest.raises(BundleError):
        HandMeshTracker(tmp_path / "none.cmr")


def test_a_longer_hand_is_farther_away(bundle: Bundle) -> None:
    image = draw_disc(W, HEIGHT, 150, 120, 40)
    depths = []
    for length in (0.1, 0.2):
        with HandMeshTracker(bundle, mode="image", hand_length=length) as tracker:
            (hand,) = tracker.track(image, CAMERA, rois=[BOX])
        depths.append(hand.translation[2])
    assert depths[1] == pytest.approx(2 * depths[0], rel=1e-3)
    with pytest.raises(InputError, match="hand_length"):
        HandMeshTracker(bundle, hand_length=19)
