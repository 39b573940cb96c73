# SPDX-License-Identifier: Apache-2.0
"""The compiled core against NumPy: a followed hand made steadier."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from disc_bundle import draw_disc

from cmr_runtime import Bundle, Camera, Hand, HandMeshTracker, Topology, rig, smoothing
from cmr_runtime.compiled import core
from cmr_runtime.rig import MOST_JOINTS, Entries, Rig
from cmr_runtime.smoothing import Smoother, Smoothing

pytestmark = pytest.mark.skipif(core is None, reason="the compiled core was not built")

CAMERA = Camera.from_fov(60, 640, 480)
DT = 1 / 30


class Counting:
    """The core, and how often it smoothed."""

    def __init__(self) -> None:
        self.calls = 0

    def smooth(self, *arguments: Any) -> Any:
        self.calls += 1
        return core.smooth(*arguments)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    counted = Counting()
    monkeypatch.setattr(smoothing, "core", counted)
    return counted


@pytest.fixture(scope="module")
def hand(bundle: Bundle) -> Hand:
    with HandMeshTracker(bundle, mode="image") as tracker:
        return tracker.track(draw_disc(640, 480, 300, 220, 40), CAMERA, rois=[(220, 140, 380, 300)])[0]


@pytest.fixture(scope="module")
def real() -> Topology:
    return Bundle.default().topology


def shown_by(topology: Topology, hand: Hand, rng: np.random.Generator, size: float = 1.0) -> Hand:
    """A hand of this topology somewhere, its mesh trembling."""
    root = np.array([0.1, -0.05, 0.5]) * size + rng.normal(0, 0.01, 3)
    template = topology.template - (topology.joint_regressor @ topology.template)[9]
    vertices = (size * template + root + rng.normal(0, 1e-3, template.shape)).astype(np.float32)
    joints = topology.joint_regressor @ vertices
    fit = dataclasses.replace(hand.registration, sigma=np.full(3, rng.uniform(0.01, 0.1)), translation=root)
    return dataclasses.replace(
        hand,
        vertices=vertices,
        joints=joints,
        keypoints=(CAMERA.project(joints) + rng.normal(0, 2, (21, 2))).astype(np.float32),
        translation=root,
        registration=fit,
    )


def both(
    monkeypatch: pytest.MonkeyPatch,
    hands: list[Hand],
    times: list[float],
    rig: Rig,
    settings: Smoothing,
    mesh: bool = True,
) -> tuple[list[Hand], list[Hand], int]:
    """What the core makes of hands, what NumPy does, and how often the core was asked."""
    results, counted = [], Counting()
    for which in (counted, None):
        monkeypatch.setattr(smoothing, "core", which)
        smoother = Smoother(settings, rig, 0.08, mesh)
        results.append([smoother(each, time) for each, time in zip(hands, times, strict=True)])
    return results[0], results[1], counted.calls


def alike(a: Hand, b: Hand) -> None:
    for name in ("vertices", "joints", "keypoints", "translation"):
        assert getattr(a, name).dtype == getattr(b, name).dtype
        assert getattr(a, name).shape == getattr(b, name).shape
    # The size is a sum of lengths in single precision, and the filter of the depth makes more of a difference in it.
    np.testing.assert_allclose(a.vertices, b.vertices, atol=2e-6)
    np.testing.assert_allclose(a.joints, b.joints, atol=2e-6)
    np.testing.assert_allclose(a.keypoints, b.keypoints, atol=2e-3)
    np.testing.assert_allclose(a.translation, b.translation, rtol=4e-6)
    np.testing.assert_allclose(a.vertices_root, b.vertices_root, atol=1e-6)
    assert a.scale == pytest.approx(b.scale, rel=1e-6)
    assert a.registration is b.registration


@pytest.mark.parametrize("mesh", [True, False])
@pytest.mark.parametrize("settling", [3.0, 0.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_long_way_is_numpys(
    monkeypatch: pytest.MonkeyPatch, hand: Hand, real: Topology, seed: int, settling: float, mesh: bool
) -> None:
    rng = np.random.default_rng(seed)
    hands = [shown_by(real, hand, rng, 1 + rng.normal(0, 0.03)) for _ in range(100)]
    times = np.cumsum(rng.uniform(0.005, 0.1, 100))
    times[50:] += 1.0  # gone for a while: the filters begin anew, in NumPy
    usual = np.array(dataclasses.astuple(Smoothing())[:7])
    settings = Smoothing(*(usual * rng.uniform(0.3, 3, 7)).tolist(), settling=settling)
    inside, outside, calls = both(monkeypatch, hands, times.tolist(), Rig(real, 9), settings, mesh)
    assert calls == 98
    for a, b in zip(inside, outside, strict=True):
        alike(a, b)
        if not mesh:
            assert a.vertices is b.vertices
    # It does something: no hand is as it was seen.
    assert np.abs(inside[-1].joints - hands[-1].joints).max() > 1e-4


def test_any_root_and_skeleton(monkeypatch: pytest.MonkeyPatch, hand: Hand, real: Topology, topology: Topology) -> None:
    rng = np.random.default_rng(7)
    for of, root in ((real, 0), (real, 20), (topology, 9), (topology, 3)):
        hands = [shown_by(of, hand, rng) for _ in range(12)]
        inside, outside, calls = both(monkeypatch, hands, (DT * np.arange(12)).tolist(), Rig(of, root), Smoothing())
        assert calls == 11
        for a, b in zip(inside, outside, strict=True):
            alike(a, b)


def test_a_hand_at_the_lens_is_left_as_it_is_seen(monkeypatch: pytest.MonkeyPatch, hand: Hand, real: Topology) -> None:
    rng = np.random.default_rng(3)

    def turned(to: np.ndarray) -> Hand:
        """A hand that points at the camera or away from it, at a place."""
        seen = shown_by(real, hand, rng)
        vertices = np.roll(seen.vertices - seen.translation, 1, axis=1) + to
        joints = real.joint_regressor @ vertices.astype(np.float32)
        return dataclasses.replace(seen, translation=to, vertices=vertices.astype(np.float32), joints=joints)

    near = shown_by(real, hand, rng)
    flat = near.vertices - near.translation.astype(np.float32) + np.float32([0, 0, 0.05])
    flat[:, 2] = 0.05
    near = dataclasses.replace(
        near, translation=np.array([0.0, 0.0, 0.05]), vertices=flat, joints=real.joint_regressor @ flat
    )
    # The filter of the depth hardly moves: where it is held, a part of the first pointing hand is behind the camera.
    hands = [near, *(turned(np.array([0.01, 0.0, 0.1 + 0.01 * k])) for k in range(10))]
    settings = Smoothing(depth_cutoff=0.01, depth_gain=0.0, shape_gain=1e5, settling=0.0)
    inside, outside, calls = both(monkeypatch, hands, (DT * np.arange(11)).tolist(), Rig(real, 9), settings)
    assert calls == 9  # filters begin anew, in NumPy, in the first frame and in the one after the lens
    assert inside[1] is outside[1] is hands[1]
    for a, b in zip(inside[2:], outside[2:], strict=True):
        alike(a, b)


@pytest.mark.parametrize("seed", range(3))
def test_depths_that_leap_and_frames_in_a_row_are_numpys(
    monkeypatch: pytest.MonkeyPatch, hand: Hand, real: Topology, seed: int
) -> None:
    rng, hands = np.random.default_rng(seed), []
    for _ in range(60):
        seen = shown_by(real, hand, rng)
        far = np.float32([0, 0, rng.choice([0, 0, 1.0, 2.0])])
        seen = dataclasses.replace(
            seen, translation=seen.translation + far, vertices=seen.vertices + far, joints=seen.joints + far
        )
        fit = dataclasses.replace(seen.registration, bounds_active=bool(rng.random() < 0.3))
        hands.append(dataclasses.replace(seen, registration=fit))
    times = np.cumsum(rng.choice([1e-6, 0.001, 0.03, 0.1], 60)).tolist()
    inside, outside, calls = both(monkeypatch, hands, times, Rig(real, 9), Smoothing())
    assert calls > 30
    off = [
        np.log(each.translation[2] / (each.scale * seen.translation[2]))
        for each, seen in zip(inside, hands, strict=True)
    ]
    assert np.abs(off).max() == pytest.approx(smoothing.ASTRAY, abs=0.01)  # some were held
    for a, b in zip(inside, outside, strict=True):
        np.testing.assert_allclose(a.translation, b.translation, rtol=1e-5)
        np.testing.assert_allclose(a.joints, b.joints, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("field", ["vertices", "joints", "keypoints", "translation"])
def test_a_hand_of_no_numbers_is_left_as_it_is_seen(counting: Counting, hand: Hand, real: Topology, field: str) -> None:
    rng = np.random.default_rng(4)
    smoother = Smoother(Smoothing(), Rig(real, 9), 0.08)
    smoother(shown_by(real, hand, rng), 0.0)
    bad = shown_by(real, hand, rng)
    values = getattr(bad, field).copy()
    values[: 2 if field == "translation" else None] = np.nan
    bad = dataclasses.replace(bad, **{field: values})
    shown = smoother(bad, DT)
    assert counting.calls == 1
    if field == "keypoints":
        assert np.isnan(shown.keypoints).all()
        assert np.isfinite(shown.joints).all()
    else:
        assert shown is bad


def unusual(hand: Hand, how: str) -> Hand:
    if how == "double":
        return dataclasses.replace(hand, vertices=hand.vertices.astype(np.float64))
    if how == "columns":
        return dataclasses.replace(hand, joints=np.asfortranarray(hand.joints))
    return dataclasses.replace(hand, keypoints=np.repeat(hand.keypoints, 2, axis=0)[::2])


@pytest.mark.parametrize("how", ["double", "columns", "strided"])
def test_unusual_arrays_are_numpys(monkeypatch: pytest.MonkeyPatch, hand: Hand, real: Topology, how: str) -> None:
    rng = np.random.default_rng(5)
    hands = [shown_by(real, hand, rng) for _ in range(8)]
    usual = both(monkeypatch, hands, (DT * np.arange(8)).tolist(), Rig(real, 9), Smoothing())[0]
    odd = [unusual(each, how) if k in (3, 4) else each for k, each in enumerate(hands)]
    inside, _, calls = both(monkeypatch, odd, (DT * np.arange(8)).tolist(), Rig(real, 9), Smoothing())
    assert calls == 5  # of seven that are known
    for a, b in zip(inside, usual, strict=True):
        np.testing.assert_allclose(a.vertices, b.vertices, atol=1e-6)
        np.testing.assert_allclose(a.keypoints, b.keypoints, atol=5e-3)


def test_a_first_hand_of_doubles_stays_with_numpy(counting: Counting, hand: Hand, real: Topology) -> None:
    rng = np.random.default_rng(6)
    smoother = Smoother(Smoothing(), Rig(real, 9), 0.08)
    smoother(unusual(shown_by(real, hand, rng), "double"), 0.0)
    smoother(shown_by(real, hand, rng), DT)
    assert counting.calls == 0


def test_what_was_shown_does_not_change(counting: Counting, hand: Hand, real: Topology) -> None:
    rng = np.random.default_rng(8)
    smoother = Smoother(Smoothing(), Rig(real, 9), 0.08)
    shown, copies = [], []
    for k in range(5):
        shown.append(smoother(shown_by(real, hand, rng), k * DT))
        copies.append([getattr(shown[-1], name).copy() for name in ("vertices", "joints", "keypoints", "translation")])
    assert counting.calls == 4
    for each, copied in zip(shown, copies, strict=True):
        for name, values in zip(("vertices", "joints", "keypoints", "translation"), copied, strict=True):
            np.testing.assert_array_equal(getattr(each, name), values)


def test_a_rig_with_more_joints_than_the_core_has_room_for_stays_with_numpy(
    monkeypatch: pytest.MonkeyPatch, real: Topology
) -> None:
    assert Rig(real, 9).packed is not None
    monkeypatch.setattr(rig, "MOST_JOINTS", 20)
    assert Rig(real, 9).packed is None


def test_the_core_has_as_much_room_as_the_rig_takes_it_to_have() -> None:
    with pytest.raises(ValueError, match=f"at most {MOST_JOINTS} joints"):
        core.smooth((0, MOST_JOINTS + 1, 0, 0, 0, 0), *arguments()[1:])
    with pytest.raises(ValueError, match="needs"):  # this one fails for its arrays
        core.smooth((0, MOST_JOINTS, 0, 0, 0, 0), *arguments()[1:])


@pytest.mark.parametrize("dense", [0.0, 0.1, 1.0])
def test_entries_make_the_matrix_again(dense: float) -> None:
    rng = np.random.default_rng(9)
    matrix = (rng.random((7, 30)) * (rng.random((7, 30)) < dense)).astype(np.float32)
    entries, found = Entries.of(matrix), np.zeros_like(matrix)
    for row in range(7):
        part = slice(entries.starts[row], entries.starts[row + 1])
        found[row, entries.columns[part]] = entries.weights[part]
    np.testing.assert_array_equal(found, matrix)
    assert entries.starts.dtype == entries.columns.dtype == np.intc


def arguments(vertices: int = 4) -> list[Any]:
    """A hand of two joints and one bone that the core takes."""
    regressor, follow = np.eye(2, vertices, dtype=np.float32), np.ones((vertices, 2), np.float32)
    by_joint, by_vertex = Entries.of(regressor), Entries.of(follow)
    whole = np.concatenate([[0], [1], by_joint.starts, by_joint.columns, by_vertex.starts, by_vertex.columns])
    real = np.concatenate([np.ones(2), np.zeros(8), by_joint.weights, by_vertex.weights])
    single = [np.ones((vertices, 3), np.float32), np.ones((2, 3), np.float32), np.ones((2, 2), np.float32)]
    state = [np.ones((3, 3)), np.ones((3, 1)), np.ones((3, 2, 2)), np.ones((3, 3, vertices), np.float32)]
    return [
        (1, 2, vertices, 0, 2, 2 * vertices),
        whole.astype(np.intc),
        real.astype(np.float32),
        (*[1.0] * 8, 1.0, 0.5),
        (500.0, 500.0, 320.0, 240.0),
        [0.0, 0.0, 0.5],
        tuple(single),
        tuple(state),
        np.ones(1, np.float32),
        (*(each.copy() for each in single), np.empty(3)),
    ]


def test_the_arguments_of_these_tests_are_taken() -> None:
    assert core.smooth(*arguments()) > 0


@pytest.mark.parametrize("value", [-1, 9, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("place", range(17))
def test_entries_that_point_elsewhere_are_refused(place: int, value: int) -> None:
    given = arguments()
    # starts, ends; starts (3) and columns (2) of the regressor; starts (5) and columns (8) of what follows
    given[1][place] = value
    with pytest.raises(ValueError, match="not there"):
        core.smooth(*given)


@pytest.mark.parametrize(
    "counts", [(1, 2, 4, 2, 2, 8), (1, 2, 4, -1, 2, 8), (1, 2, 3, 0, 2, 8), (2, 2, 4, 0, 2, 8), (1, 2, 4, 0, 2, -8)]
)
def test_counts_that_do_not_fit_are_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="_core"):
        core.smooth(counts, *arguments()[1:])


@pytest.mark.parametrize(
    "which", [(6, 0), (6, 1), (6, 2), (7, 0), (7, 1), (7, 2), (7, 3), (9, 0), (9, 1), (9, 2), (9, 3)]
)
def test_arrays_that_are_too_short_or_of_another_type_are_refused(which: tuple[int, int]) -> None:
    group, place = which
    for change in (
        lambda array: array[:-1].copy(),
        lambda array: array.astype(np.int32),
        lambda array: np.repeat(array, 2, axis=0)[::2],
    ):
        given = arguments()
        arrays = list(given[group])
        arrays[place] = change(arrays[place])
        given[group] = tuple(arrays)
        with pytest.raises((ValueError, BufferError)):
            core.smooth(*given)


def test_what_cannot_be_written_is_refused() -> None:
    given = arguments()
    given[9][1].setflags(write=False)
    with pytest.raises((ValueError, BufferError)):
        core.smooth(*given)


def test_vertices_are_seen_and_shown_or_neither() -> None:
    given = arguments()
    given[9] = (None, *given[9][1:])
    with pytest.raises(ValueError, match="or neither"):
        core.smooth(*given)
