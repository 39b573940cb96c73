# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import procrustes
from scipy.spatial.transform import Rotation

from cmr_runtime import InputError
from cmr_runtime.metrics import align_similarity, mean_distance, mpjpe, pa_mpjpe


def joints(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, (21, 3)) + np.array([0, 0, 0.5])


def test_mean_distance_and_root_alignment_by_hand() -> None:
    a = joints(0)
    shift = np.array([0.003, 0.004, 0.0])
    assert mean_distance(a + shift, a) == pytest.approx(0.005)
    assert mpjpe(a + shift, a) == pytest.approx(0.0, abs=1e-12)
    b = a.copy()
    b[4] += shift
    assert mpjpe(b, a) == pytest.approx(0.005 / 21)
    c = a.copy()
    c[9] += shift  # the root itself: all others are off by as much
    assert mpjpe(c, a) == pytest.approx(0.005 * 20 / 21)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0.2, 5))
def test_similarity_is_undone(seed: int, scale: float) -> None:
    a = joints(seed)
    turn = Rotation.random(random_state=seed).as_matrix()
    moved = scale * a @ turn.T + (0.3, -0.2, 0.1)
    np.testing.assert_allclose(align_similarity(moved, a), a, atol=1e-9)
    assert pa_mpjpe(moved, a) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_scipy_where_no_reflection_is_involved(seed: int) -> None:
    rng = np.random.default_rng(seed)
    target = joints(seed)
    points = 1.3 * (target + rng.normal(0, 0.01, (21, 3)))
    _, _, disparity = procrustes(target, points)
    # SciPy scales the target to unit norm and fits rotation and scale, as here.
    spread = np.linalg.norm(target - target.mean(axis=0))
    ours = ((align_similarity(points, target) - target) ** 2).sum() / spread**2
    assert ours == pytest.approx(disparity, rel=1e-6)


def test_a_mirrored_hand_is_not_fitted_by_reflection() -> None:
    a = joints(3)
    mirrored = a * (-1, 1, 1)
    assert pa_mpjpe(mirrored, a) > 0.01
    aligned = align_similarity(mirrored, a)
    # The map from one to the other has a positive determinant: a rotation.
    linear, *_ = np.linalg.lstsq(mirrored - mirrored.mean(0), aligned - aligned.mean(0), rcond=None)
    assert np.linalg.det(linear) > 0


def test_best_among_small_changes() -> None:
    a, b = joints(1), joints(2)
    best = ((align_similarity(a, b) - b) ** 2).sum()
    fitted = align_similarity(a, b)
    rng = np.random.default_rng(0)
    for _ in range(50):
        turn = Rotation.from_rotvec(rng.normal(0, 0.05, 3)).as_matrix()
        other = rng.normal(1, 0.05) * (fitted - fitted.mean(0)) @ turn.T + fitted.mean(0) + rng.normal(0, 1e-3, 3)
        assert ((other - b) ** 2).sum() >= best - 1e-12


def test_degenerate_and_wrong_shapes() -> None:
    assert np.isfinite(align_similarity(np.zeros((5, 3)), joints(0)[:5])).all()
    with pytest.raises(InputError, match="shapes"):
        mean_distance(np.zeros((3, 2)), np.zeros((4, 2)))
    with pytest.raises(InputError, match="shapes"):
        mean_distance(np.zeros((0, 2)), np.zeros((0, 2)))
