# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from registration_scenes import CAMERA, scene

from cmr_runtime.registration.extents import contour_extents
from cmr_runtime.registration.problem import joint_rows, offset, place
from cmr_runtime.registration.robust import noise_level, robust_weights
from cmr_runtime.registration.terms import ExtentTerm, JointTerm

FOCAL = np.array([[CAMERA.fx], [CAMERA.fy]])
CENTRE = np.array([CAMERA.cx, CAMERA.cy])


def both_terms(seed=0, noise=2.0):
    s = scene(seed, noise=noise, distance=0.5)
    joints = JointTerm(s.joints.T, (s.keypoints - CENTRE).T, np.ones(21), FOCAL, 150.0)
    extents = ExtentTerm(s.vertices.T, contour_extents(s.silhouette, None, CENTRE), FOCAL, 150.0, 0.1)
    return (joints, extents), np.append(s.translation, 1.0)


def test_a_common_factor_is_no_offset():
    x = np.array([0.1, -0.2, 0.7, 1.1])
    assert offset(1.3 * x, x) == pytest.approx(np.zeros(3), abs=1e-15)
    assert offset(x + np.array([0.01, 0, 0, 0]), x) == pytest.approx([0.01, 0, 0])


def test_rows_are_the_derivative_of_the_pixels():
    points = np.random.default_rng(0).normal(size=(3, 7)) * 0.05
    x = np.array([0.1, -0.2, 0.7, 1.1])
    rows = joint_rows(place(points, x, FOCAL))
    for axis in range(3):
        step = np.zeros(4)
        step[axis] = 1e-6
        change = (place(points, x + step, FOCAL).pixels - place(points, x - step, FOCAL).pixels) / 2e-6
        assert np.allclose(rows[:, :, axis], change, atol=1e-4)


@pytest.mark.parametrize("which", [0, 1])
def test_reweighting_near_by_is_as_good_as_linearising(which):
    terms, x = both_terms()
    near = x + np.array([0.001, -0.001, 0.004, 0.0])
    terms[which].linearise(x)
    cheap = terms[which].reweight(near)
    exact = terms[which].linearise(near)
    steps = [np.linalg.solve(each.P, each.g) for each in (cheap, exact)]
    assert np.allclose(*steps, atol=2e-4)


@pytest.mark.parametrize("which", [0, 1])
def test_a_term_has_its_minimum_at_the_truth(which):
    terms, x = both_terms(noise=0.0)
    quadratic = terms[which].linearise(x)
    assert np.abs(np.linalg.solve(quadratic.P, quadratic.g)).max() < 1e-6


def test_weights_are_flat_inside_and_vanish_outside():
    squares = np.square([0.0, 1.0, 3.0, 30.0]) * 4.0
    weights = robust_weights(squares, 2.0)
    assert weights[:3] == pytest.approx([1.0, 81 / 82, 0.5])
    assert weights[3] < 2e-4


def test_noise_level_mixes_what_is_seen_with_what_is_expected():
    assert noise_level(4.0 * 99, 99, 0.0, 1.0) == pytest.approx(2.0, rel=0.01)
    assert noise_level(0.0, 0.0, 3.0, 1.0) == pytest.approx(3.0)
    assert noise_level(0.0, -2.0, 3.0, 1.0) == pytest.approx(3.0)


def mean_error(lever, errors_of):
    """Mean error in metres of the 2D term's minimum over scenes whose joints are wrong by `errors_of(joints, rng)`."""
    found = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        s = scene(seed, distance=0.5)
        joints = s.joints + errors_of(s.joints, rng)
        term = JointTerm(joints.T.copy(), (s.keypoints - CENTRE).T, np.ones(21), FOCAL, 150.0)
        if not lever:
            term._precisions = np.ones(21)
        x = np.append(s.translation, 1.0)
        for _ in range(3):
            quadratic = term.linearise(x)
            x[:3] -= np.linalg.solve(quadratic.P, quadratic.g)
        found.append(np.linalg.norm(x[:3] - s.translation))
    return np.mean(found)


def test_errors_that_grow_with_the_lever_weigh_less_far_from_the_root():
    grow = lambda joints, rng: 0.05 * np.linalg.norm(joints, axis=1)[:, None] * rng.normal(size=(21, 3))  # noqa: E731
    assert mean_error(True, grow) < 0.85 * mean_error(False, grow)


def test_equal_errors_are_weighed_next_to_equally():
    alike = lambda joints, rng: 0.003 * rng.normal(size=(21, 3))  # noqa: E731
    assert mean_error(True, alike) < 1.06 * mean_error(False, alike)
