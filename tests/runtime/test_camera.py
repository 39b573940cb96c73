# SPDX-License-Identifier: Apache-2.0
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cmr_runtime import Camera, CameraError, InputError

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
        ({"fx": 1e-4}, "fx"),
        ({"fy": 1e9}, "fy"),
        ({"cy": -1e9}, "cy"),
        ({"width": 10**400}, "width"),
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
        ([[10**400, 0, 320], [0, 500, 240], [0, 0, 1]], "numbers"),
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


#: What else `cmr-calibrate` writes, and what the sample's file tells.
_MORE = {"distortion": [0.1, 0.0, 0.0, 0.0], "rms_px": 0.3, "focal_sigma": 0.001, "displacement_px": 2.0, "views": 20}
_VALUES = {"fx": 500, "fy": 510.5, "cx": 318.7249411370971, "cy": 240}


def _file(folder: Path, content: object) -> Path:
    path = folder / "camera.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def test_a_distortion_that_matters_and_is_not_applied_is_warned_of(tmp_path: Path) -> None:
    path = _file(tmp_path, {**_VALUES, "width": 640, "height": 480, **_MORE, "displacement_px": 9.0})
    with pytest.warns(UserWarning, match=r"moves points by up to 9\.0 pixels; .*cv2\.undistort"):
        Camera.from_json(path)


@pytest.mark.parametrize("form", [lambda table: {**table, **_MORE}, lambda table: {"camera": table, "side": "right"}])
def test_a_camera_comes_from_a_file(tmp_path: Path, form: object) -> None:
    values, size = _VALUES, {"width": 640, "height": 480}
    camera = Camera(**values, **size)
    path = _file(tmp_path, form({**values, **size}))
    assert Camera.from_json(path) == Camera.from_json(str(path), 640, 480) == camera
    # A point at the left edge of a pixel block stays there: edges of images are half a pixel outside their centres.
    point, large = np.array([0.1, -0.05, 0.7]), Camera.from_json(path, 1280, 960)
    np.testing.assert_allclose((large.project(point) + 0.5) / 2, camera.project(point) + 0.5)
    assert (large.width, large.height) == (1280, 960)
    assert camera.resized(1280, 960) == large
    with pytest.raises(CameraError, match="640×480 pixels; this one has 640×640, which is another shape"):
        Camera.from_json(path, 640, 640)
    path = _file(tmp_path, form(values))
    assert Camera.from_json(path, 640, 480) == camera
    with pytest.raises(InputError, match=r"camera\.json does not tell the size of the images; add width and height"):
        Camera.from_json(path)
    with pytest.raises(CameraError, match="height is None"):
        Camera.from_json(path, 640)


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        ('{"fx": 500}', InputError, "'fy'"),
        ("[1, 2]", InputError, "list"),
        ('{"camera": 5}', InputError, "int"),
        ("nothing", InputError, "JSONDecodeError"),
        (100_000 * "[", InputError, "RecursionError"),
        ({**_VALUES, "fx": "wide"}, CameraError, "fx is 'wide'"),
        ({**_VALUES, "cx": math.nan}, CameraError, "cx is nan"),
        ({**_VALUES, "width": 0, "height": 480}, CameraError, "width is 0"),
    ],
)
def test_a_file_without_a_camera_is_named(tmp_path: Path, content: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=rf"^camera file .*camera\.json.*{words}.*give "):
        Camera.from_json(_file(tmp_path, content))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"camera file .*absent\.json cannot be read: No such file"):
        Camera.from_json(tmp_path / "absent.json")
