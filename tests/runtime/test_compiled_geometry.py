# SPDX-License-Identifier: Apache-2.0
"""The compiled core against NumPy: projection, a network's mesh in the camera's frame, and whole clips tracked."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from both_ways import Untouchable, both
from disc_bundle import draw_disc
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cmr_runtime import (
    Bundle,
    BundleError,
    Camera,
    Hand,
    HandMeshTracker,
    Roi,
    camera,
    motion,
    pipeline,
    roi,
    smoothing,
)
from cmr_runtime.compiled import core
from cmr_runtime.cues import Cues
from cmr_runtime.pipeline import Pipeline
from cmr_runtime.rig import Entries

pytestmark = pytest.mark.skipif(core is None, reason="the compiled core was not built")

SAMPLE = Path(__file__).parents[2] / "examples" / "data"
CAMERA = Camera(fx=500, fy=480, cx=310, cy=250, width=640, height=480)
#: Values that calculations stumble over.
ODD = st.floats(-2, 2) | st.sampled_from([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-308, 1e308])


@settings(max_examples=200, deadline=None)
@given(
    arrays.arrays(np.float64, arrays.array_shapes(max_dims=2, max_side=30).map(lambda shape: (*shape, 3)), elements=ODD)
)
def test_any_points_are_projected_as_by_numpy(points: np.ndarray) -> None:
    with np.errstate(all="ignore"):
        compiled, by_numpy = both(camera, lambda: CAMERA.project(points))
    assert compiled.shape == by_numpy.shape == (*points.shape[:-1], 2)
    np.testing.assert_array_equal(compiled, by_numpy)


@pytest.mark.parametrize(
    "points",
    [
        [0.1, 0.2, 0.5],
        [[1, 2, 3], [4, 5, 6]],
        np.empty((0, 3)),
        np.ones((4, 3), np.float32),
        np.ones((4, 3), ">f8"),
        np.ones((4, 3), np.int8),
        np.asfortranarray(np.random.default_rng(0).random((5, 3))),
        np.random.default_rng(0).random((5, 4)),
        np.random.default_rng(0).random((6, 6))[::2, ::-2],
    ],
)
def test_whatever_holds_points_is_projected_as_by_numpy(points: Any) -> None:
    compiled, by_numpy = both(camera, lambda: CAMERA.project(points))
    np.testing.assert_array_equal(compiled, by_numpy)
    assert compiled.dtype == np.float64


@pytest.mark.parametrize("points", [np.ones((3, 5)).T, np.ones((5, 4)), np.ones((8, 3))[::2]])
def test_other_layouts_are_numpys(monkeypatch: pytest.MonkeyPatch, points: np.ndarray) -> None:
    monkeypatch.setattr(camera, "core", Untouchable())
    with np.errstate(all="ignore"):
        CAMERA.project(points)
    with pytest.raises(AssertionError, match="project of the core is called"):
        CAMERA.project(np.ascontiguousarray(points[:, :3]))


@pytest.mark.parametrize("points", [[1, 2], 5.0, "nothing", [[1, 2], [3, 4]]])
def test_what_are_no_points_is_refused_alike(points: Any) -> None:
    errors = []
    for which in (core, None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(camera, "core", which)
            with pytest.raises((ValueError, IndexError)) as caught:
                CAMERA.project(points)
            errors.append((caught.type, str(caught.value)))
    assert errors[0] == errors[1]


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 30))
def test_extents_and_distances_are_numpys(data: st.DataObject, count: int) -> None:
    points, others = (data.draw(arrays.arrays(np.float64, (count, 2), elements=ODD)) for _ in range(2))
    with np.errstate(all="ignore"):
        np.testing.assert_equal(*both(motion, lambda: motion.extent_of(points)))
        np.testing.assert_allclose(*both(motion, lambda: motion.mean_distance(points, others)), rtol=1e-12)


@settings(max_examples=200, deadline=None)
@given(arrays.arrays(np.float64, st.tuples(st.integers(1, 30), st.just(3)), elements=ODD), st.tuples(ODD, ODD, ODD))
def test_points_that_are_moved_are_projected_as_by_numpy(points: np.ndarray, to: tuple[float, float, float]) -> None:
    with np.errstate(all="ignore"):
        single = points.astype(np.float32)
        found, expected = both((motion, camera), lambda: motion._project_moved(single, points[0].tolist(), to, CAMERA))
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_equal(found[1], expected[1])


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from([1, 2, 20, 21, 30]), st.floats(-7, 7))
def test_squares_are_numpys(data: st.DataObject, count: int, angle: float) -> None:
    points = data.draw(arrays.arrays(np.float64, (count, 2), elements=st.floats(-1e4, 1e4) | st.just(math.nan)))
    with np.errstate(all="ignore"):
        found, expected = both(roi, lambda: roi._square(points, 1.5, angle, of_hand=count == 21))
    if np.isnan(points).any():
        assert math.isnan(found[2])
        assert math.isnan(expected[2])
    else:
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)


def test_a_box_of_usual_points() -> None:
    points = np.random.default_rng(1).uniform(0, 500, (21, 2))
    assert motion.extent_of(points) == np.ptp(points, axis=0).max()
    assert motion.extent_of(points[:1]) == 1.0
    for which in both(roi, lambda: roi._square(points, 2.0, 0.0)):
        assert which == pytest.approx(
            (*(points.min(axis=0) + points.max(axis=0)) / 2, 2 * np.ptp(points, axis=0).max(), 0.0)
        )
    assert motion.mean_distance(points, points + np.array([3, 4])) == pytest.approx(5.0)


def test_other_layouts_are_measured_by_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(motion, "core", Untouchable())
    points = np.random.default_rng(1).uniform(0, 500, (2, 21)).T
    assert motion.extent_of(points) == np.ptp(points, axis=0).max()
    assert motion.mean_distance(points, np.zeros((21, 2))) > 0
    with pytest.raises(AssertionError, match="extent of the core is called"):
        motion.extent_of(points.copy())


@pytest.fixture(scope="module")
def stages() -> Pipeline:
    return Pipeline(Bundle.default(), 1, (1.0, 0.08), "osqp")


@pytest.mark.parametrize("seed", range(30))
def test_a_mesh_in_the_cameras_frame_is_numpys(stages: Pipeline, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mesh = rng.normal(0, 0.1, (778, 3)).astype(np.float32)
    roi = Roi(*rng.uniform(-2000, 2000, 2).tolist(), 100.0, rng.uniform(-4, 4), bool(seed % 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Roi, "to_camera", lambda *_: pytest.fail("NumPy is asked"))
        vertices, joints = stages._relative(mesh, roi, CAMERA)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "core", None)
        expected = stages._relative(mesh, roi, CAMERA)
    np.testing.assert_allclose(vertices, expected[0], atol=1e-14)
    np.testing.assert_allclose(joints, expected[1], atol=1e-14)
    np.testing.assert_array_equal(joints[9], 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_any_vertex_that_is_not_finite_is_blamed_on_the_network(stages: Pipeline, value: float) -> None:
    rng = np.random.default_rng(2)
    unused = int(np.flatnonzero((stages._regressor == 0).all(axis=0))[0])
    for vertex in (0, 777, unused):
        mesh = rng.normal(0, 0.1, (778, 3)).astype(np.float32)
        mesh[vertex, 1] = value
        with np.errstate(all="ignore"), pytest.raises(BundleError, match="not finite"):
            stages._relative(mesh, Roi(300.0, 200.0, 100.0), CAMERA)


@pytest.mark.parametrize("seed", range(10))
def test_a_placed_hand_is_numpys(stages: Pipeline, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vertices, joints = rng.normal(0, 0.1, (778, 3)), rng.normal(0, 0.1, (21, 3))
    # Some joints are behind the camera: their pixels are NaN, as in NumPy.
    place = np.array([0.01, -0.02, 0.06 if seed < 5 else 0.7])
    fit: Any = dataclasses.make_dataclass("Fit", ["scale", "translation"])(1.02, place)
    cues = Cues(rng.uniform(0, 600, (21, 2)), rng.uniform(0, 1, 21), None, None)
    compiled, by_numpy = both((pipeline, motion, camera), lambda: pipeline._placed(vertices, joints, fit, cues, CAMERA))
    assert np.isnan(by_numpy[2]).any() == (seed < 5)
    for a, b, kind in zip(compiled, by_numpy, (*[np.float32] * 3, np.float64, float), strict=True):
        assert np.asarray(a).dtype == kind
        np.testing.assert_allclose(a, b, rtol=2e-7 if kind == np.float32 else 1e-12, atol=1e-9)
    if seed >= 5:
        np.testing.assert_allclose(compiled[3], CAMERA.project(compiled[1]), atol=1e-3)
        assert compiled[4] == np.ptp(compiled[3], axis=0).max()


def _relative(mesh: np.ndarray, entries: Entries, root: int, joints: int, vertices: int = 4) -> bool:
    filled = np.empty((vertices, 3)), np.empty((joints, 3))
    return core.relative_hand(mesh, (0.0, 0.0, 0.0, False), (500.0, 500.0, 0.0, 0.0), entries, root, *filled)


def test_what_the_core_cannot_take_is_refused() -> None:
    mesh, entries = np.ones((4, 3), np.float32), Entries.of(np.eye(2, 4, dtype=np.float32))
    assert _relative(mesh, entries, 0, 2)
    for root in (-1, 2):
        with pytest.raises(ValueError, match="do not fit"):
            _relative(mesh, entries, root, 2)
    for bad in (
        entries._replace(columns=np.array([0, 4], np.intc)),
        entries._replace(columns=np.array([-1, 0], np.intc)),
        entries._replace(starts=np.array([0, 1, 3], np.intc)),
        entries._replace(starts=np.array([0, 3, 2], np.intc)),
        entries._replace(starts=np.array([-1, 1, 2], np.intc)),
        entries._replace(starts=np.empty(0, np.intc)),
        entries._replace(weights=np.ones(1, np.float32)),
        entries._replace(weights=np.ones(2)),
    ):
        with pytest.raises(ValueError, match="_core"):
            _relative(mesh, bad, 0, 2)
    for sizes in ((3, 4), (2, 5)):
        with pytest.raises(ValueError, match="needs"):
            _relative(mesh, entries, 0, *sizes)
    with pytest.raises(ValueError, match="needs"):
        core.project(np.ones((2, 3)), 1.0, 1.0, 0.0, 0.0, np.ones((1, 2)))
    for points, pixels in ((np.ones((2, 3), np.float32), np.ones((1, 2))), (np.ones((2, 3)), np.ones((2, 2)))):
        with pytest.raises(ValueError, match="needs"):
            core.project_placed(points, (0.0, 0.0, 0.0), CAMERA.pinhole, pixels)
    for projected in (np.ones((1, 2)), np.ones((2, 2), np.float32)):
        shown = np.ones((4, 3), np.float32), np.ones((2, 3), np.float32), projected, np.ones((2, 2), np.float32)
        seen = np.ones((2, 2)), np.ones(2), 0.5
        with pytest.raises(ValueError, match="needs"):
            core.place_hand(np.ones((4, 3)), np.ones((2, 3)), 1.0, np.ones(3), CAMERA.pinhole, *seen, *shown)
    for points, ends in ((0, (-1, -1)), (3, (0, 3)), (3, (3, 0)), (3, (0, -1))):
        with pytest.raises(ValueError, match="square"):
            core.square(np.ones((points, 2)), 1.0, 0.0, *ends, 0.25)
    with pytest.raises(ValueError, match="no extent"):
        core.extent(np.empty((0, 2)))
    with pytest.raises(ValueError, match="needs"):
        core.mean_distance(np.ones((2, 2)), np.ones((3, 2)))


def track(tracker: HandMeshTracker, frames: list[np.ndarray], camera: Camera) -> list[list[Hand]]:
    with tracker:
        return [tracker.track(frame, camera) for frame in frames]


def with_and_without(make: Callable[[], HandMeshTracker], frames: list[np.ndarray], of: Camera) -> Any:
    """Hands of a clip, with the core where it follows and smooths, and without."""
    inside = track(make(), frames, of)
    with pytest.MonkeyPatch.context() as patch:
        for module in (camera, motion, pipeline, smoothing):
            patch.setattr(module, "core", None)
        return inside, track(make(), frames, of)


def alike(a: Hand, b: Hand, metres: float, pixels: float) -> None:
    for field in dataclasses.fields(Hand):
        one, other = getattr(a, field.name), getattr(b, field.name)
        assert type(one) is type(other)
        if isinstance(one, np.ndarray):
            assert (one.dtype, one.shape) == (other.dtype, other.shape) or field.name == "silhouette"
    assert (a.track_id, a.handedness) == (b.track_id, b.handedness)
    np.testing.assert_allclose(a.vertices, b.vertices, atol=metres)
    np.testing.assert_allclose(a.joints, b.joints, atol=metres)
    np.testing.assert_allclose(a.translation, b.translation, atol=metres)
    np.testing.assert_allclose(a.keypoints, b.keypoints, atol=pixels)
    assert a.registration.translation == pytest.approx(b.registration.translation, abs=metres)


@pytest.mark.parametrize("joints_only", [False, True])
def test_the_sample_moved_about_is_tracked_as_by_numpy(joints_only: bool) -> None:
    image = cv2.cvtColor(cv2.imread(str(SAMPLE / "sample.jpg")), cv2.COLOR_BGR2RGB)
    of = Camera.from_json(SAMPLE / "sample.json")
    size, frames = image.shape[1::-1], []
    for k in range(25):
        turn = cv2.getRotationMatrix2D((0.5 * size[0], 0.5 * size[1]), 0.5 * k, 1 + 0.004 * k)
        turn[:, 2] += (1.5 * k, np.sin(k))
        frames.append(cv2.warpAffine(image, turn, size))
    inside, outside = with_and_without(lambda: HandMeshTracker(joints_only=joints_only), frames, of)
    assert sum(map(len, inside)) >= 24
    for one, other in zip(inside, outside, strict=True):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            alike(a, b, 1e-5, 0.005)


def test_two_hands_are_tracked_as_by_numpy(bundle: Bundle) -> None:
    of = Camera.from_fov(60, 640, 480)
    frames = [draw_disc(640, 480, 120 + 3 * k, 200, 40) | draw_disc(640, 480, 480 - 4 * k, 260, 36) for k in range(30)]

    def make() -> HandMeshTracker:
        tracker = HandMeshTracker(bundle, num_hands=2)
        tracker.follow([(40, 120, 200, 280), (400, 180, 560, 340)])
        return tracker

    inside, outside = with_and_without(make, frames, of)
    assert sum(map(len, inside)) > 40
    for one, other in zip(inside, outside, strict=True):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            alike(a, b, 1e-5, 0.005)
