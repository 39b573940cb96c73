# SPDX-License-Identifier: Apache-2.0
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from registration_scenes import outline, project, scene

from cmr_runtime.camera import Camera
from cmr_runtime.registration import Registrar, register

KNOWN = (1.0, 0.0)


def errors(results, scenes):
    return np.array([np.linalg.norm(r.translation - s.translation) for r, s in zip(results, scenes, strict=True)])


@pytest.mark.parametrize("seed", range(8))
def test_exact_without_noise_from_joints(seed):
    s = scene(seed).without_silhouette()
    result = register(*s.arguments(), scale_prior=KNOWN)
    assert np.abs(result.translation - s.translation).max() < 1e-6
    assert result.scale == pytest.approx(1.0, abs=1e-6)
    assert result.inliers.all()
    assert result.residual_2d < 1e-3
    assert np.isnan(result.residual_1d)
    assert np.isnan(result.gap)
    assert result.weight_1d == 0.0
    assert not result.bounds_active


@pytest.mark.parametrize("blend", ["covariance", "paper"])
@pytest.mark.parametrize("seed", range(4))
def test_exact_without_noise_from_both_terms(seed, blend):
    s = scene(seed)
    result = Registrar(KNOWN, blend=blend)(*s.arguments())
    assert np.abs(result.translation - s.translation).max() < 1e-6
    assert result.gap < 1e-4
    assert result.residual_1d < 0.01


def test_exact_from_the_silhouette_alone(monkeypatch):
    """The 1D solution is the paper's blend with all weight on it; wrong keypoints only give its start."""
    monkeypatch.setattr("cmr_runtime.registration.blend.paper_weight", lambda gap: 1.0)
    for seed in range(6):
        s = scene(seed)
        shifted = replace(s, keypoints=s.keypoints + 0.1 * s.hand_px)
        result = Registrar(KNOWN, blend="paper")(*shifted.arguments())
        assert np.abs(result.translation - s.translation).max() < 2e-3
        assert result.weight_1d == 1.0


def test_both_terms_beat_either_alone():
    scenes = [scene(k, noise=3, silhouette_noise=1) for k in range(40)]
    registrar, paper = Registrar(KNOWN), Registrar(KNOWN, blend="paper")
    both = errors([registrar(*s.arguments()) for s in scenes], scenes).mean()
    joints = errors([registrar(*s.without_silhouette().arguments()) for s in scenes], scenes).mean()
    assert both < 0.8 * joints
    assert both < errors([paper(*s.arguments()) for s in scenes], scenes).mean()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.floats(-300, 300), st.floats(0.5, 3))
def test_moving_and_scaling_the_image_with_the_camera_changes_nothing(seed, shift, factor):
    s = scene(seed, noise=1, distance=0.6)
    c = s.camera
    camera = Camera(c.fx * factor, c.fy * factor, (c.cx + shift) * factor, (c.cy - shift) * factor, c.width, c.height)
    move = np.array([shift, -shift])
    moved = replace(
        s, keypoints=(s.keypoints + move) * factor, silhouette=(s.silhouette + move) * factor, camera=camera
    )
    a, b = register(*s.arguments()), register(*moved.arguments())
    assert np.allclose(a.translation, b.translation, atol=2e-6)


def test_permuted_and_mirrored_joints():
    s = scene(3, noise=2)
    order = np.random.default_rng(0).permutation(21)
    permuted = replace(s, joints=s.joints[order], keypoints=s.keypoints[order])
    result = register(*s.arguments())
    assert np.allclose(register(*permuted.arguments()).translation, result.translation, atol=1e-7)
    flip = np.array([-1.0, 1.0, 1.0])
    mirror = np.array([2 * s.camera.cx, 0.0])
    mirrored = replace(
        s,
        vertices=s.vertices * flip,
        joints=s.joints * flip,
        keypoints=mirror + s.keypoints * flip[:2],
        silhouette=mirror + s.silhouette * flip[:2],
    )
    assert np.allclose(register(*mirrored.arguments()).translation, result.translation * flip, atol=1e-6)


@pytest.mark.parametrize("count", [3, 6])
@pytest.mark.parametrize("with_silhouette", [False, True])
def test_outliers_hurt_little(count, with_silhouette):
    clean = [scene(k, noise=1) for k in range(40)]
    spoilt = [scene(k, noise=1, outliers=count) for k in range(40)]
    if not with_silhouette:
        clean, spoilt = ([s.without_silhouette() for s in group] for group in (clean, spoilt))
    registrar = Registrar(KNOWN)
    results = [registrar(*s.arguments()) for s in spoilt]
    base = errors([registrar(*s.arguments()) for s in clean], clean).mean()
    assert errors(results, spoilt).mean() < 1.6 * base
    assert np.mean([r.inliers.sum() for r in results]) == pytest.approx(21 - count, abs=1.0)


def test_a_cut_silhouette_does_not_pull():
    registrar = Registrar(KNOWN)
    scenes, cut_off, unmarked = [], [], []
    for k in range(30):
        s = scene(k, noise=1)
        points = project(s.vertices + s.translation)
        limit = np.median(s.silhouette[:, 0])
        # The visible half's outline: points beyond the border slide onto it.
        clipped = outline(
            np.minimum(points, [limit, np.inf]) + 1e-6 * np.random.default_rng(k).normal(size=points.shape)
        )
        visible = replace(s, silhouette=clipped)
        scenes.append(s)
        cut_off.append(registrar(*visible.arguments(), cut=clipped[:, 0] > limit - 1))
        unmarked.append(registrar(*visible.arguments()))
    alone = errors([registrar(*s.without_silhouette().arguments()) for s in scenes], scenes)
    assert errors(cut_off, scenes).mean() < 1.05 * alone.mean()
    assert errors(cut_off, scenes).mean() < errors(unmarked, scenes).mean()


def test_too_few_uncut_extents_leave_the_2d_term():
    s = scene(0, noise=1)
    everything = np.ones(len(s.silhouette), dtype=bool)
    result = register(*s.arguments(), cut=everything)
    assert np.isnan(result.gap)
    assert np.array_equal(result.translation, register(*s.without_silhouette().arguments()).translation)


@pytest.mark.parametrize("points", [0, 1, 2])
def test_an_empty_silhouette_counts_as_none(points):
    s = scene(0)
    assert np.isnan(register(*replace(s, silhouette=s.silhouette[:points]).arguments()).residual_1d)


@pytest.mark.parametrize("with_silhouette", [False, True])
def test_sigma_is_about_right(with_silhouette):
    """Noise of 2 px and hands drawn from the scale prior: errors over sigma spread by about one."""
    z = []
    for k in range(150):
        size = 1.0 + 0.08 * np.random.default_rng(900 + k).normal()
        s = scene(k, noise=2, silhouette_noise=1, size=size)
        if not with_silhouette:
            s = s.without_silhouette()
        result = register(*s.arguments())
        z.append((result.translation - s.translation) / result.sigma)
    spread = np.std(z, axis=0)
    assert (spread > 0.5).all()
    assert (spread < 2.0).all()


def test_two_calls_give_the_same_bits():
    s, other = scene(1, noise=2), scene(2, noise=4)
    registrar = Registrar()
    first = registrar(*s.arguments())
    registrar(*other.arguments())
    for again in (registrar(*s.arguments()), Registrar()(*s.arguments()), register(*s.arguments())):
        assert np.array_equal(again.translation, first.translation)
        assert np.array_equal(again.sigma, first.sigma)
        assert again.scale == first.scale
        assert again.residual_1d == first.residual_1d


@pytest.mark.parametrize("name", ["daqp", "quadprog"])
def test_solvers_give_the_same_position(name):
    pytest.importorskip("qpsolvers")
    pytest.importorskip(name)
    ours, theirs = Registrar(), Registrar(solver=name)
    for k in range(20):
        s = scene(k, noise=2, outliers=k % 4, distance=0.05 + 0.2 * k)  # some beyond the bounds
        assert np.abs(ours(*s.arguments()).translation - theirs(*s.arguments()).translation).max() < 1e-5


def test_bounds_are_reported():
    s = scene(0, distance=5.0)
    result = register(*s.arguments())
    assert result.bounds_active
    assert result.translation[2] <= 3.0
    assert not register(*scene(0, distance=1.0).arguments()).bounds_active
    wider = Registrar(depth_bounds=(0.05, 8.0))(*s.arguments())
    assert wider.translation[2] == pytest.approx(5.0, rel=1e-3)


def test_the_hand_stays_in_front_of_the_camera():
    s = scene(0)
    swapped = replace(s, keypoints=2 * s.keypoints.mean(axis=0) - s.keypoints).without_silhouette()
    result = register(*swapped.arguments())
    assert (result.scale * s.vertices + result.translation)[:, 2].min() > 0


def test_any_number_of_joints_and_vertices():
    s = scene(0)
    few = replace(
        s, joints=s.joints[::5], keypoints=s.keypoints[::5], scores=s.scores[::5], vertices=s.vertices[:40]
    ).without_silhouette()
    result = register(*few.arguments(), metric=False)
    assert result.inliers.shape == (5,)
    assert not result.metric
    assert np.allclose(result.translation, s.translation, atol=1e-6)


def test_low_scores_are_left_out():
    s = scene(0).without_silhouette()
    scores = np.ones(21)
    scores[:10] = 0.05
    keypoints = s.keypoints.copy()
    keypoints[:10] += 500
    result = register(*replace(s, scores=scores, keypoints=keypoints).arguments())
    assert np.allclose(result.translation, s.translation, atol=1e-6)
    assert not result.inliers[:10].any()
    assert result.inliers[10:].all()


def test_result_is_frozen():
    result = register(*scene(0).arguments())
    with pytest.raises(FrozenInstanceError):
        result.scale = 2.0  # type: ignore[misc]


def test_usable_results():
    assert register(*scene(0).arguments()).usable
    assert not register(*scene(0, distance=5.0).arguments()).usable
    elsewhere = replace(scene(0), keypoints=np.random.default_rng(0).uniform(0, 400, (21, 2)), silhouette=None)
    lost = register(*elsewhere.arguments())
    assert not lost.usable or lost.sigma[2] > 0.1
