# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmr_runtime.heatmaps import decode

H = 32


def gaussians(centres: np.ndarray, sigma: float, peak: float = 1.0, floor: float = 0.0) -> np.ndarray:
    """Maps with their peaks at centres, (K, 2) in cells (x, y), the centre of the first cell being 0."""
    y, x = np.mgrid[:H, :H]
    d2 = (x - centres[:, 0, None, None]) ** 2 + (y - centres[:, 1, None, None]) ** 2
    return (floor + (peak - floor) * np.exp(-0.5 * d2 / sigma**2)).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.8, 2.5), st.floats(0.2, 1.0), st.floats(0, 0.005))
def test_round_trip_below_a_tenth_of_a_cell(seed: int, sigma: float, peak: float, floor: float) -> None:
    centres = np.random.default_rng(seed).uniform(-0.4, H - 0.6, (21, 2))  # to the very border
    keypoints, scores = decode(gaussians(centres, sigma, peak, floor), 128)
    expected = (centres + 0.5) * 128 / H - 0.5
    np.testing.assert_allclose(keypoints, expected, atol=0.1 * 128 / H)
    assert (scores <= peak + 1e-6).all()
    assert (scores >= 0.5 * peak).all()


@pytest.mark.parametrize("centre", [0.0, 0.25, 1.0])
def test_the_peak_may_lie_elsewhere_in_its_cell(centre: float) -> None:
    centres = np.random.default_rng(1).uniform(2, H - 3, (21, 2))
    keypoints, _ = decode(gaussians(centres, 1.5), 128, centre)
    np.testing.assert_allclose(keypoints, (centres + centre) * 128 / H - 0.5, atol=0.05)


def test_noise_moves_the_peak_little() -> None:
    rng = np.random.default_rng(0)
    centres = rng.uniform(3, H - 4, (21, 2))
    maps = np.clip(gaussians(centres, 1.5) + rng.normal(0, 0.02, (21, H, H)), 0, 1).astype(np.float32)
    keypoints, _ = decode(maps, H)
    assert np.linalg.norm(keypoints - centres, axis=1).mean() < 0.1


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_flat_maps_give_finite_points_on_the_map(value: float) -> None:
    keypoints, scores = decode(np.full((21, H, H), value, np.float32), 64)
    assert np.isfinite(keypoints).all()
    assert (keypoints >= -2.5).all()
    np.testing.assert_allclose(scores, value)


def test_single_bright_cell_and_plateau() -> None:
    maps = np.zeros((2, H, H), np.float32)
    maps[0, 5, 7] = 0.9
    maps[1, 10:12, 20:22] = 0.8  # middle at (20.5, 10.5)
    keypoints, scores = decode(maps, H)
    np.testing.assert_allclose(keypoints, [[7, 5], [20.5, 10.5]], atol=0.1)
    np.testing.assert_allclose(scores, [0.9, 0.8], rtol=1e-6)


def test_largest_of_two_peaks_wins() -> None:
    maps = np.maximum(gaussians(np.array([[5.0, 5.0]]), 1.5, 0.6), gaussians(np.array([[20.2, 9.7]]), 1.5, 0.9))
    np.testing.assert_allclose(decode(maps, H)[0], [[20.2, 9.7]], atol=0.1)
