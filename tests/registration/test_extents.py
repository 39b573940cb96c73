# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmr_runtime.registration.extents import DIRECTIONS, contour_extents, extents, extremal_points, roughness


def test_extents_of_a_box():
    box = np.array([[-2.0, -1.0], [3.0, -1.0], [3.0, 4.0], [-2.0, 4.0]])
    assert extents(box)[[0, 6, 12, 18]] == pytest.approx([3, 4, 2, 1])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(0, 23))
def test_turning_by_15_degrees_shifts_the_extents(seed, steps):
    points = np.random.default_rng(seed).normal(size=(40, 2)) * 50
    c, s = np.cos(np.deg2rad(15 * steps)), np.sin(np.deg2rad(15 * steps))
    turned = points @ np.array([[c, -s], [s, c]]).T
    assert np.allclose(extents(turned), np.roll(extents(points), steps), atol=1e-9)


def test_extremal_points_reach_the_extents():
    points = np.random.default_rng(0).normal(size=(200, 2))
    chosen = extremal_points(np.ascontiguousarray(points.T))
    assert np.allclose((DIRECTIONS * points[chosen]).sum(axis=1), extents(points))


def test_cut_extents_are_not_usable():
    angle = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    circle = 50 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    values, usable = contour_extents(circle, circle[:, 0] > 40)
    assert values == pytest.approx(np.full(24, 50.0), abs=0.01)
    assert not usable[[0, 1, 2, 22, 23]].any()
    assert usable[4:21].all()


def test_roughness_is_the_jitter():
    rng = np.random.default_rng(0)
    angle = np.linspace(0, 2 * np.pi, 600, endpoint=False)
    circle = 90 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert roughness(circle) < 0.01
    assert roughness(circle + 2.0 * rng.normal(size=circle.shape)) == pytest.approx(2.0, rel=0.15)
