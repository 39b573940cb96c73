# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cmr_runtime import Camera, CameraError

CAMERA = Camera(fx=500, fy=480, cx=310, cy=250, width=640, height=480)
pixels = st.tuples(st.floats(-500, 1500), st.floats(-500, 1500))


def test_matrix_round_trip_and_projection_by_matrix() -> None:
    points = np.random.default_rng(0).normal((0, 0, 1), (0.2, 0.2, 0.1), (50, 3))
    homogeneous = points @ CAMERA.matrix.T
    np.testing.assert_allclose(CAMERA.project(points), homogeneous[:, :2] / homogeneous[:, 2:], rtol=1e-12)
    assert Camera.from_matrix(CAMERA.matrix, 640, 480) == CAMERA


def test_field_of_view_reaches_the_edges() -> None:
    camera = Camera.from_fov(60, 640, 480)
    half = math.radians(30)
    # The image spans −0.5 to W − 0.5.
    np.testing.assert_allclose(camera.project([math.tan(half), 0, 1])[0], 639.5)
    np.testing.assert_allclose(camera.project([-math.tan(half), 0, 1])[0], -0.5)


def test_points_behind_the_camera_have_no_pixel() -> None:
    assert np.isnan(CAMERA.project([[0, 0, -1.0], [0, 0, 0.0]])).all()


@settings(max_examples=50, deadline=None)
@given(pixels)
def test_rotation_towards_is_the_smallest_one(pixel: tuple[float, float]) -> None:
    rotation, ray = CAMERA.rotation_towards(pixel), CAMERA.ray(pixel)
    expected = Rotation.align_vectors(ray[None], [[0, 0, 1.0]])[0]
    np.testing.assert_allclose(rotation @ (0, 0, 1), ray, atol=1e-12)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0)
    assert Rotation.from_matrix(rotation).magnitude() == pytest.approx(math.acos(min(ray[2], 1.0)), abs=1e-6)
    assert expected.magnitude() == pytest.approx(Rotation.from_matrix(rotation).magnitude(), abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(pixels, st.floats(0.1, 5))
def test_ray_then_project_returns_the_pixel(pixel: tuple[float, float], depth: float) -> None:
    np.testing.assert_allclose(CAMERA.project(depth * CAMERA.ray(pixel)), pixel, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"fx": 0}, "fx"),
        ({"fy": -5}, "fy"),
        ({"cx": float("nan")}, "cx"),
        ({"cy": float("inf")}, "cy"),
        ({"fx": "wide"}, "fx"),
        ({"fx": np.complex64(500)}, "fx"),
        ({"cx": 10**400}, "cx"),
        ({"width": 0}, "width"),
        ({"height": 480.5}, "height"),
        ({"width": True}, "width"),
    ],
)
def test_bad_values_are_named(change: dict, name: str) -> None:
    values = {"fx": 500, "fy": 480, "cx": 310, "cy": 250, "width": 640, "height": 480, **change}
    with pytest.raises(CameraError, match=name):
        Camera(**values)


@pytest.mark.parametrize(
    ("matrix", "word"),
    [
        (np.eye(4), "shape"),
        ([[500, 3, 320], [0, 500, 240], [0, 0, 1]], "skew"),
        ([[500, 0, 320], [0, 500, 240], [0, 0, 2]], "last row"),
        ([[500, 0, np.nan], [0, 500, 240], [0, 0, 1]], "finite"),
        ([["a", 0, 1], [0, 500, 240], [0, 0, 1]], "numbers"),
        (500j * np.eye(3), "numbers"),
    ],
)
def test_bad_matrices(matrix: object, word: str) -> None:
    with pytest.raises(CameraError, match=word):
        Camera.from_matrix(matrix, 640, 480)


@pytest.mark.parametrize("degrees", [0, 180, -10, float("nan")])
def test_bad_field_of_view(degrees: float) -> None:
    with pytest.raises(CameraError, match="field of view"):
        Camera.from_fov(degrees, 640, 480)


@pytest.mark.parametrize("degrees", ["60", None, True, 60j, [60], np.array([60.0])])
def test_a_field_of_view_is_a_number(degrees: object) -> None:
    with pytest.raises(CameraError, match="field of view is") as caught:
        Camera.from_fov(degrees, 640, 480)  # type: ignore[arg-type]
    assert repr(degrees) in str(caught.value)


@pytest.mark.parametrize("degrees", [60, np.float32(60), np.float64(60), np.int64(60)])
def test_a_field_of_view_of_any_number_type(degrees: float) -> None:
    assert Camera.from_fov(degrees, 640, 480) == Camera.from_fov(60.0, 640, 480)


@pytest.mark.parametrize(("width", "height", "word"), [("640", 480, "width is '640'"), (640, None, "height is None")])
def test_a_size_with_a_field_of_view_is_whole_numbers(width: object, height: object, word: str) -> None:
    with pytest.raises(CameraError, match=word):
        Camera.from_fov(60, width, height)  # type: ignore[arg-type]
