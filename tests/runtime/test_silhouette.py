# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from cmr_runtime.silhouette import contour, cut

M, S = 64, 128


def disc(cx: float, cy: float, radius: float, soft: float = 1.0) -> np.ndarray:
    """Soft disc; centre and radius in crop pixels of a crop of side S."""
    grid = (np.arange(M) + 0.5) * S / M - 0.5
    x, y = np.meshgrid(grid, grid)
    return (1 / (1 + np.exp((np.hypot(x - cx, y - cy) - radius) / soft))).astype(np.float32)


@pytest.mark.parametrize("soft", [0.7, 1.0, 3.0])
def test_contour_of_a_disc_lies_on_its_circle(soft: float) -> None:
    points = contour(disc(60.3, 66.8, 30.4, soft), S)
    assert points is not None
    assert points.dtype == np.float32
    radii = np.hypot(points[:, 0] - 60.3, points[:, 1] - 66.8)
    assert abs(radii - 30.4).max() < 0.35
    assert abs(radii.mean() - 30.4) < 0.1


def test_the_outline_is_in_order() -> None:
    points = contour(disc(64, 64, 30), S)
    assert points is not None
    gaps = np.linalg.norm(np.roll(points, -1, axis=0) - points, axis=1)
    assert gaps.max() < 1.5


def test_largest_region_without_its_hole() -> None:
    ring = disc(40, 40, 28) - disc(40, 40, 10)
    points = contour(np.maximum(ring, disc(110, 110, 9)), S)
    assert points is not None
    radii = np.hypot(points[:, 0] - 40, points[:, 1] - 40)
    assert radii.min() > 26


@pytest.mark.parametrize("probability", [np.zeros((M, M)), np.full((M, M), 0.4), disc(64, 64, 2.0)])
def test_nothing_large_enough(probability: np.ndarray) -> None:
    assert contour(probability, S) is None


def test_cut_marks_what_the_crop_and_the_image_border_cut() -> None:
    points = contour(disc(64, 120, 30), S)
    assert points is not None
    marks = cut(points, points + 500, S, 5000, 5000)
    assert marks.any()
    assert (points[marks, 1] > S - 3).all()
    assert not marks[points[:, 1] < S - 4].any()
    whole = contour(disc(64, 64, 30), S)
    assert whole is not None
    assert not cut(whole, whole + 500, S, 5000, 5000).any()
    at_right_edge = cut(whole, whole, S, 94, 200)
    np.testing.assert_array_equal(at_right_edge, whole[:, 0] > 93.5 - 1.5)


def test_everything_covered_is_cut_all_round() -> None:
    points = contour(np.ones((M, M), np.float32), S)
    assert points is not None
    assert cut(points, points, S, S, S).all()
