# SPDX-License-Identifier: Apache-2.0
import dataclasses
import time

import numpy as np
import pytest
from disc_bundle import draw_disc

from cmr_runtime import Bundle, Camera, Hand, HandMeshTracker, InputError, Topology
from cmr_runtime.rig import Rig
from cmr_runtime.smoothing import AlphaBeta, Smoother, Smoothing

CAMERA = Camera.from_fov(60, 640, 480)
DT = 1 / 30


@pytest.fixture(scope="module")
def hand(bundle: Bundle) -> Hand:
    with HandMeshTracker(bundle, mode="image") as tracker:
        return tracker.track(draw_disc(640, 480, 300, 220, 40), CAMERA, rois=[(220, 140, 380, 300)])[0]


@pytest.fixture(scope="module")
def rig(topology: Topology) -> Rig:
    return Rig(topology, 9)


def _moved(hand: Hand, shift: np.ndarray, size: float = 1.0, noise: np.ndarray | float = 0.0) -> Hand:
    """The hand at another place, `size` times as large and as far, its mesh off by `noise`."""
    root = size * (hand.translation + shift)
    joints = hand.joints_root.astype(np.float64) * size + root
    return dataclasses.replace(
        hand,
        translation=root,
        joints=joints.astype(np.float32),
        vertices=(hand.vertices_root * size + root + noise).astype(np.float32),
        keypoints=CAMERA.project(joints).astype(np.float32) + 2,
    )


def _run(hands: list[Hand], rig: Rig, settings: Smoothing | None = None, dt: float = DT, **options) -> list[Hand]:
    smoother = Smoother(settings or Smoothing(), rig, 0.08, **options)
    return [smoother(each, dt * k) for k, each in enumerate(hands)]


def _tremble(points: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(points, 2, axis=0), axis=-1).mean())


def test_a_steady_hand_stays_as_it_is(hand: Hand, rig: Rig) -> None:
    out = _run([_moved(hand, np.zeros(3))] * 20, rig)[-1]
    for name in ("vertices", "joints", "translation", "scale"):
        np.testing.assert_allclose(getattr(out, name), getattr(_moved(hand, np.zeros(3)), name), atol=1e-6)
    np.testing.assert_allclose(out.keypoints, _moved(hand, np.zeros(3)).keypoints, atol=0.01)


def test_a_constant_velocity_is_followed_without_lag() -> None:
    speed = np.array([[0.3], [-0.2], [0.1]])
    filtered = AlphaBeta(1.0, 100.0, 4.0)
    for frame in range(90):
        seen = speed * frame * DT
        value = filtered(seen, DT)
    np.testing.assert_allclose(value, seen, atol=1e-3)


def test_white_noise_is_taken_away_and_more_from_a_lower_cutoff() -> None:
    noise = np.random.default_rng(0).normal(0, 1e-3, (300, 3, 50))
    left = []
    for cutoff in (0.5, 2.0, 8.0):
        filtered = AlphaBeta(cutoff, 0.0, 4.0)
        left.append(_tremble(np.array([filtered(each, DT) for each in noise]).transpose(0, 2, 1)[30:]))
    assert left[0] < left[1] < left[2] < _tremble(noise.transpose(0, 2, 1))
    assert left[0] < 0.1 * _tremble(noise.transpose(0, 2, 1))


def test_what_counts_is_seconds_and_not_frames() -> None:
    ends = []
    for rate in (30, 120):
        filtered = AlphaBeta(1.0, 0.0, 4.0)
        filtered(np.zeros((1, 1)), 1 / rate)
        for _ in range(rate // 5):
            value = filtered(np.ones((1, 1)), 1 / rate)
        ends.append(float(value[0, 0]))
    assert ends[0] == pytest.approx(ends[1], abs=0.12)  # a step's response after 0.2 s
    assert 0.5 < ends[0] < 1.3


def test_root_and_depth_at_rest_tremble_less(hand: Hand, rig: Rig) -> None:
    rng = np.random.default_rng(1)
    hands = [_moved(hand, rng.normal(0, (1e-3, 1e-3, 5e-3)), noise=rng.normal(0, 1e-3, (60, 3))) for _ in range(120)]
    out = _run(hands, rig)
    for get in (lambda h: h.translation[None], lambda h: h.translation[None, 2:], lambda h: h.vertices_root):
        before, after = (_tremble(np.array([get(each) for each in which])[30:]) for which in (hands, out))
        assert after < 0.5 * before


def test_results_agree_with_each_other(hand: Hand, rig: Rig, topology: Topology) -> None:
    rng = np.random.default_rng(2)
    hands = [_moved(hand, rng.normal(0, 5e-3, 3), 1 + rng.normal(0, 0.02)) for _ in range(40)]
    for each in _run(hands, rig)[5:]:
        np.testing.assert_allclose(each.joints[9], each.translation, atol=1e-6)
        np.testing.assert_allclose(topology.joint_regressor @ each.vertices, each.joints, atol=2e-6)
        # The keypoints were 2 pixels from the joints, each way; they still are.
        np.testing.assert_allclose(each.keypoints, CAMERA.project(each.joints) + 2, atol=0.2)
        assert each.vertices.dtype == each.joints.dtype == each.keypoints.dtype == np.float32
        assert each.translation.dtype == np.float64
        assert each.registration is hand.registration


def test_the_size_settles_and_the_image_stays(hand: Hand, rig: Rig) -> None:
    sizes = 1 + np.random.default_rng(3).normal(0, 0.03, 200)
    out = _run([_moved(hand, np.zeros(3), size) for size in sizes], rig)
    bones = np.array([rig.lengths(each.joints.T) for each in out])
    assert bones[60:].std(axis=0).max() < 0.15 * 0.03 * bones.mean(axis=0).max()
    np.testing.assert_allclose(bones[-1], sizes[-90:].mean() * rig.lengths(hand.joints.T), rtol=0.02)
    depth = np.array([each.translation[2] for each in out])
    assert depth[60:].std() < 0.15 * (sizes * hand.translation[2]).std()
    shown = np.array([CAMERA.project(each.joints) for each in out])
    np.testing.assert_allclose(shown[60:], np.broadcast_to(shown[0], shown[60:].shape), atol=0.05)


def test_an_unsure_depth_counts_less(hand: Hand, rig: Rig) -> None:
    still = [_moved(hand, np.zeros(3))] * 30
    leap = _moved(hand, np.array([0, 0, 0.1]))
    moves = []
    for factor in (1.0, 6.0):
        fit = dataclasses.replace(leap.registration, sigma=factor * leap.registration.sigma)
        out = _run([*still, dataclasses.replace(leap, registration=fit)], rig)
        moves.append(out[-1].translation[2] - out[-2].translation[2])
    bound = dataclasses.replace(leap.registration, bounds_active=True)
    held = _run([*still, dataclasses.replace(leap, registration=bound)], rig)
    moves.append(held[-1].translation[2] - held[-2].translation[2])
    assert moves[1] < 0.5 * moves[0]
    assert moves[2] < 0.1 * moves[0]


def _of_depths(hand: Hand, depths: np.ndarray, unsure: np.ndarray, bound: bool = False) -> list[Hand]:
    """The hand at these depths; where it is unsure, sigma is three times as large, or the depth is at its bound."""
    hands = []
    for depth, doubt in zip(depths, unsure, strict=True):
        moved = _moved(hand, hand.translation * (depth / hand.translation[2] - 1))
        fit = dataclasses.replace(
            moved.registration,
            translation=moved.translation,
            sigma=(3.0 if doubt else 1.0) * 0.1 * depth * np.ones(3),
            bounds_active=bool(doubt) and bound,
        )
        hands.append(dataclasses.replace(moved, registration=fit))
    return hands


@pytest.mark.parametrize("bound", [False, True])
def test_a_depth_that_stops_while_it_is_unsure_does_not_go_on(hand: Hand, rig: Rig, bound: bool) -> None:
    frames = np.arange(90)
    depths = 0.5 + 1.0 * DT * np.clip(frames - 40, 0, 10)  # back at a metre a second, then still
    out = _run(_of_depths(hand, depths, (frames >= 50) & (frames < 75), bound), rig)
    shown = np.array([each.translation[2] for each in out])
    assert (shown / depths).max() < 1.04
    np.testing.assert_allclose(shown[-5:], depths[-5:], rtol=0.01)


def test_one_leap_before_unsure_frames_is_forgotten(hand: Hand, rig: Rig) -> None:
    frames = np.arange(90)
    depths = np.where(frames == 60, 0.6, 0.5)
    out = _run(_of_depths(hand, depths, (frames > 60) & (frames < 76)), rig)
    assert max(each.translation[2] for each in out[61:]) < 0.63  # 0.59 at the leap itself


def test_frames_a_millisecond_apart_make_no_velocity(hand: Hand, rig: Rig) -> None:
    rng = np.random.default_rng(5)
    gaps = np.where(np.arange(200) % 2, 0.001, 0.033)
    depths = 0.5 * np.exp(rng.normal(0, 0.03, 200))
    smoother = Smoother(Smoothing(), rig, 0.08)
    hands = _of_depths(hand, depths, rng.random(200) < 0.3)
    shown = [smoother(each, time).translation[2] for each, time in zip(hands, np.cumsum(gaps), strict=True)]
    assert min(shown) > 0.45
    assert max(shown) < 0.55


@pytest.mark.parametrize("seed", range(3))
def test_a_smoothed_hand_is_never_far_from_where_it_is_seen(hand: Hand, rig: Rig, seed: int) -> None:
    rng = np.random.default_rng(seed)
    depths = np.exp(np.clip(np.log(0.5) + np.cumsum(rng.normal(0, 0.15, 300)), np.log(0.15), np.log(3)))
    smoother = Smoother(Smoothing(), rig, 0.08)
    hands = _of_depths(hand, depths, rng.random(300) < 0.5, bound=True)
    times = np.cumsum(rng.choice([1e-6, 0.001, 0.033, 0.1], 300))
    shown = np.array([smoother(each, time).translation[2] for each, time in zip(hands, times, strict=True)])
    assert np.abs(np.log(shown / depths)).max() < 0.5  # 0.4, and what a settling size adds


def test_after_a_gap_a_hand_is_where_it_is_seen_and_as_large_as_it_was(hand: Hand, rig: Rig) -> None:
    smoother = Smoother(Smoothing(), rig, 0.08)
    for frame in range(60):
        before = smoother(_moved(hand, np.zeros(3)), frame * DT)
    far = _moved(hand, np.array([0.1, 0, 0.1]), 1.05)
    after = smoother(far, 3.0)
    np.testing.assert_allclose(
        after.translation / after.translation[2], far.translation / far.translation[2], atol=1e-6
    )
    assert rig.lengths(after.joints.T).sum() == pytest.approx(rig.lengths(before.joints.T).sum(), rel=0.01)


def test_no_joint_is_put_behind_the_camera(hand: Hand, rig: Rig) -> None:
    smoother = Smoother(Smoothing(depth_cutoff=0.01, depth_gain=0.0), rig, 0.08)
    smoother(_moved(hand, np.array([0, 0, 0.02 - hand.translation[2]])), 0.0)
    # It turns edge on and is far: at the depth that it had, half of its joints would be behind the camera.
    far = _moved(hand, np.zeros(3))
    vertices = far.vertices_root[:, [2, 1, 0]] + far.translation.astype(np.float32)
    far = dataclasses.replace(far, vertices=vertices, joints=rig.regressor.T @ vertices)
    out = [smoother(far, DT * k) for k in range(1, 20)]
    assert all(np.isfinite(each.keypoints).all() and (each.joints[:, 2] > 0).all() for each in out)


def test_joints_alone(hand: Hand, rig: Rig) -> None:
    rng = np.random.default_rng(4)
    hands = [_moved(hand, rng.normal(0, 5e-3, 3), 1 + rng.normal(0, 0.02)) for _ in range(40)]
    alone, whole = _run(hands, rig, mesh=False)[-1], _run(hands, rig)[-1]
    np.testing.assert_allclose(alone.joints, whole.joints, atol=1e-3)
    np.testing.assert_array_equal(alone.translation, whole.translation)


def test_bones_get_their_length_and_the_mesh_goes_with_them() -> None:
    topology = Bundle.default().topology
    rig = Rig(topology, 9)
    mesh = (topology.template - (topology.joint_regressor @ topology.template)[9]).T
    joints = mesh @ rig.regressor
    wanted = rig.lengths(joints) * np.linspace(0.9, 1.1, 20, dtype=np.float32)
    stretched, points = rig.stretch(joints, wanted, mesh)
    alone, _ = rig.stretch(joints, wanted, None)
    np.testing.assert_allclose(rig.lengths(alone), wanted, rtol=1e-4)
    np.testing.assert_allclose(stretched, alone, atol=1e-5)
    np.testing.assert_allclose(points @ rig.regressor, alone, atol=1e-5)
    # A bone keeps its direction, and no vertex goes farther than a joint or two.
    before, after = joints[:, 1] - joints[:, 0], alone[:, 1] - alone[:, 0]
    np.testing.assert_allclose(np.cross(before, after), 0, atol=1e-8)
    assert np.linalg.norm(points - mesh, axis=0).max() < 2 * np.linalg.norm(alone - joints, axis=0).max()


def test_settings_of_any_number_type_leave_results_single(hand: Hand, rig: Rig) -> None:
    settings = Smoothing(*(kind(2) for kind in (int, np.int64, np.float32, np.float64) * 2))
    for mesh in (True, False):
        for each in _run([_moved(hand, np.zeros(3))] * 4, rig, settings, mesh=mesh):
            assert each.vertices.dtype == each.joints.dtype == each.keypoints.dtype == np.float32


@pytest.mark.parametrize(
    "setting", [{"depth_cutoff": 0}, {"settling": -1}, {"shape_gain": float("nan")}, {"lag_cutoff": "1"}]
)
def test_settings_are_checked(setting: dict) -> None:
    with pytest.raises(InputError, match=next(iter(setting))):
        Smoothing(**setting)


@pytest.mark.slow
def test_it_costs_little(rig: Rig, hand: Hand) -> None:
    smoother, times = Smoother(Smoothing(), rig, 0.08), []
    for frame in range(200):
        start = time.perf_counter()
        smoother(hand, frame * DT)
        times.append(time.perf_counter() - start)
    assert np.percentile(times, 10) < 0.5e-3  # 0.1 ms on an idle machine; CI is none
