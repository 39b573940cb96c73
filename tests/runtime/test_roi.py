# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmr_runtime import Camera, InputError, Roi

rois = st.builds(Roi, st.floats(-50, 400), st.floats(-50, 400), st.floats(5, 600), st.floats(-3.2, 3.2), st.booleans())


def test_whole_image_as_a_box_is_an_exact_copy() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    np.testing.assert_array_equal(Roi.from_box((0, 0, 64, 64)).crop(image, 64), image)


def test_mirrored_and_turned_crops_are_flips_and_turns() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = Roi.from_box((0, 0, 64, 64))
    np.testing.assert_array_equal(whole.flipped().crop(image, 64), image[:, ::-1])
    turned = Roi(31.5, 31.5, 64.0, math.pi / 2)  # the crop's x axis points down in the image
    expected = np.rot90(image, 1)
    np.testing.assert_allclose(turned.crop(image, 64).astype(int), expected.astype(int), atol=1)


def test_boxes_that_are_not_square_get_the_square_around_them() -> None:
    roi = Roi.from_box((10, 20, 30, 60))
    assert (roi.cx, roi.cy, roi.size) == (19.5, 39.5, 40.0)


@settings(max_examples=60, deadline=None)
@given(rois, st.integers(8, 256))
def test_matrix_and_to_image_are_inverse(roi: Roi, S: int) -> None:
    points = np.random.default_rng(1).uniform(-10, S + 10, (7, 2))
    there = roi.to_image(points, S)
    m = roi.matrix(S)
    np.testing.assert_allclose(there @ m[:, :2].T + m[:, 2], points, atol=1e-6)
    np.testing.assert_allclose(roi.to_image([[(S - 1) / 2] * 2], S)[0], (roi.cx, roi.cy), atol=1e-9)
    corners = roi.to_image([[-0.5, -0.5], [S - 0.5, -0.5]], S)
    assert np.linalg.norm(corners[1] - corners[0]) == pytest.approx(roi.size)


@settings(max_examples=40, deadline=None)
@given(st.floats(-3.2, 3.2), st.floats(1, 3), st.booleans())
def test_around_contains_the_points_with_the_asked_margin(angle: float, scale: float, mirrored: bool) -> None:
    points = np.random.default_rng(2).uniform(0, 200, (21, 2))
    roi = Roi.around(points, scale, angle, mirrored)
    m = roi.matrix(100)
    inside = points @ m[:, :2].T + m[:, 2] + 0.5  # 0 to 100 over the crop
    low, high = inside.min(axis=0), inside.max(axis=0)
    np.testing.assert_allclose(low + high, 100.0, atol=1e-6)
    assert (high - low).max() == pytest.approx(100 / scale)
    assert roi.mirrored == mirrored


@pytest.mark.parametrize("size", [50.0, 90.0, 200.0, 300.0, 1000.0])
def test_crop_agrees_with_the_point_map_at_every_scale(size: float) -> None:
    # A smooth blob keeps its centre, whether averaged down first or not.
    y, x = np.mgrid[:300, :400]
    blob = 255 * np.exp(-((x - 210.3) ** 2 + (y - 140.7) ** 2) / (2 * min(size / 12, 30) ** 2))
    image = np.repeat(np.rint(blob).astype(np.uint8)[..., None], 3, axis=2)
    roi = Roi(215.0, 145.0, size, 0.3, True)
    crop = roi.crop(image, 64)[..., 0].astype(float)
    v, u = np.mgrid[:64, :64]
    centre = [(crop * u).sum() / crop.sum(), (crop * v).sum() / crop.sum()]
    np.testing.assert_allclose(roi.to_image([centre], 64)[0], (210.3, 140.7), atol=0.15 * max(1.0, size / 64))


def test_no_aliasing_when_much_reduced() -> None:
    image = np.zeros((640, 640, 3), np.uint8)
    image[:, ::2] = 255
    crop = Roi.from_box((0, 0, 640, 640)).crop(image, 64)
    assert abs(crop.astype(float) - 127.5).max() < 4


@pytest.mark.parametrize("size", [10.0, 500.0])
def test_outside_the_image_is_black(size: float) -> None:
    image = np.full((50, 50, 3), 200, np.uint8)
    assert not Roi(2000.0, 2000.0, size).crop(image, 32).any()
    half = Roi(49.5, 25.0, 2.0 * size).crop(image, 32)
    assert not half[16, 20:].any()


@settings(max_examples=40, deadline=None)
@given(rois)
def test_turning_points_agrees_with_projection_to_first_order(roi: Roi) -> None:
    """A small hand on the crop camera's axis lands in the image where the crop shows it."""
    camera = Camera(2000, 2000, 160, 120, 320, 240)
    hand = np.array([[1e-4, 0, 0], [0, 1e-4, 0], [0, 0, 0]])
    turned = roi.to_camera(hand, camera)
    ray = camera.ray((roi.cx, roi.cy))
    shown = camera.project(turned + 0.5 * ray)
    linear = roi.to_image(np.array([[1, 0], [0, 1], [0, 0]]), 100) - roi.to_image([[0, 0]], 100)
    for axis in range(2):
        seen, crop = shown[axis] - shown[2], linear[axis]
        cosine = seen @ crop / np.linalg.norm(seen) / np.linalg.norm(crop)
        assert cosine > 0.98
    assert np.linalg.det(roi.rotation(camera)) == pytest.approx(1.0)


def test_overlap() -> None:
    a = Roi(10, 10, 10)
    assert a.overlap(a) == pytest.approx(1.0)
    assert a.overlap(Roi(15, 10, 10)) == pytest.approx(50 / 150)
    assert a.overlap(Roi(10, 10, 5)) == pytest.approx(0.25)
    assert a.overlap(Roi(30, 10, 10)) == 0.0


@pytest.mark.parametrize(
    "box",
    [(0, 0, 0, 5), (5, 5, 1, 9), (0, 0, math.nan, 4), (1, 2, 3), "abcd", None, [[0], 1, 2, 3], np.array([0, 0, 4j, 4])],
)
def test_bad_boxes(box: object) -> None:
    with pytest.raises(InputError, match="box"):
        Roi.from_box(box)


def test_bad_values() -> None:
    with pytest.raises(InputError, match="finite"):
        Roi(math.inf, 0, 5)
    with pytest.raises(InputError, match="size"):
        Roi(0, 0, -5)
    with pytest.raises(InputError, match=r"size 1000000000\.0; give .* at most 4e\+06"):
        Roi(0, 0, 1e9)
    with pytest.raises(InputError, match="finite numbers"):
        Roi("a", 0, 1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"uint8 \(20, 20\); give"):
        Roi(5, 5, 5).crop(np.zeros((20, 20), np.uint8), 8)
    with pytest.raises(InputError, match="side of 0"):
        Roi(5, 5, 5).crop(np.zeros((20, 20, 3), np.uint8), 0)


@given(st.floats(-3.1, 3.1), st.booleans())
def test_upright_turns_the_hand_up(turn: float, mirrored: bool) -> None:
    joints = np.random.default_rng(3).normal(0, 8, (21, 2))
    joints[0], joints[9] = (0, 40), (0, -40)
    c, s = np.cos(turn), np.sin(turn)
    joints = joints @ np.array([[c, s], [-s, c]]) + (300, 200)
    roi = Roi.upright(joints, 1.5, mirrored=mirrored)
    matrix = roi.matrix(64)
    across, down = matrix[:, :2] @ (joints[9] - joints[0])
    assert abs(across) < 1e-6 * abs(down)
    assert down < 0
    seen = joints @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(np.ptp(seen, axis=0).max(), 64 / 1.5, rtol=1e-9)
    np.testing.assert_allclose(seen.max(0) + seen.min(0), 63, atol=1e-9)


def test_a_foreshortened_hand_keeps_the_turn_given() -> None:
    joints = np.random.default_rng(3).uniform(-40, 40, (21, 2))
    joints[9] = joints[0] + (0.5, 0.5)
    assert Roi.upright(joints, 1.5, angle=0.3).angle == 0.3
