# SPDX-License-Identifier: Apache-2.0
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from cmr_runtime import Camera, InputError
from cmr_runtime.calibrate import _images, calibrate, diverse, find_board, main
from cmr_runtime.image_io import write_image
from cmr_runtime.options import CameraOption
from cmr_runtime.sources import Frame

BOARD = (7, 5)
CAMERA = Camera(430.0, 445.0, 250.0, 185.0, 480, 360)
CELL = 40


def _texture() -> np.ndarray:
    """A checkerboard with a white border, `CELL` pixels a square."""
    y, x = np.mgrid[: (BOARD[1] + 3) * CELL, : (BOARD[0] + 3) * CELL] // CELL
    dark = (x + y) % 2 == 0
    dark &= (x > 0) & (y > 0) & (x < BOARD[0] + 2) & (y < BOARD[1] + 2)
    return np.where(dark, 25, 235).astype(np.uint8)


def _views(count: int) -> list[np.ndarray]:
    """Images of the board at random places and slants before `CAMERA`, drawn by its homography, antialiased."""
    rng, texture, large = np.random.default_rng(3), _texture(), 3
    images = []
    while len(images) < count:
        turn, _ = cv2.Rodrigues(rng.uniform(-0.6, 0.6, 3))
        place = np.array([rng.uniform(-2, 2), rng.uniform(-1.5, 1.5), rng.uniform(11, 18)])
        # Board coordinates in squares, its middle at the origin; pixel (i, j) of the texture lies at its centre.
        half = np.array([texture.shape[1], texture.shape[0]]) / CELL / 2
        flat = np.array([[1 / CELL, 0, 0.5 / CELL - half[0]], [0, 1 / CELL, 0.5 / CELL - half[1]], [0, 0, 1]])
        enlarge = np.array([[large, 0, (large - 1) / 2], [0, large, (large - 1) / 2], [0, 0, 1]])
        warp = enlarge @ CAMERA.matrix @ np.column_stack([turn[:, :2], place]) @ flat
        size = (large * CAMERA.width, large * CAMERA.height)
        drawn = cv2.warpPerspective(texture, warp, size, flags=cv2.INTER_LINEAR, borderValue=128)
        small = cv2.resize(drawn, (CAMERA.width, CAMERA.height), interpolation=cv2.INTER_AREA)
        image = np.repeat(small[..., None], 3, axis=2)
        if find_board(image, BOARD) is not None:
            images.append(image)
    return images


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return _views(14)


def _check(about: dict) -> None:
    for name in ("fx", "fy"):
        assert about[name] == pytest.approx(getattr(CAMERA, name), rel=0.01)
    assert about["cx"] == pytest.approx(CAMERA.cx, abs=0.01 * CAMERA.width)
    assert about["cy"] == pytest.approx(CAMERA.cy, abs=0.01 * CAMERA.height)


def test_a_known_camera_is_found_from_images(
    tmp_path: Path, images: list[np.ndarray], capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "in").mkdir()
    for number, image in enumerate(images):
        write_image(tmp_path / "in" / f"{number:02d}.png", image)
    write_image(tmp_path / "in" / "none.png", np.zeros_like(images[0]))
    out = tmp_path / "camera.json"
    assert main([str(tmp_path / "in"), "--board", "7x5", "--out", str(out), "--views", "10"]) == 0
    about = json.loads(out.read_text())
    _check(about)
    assert about["views"] == 10
    assert about["rms_px"] < 0.2
    assert about["displacement_px"] < 2.0
    shown = capsys.readouterr()
    assert "10 views, the most diverse of 14" in shown.out
    assert not shown.err
    assert CameraOption(str(out), None)(480, 360).fx == about["fx"]
    assert CameraOption(str(out), None)(960, 720).fx == 2 * about["fx"]


def test_a_known_camera_is_found_from_a_video(tmp_path: Path, images: list[np.ndarray]) -> None:
    path, out = tmp_path / "board.avi", tmp_path / "camera.json"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (CAMERA.width, CAMERA.height))
    for image in images:
        writer.write(image)
    writer.release()
    assert main([str(path), "--board", "7x5", "--out", str(out)]) == 0
    _check(json.loads(out.read_text()))


@pytest.mark.parametrize("count", [10, 150, 151, 250, 299, 449, 1000])
def test_frames_of_a_video_are_spread_over_all_of_it(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    class Film:
        def __init__(self, source: Path) -> None:
            self.count = count

        def __enter__(self) -> Iterator[Frame]:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def __iter__(self) -> Iterator[Frame]:
            return (Frame(np.full((1, 1, 3), k % 256, np.uint8), k / 25) for k in range(count))

    monkeypatch.setattr("cmr_runtime.calibrate.Video", Film)
    monkeypatch.setattr("cmr_runtime.calibrate.expand", lambda text: [Path(text)])
    seen = [int(name.split()[1]) for name, _ in _images(["film.mp4"])]
    assert len(seen) <= 150
    assert len(set(np.diff(seen))) == 1
    assert count - seen[-1] <= seen[1] - seen[0]


def _corners(distortion: tuple[float, ...], count: int = 12) -> list[np.ndarray]:
    """Exact corners of boards before `CAMERA` with a lens."""
    rng = np.random.default_rng(5)
    grid = np.zeros((BOARD[0] * BOARD[1], 3))
    grid[:, :2] = np.mgrid[: BOARD[0], : BOARD[1]].T.reshape(-1, 2) - [3, 2]
    lens = np.array(distortion)
    return [
        cv2.projectPoints(grid, rng.uniform(-0.6, 0.6, 3), rng.uniform([-3, -2, 10], [3, 2, 16]), CAMERA.matrix, lens)[
            0
        ].reshape(-1, 2)
        for _ in range(count)
    ]


def test_distortion_is_measured() -> None:
    size = (CAMERA.width, CAMERA.height)
    bent = calibrate(_corners((-0.25, 0.08, 0.001, -0.002)), BOARD, size)
    np.testing.assert_allclose(bent.distortion, (-0.25, 0.08, 0.001, -0.002), atol=0.005)
    assert bent.displacement_px > 5.0
    straight = calibrate(_corners((0.0, 0.0, 0.0, 0.0)), BOARD, size)
    assert straight.displacement_px < 0.1
    assert straight.rms_px < 1e-3


def test_distortion_that_matters_is_warned_of(
    tmp_path: Path, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    corners = iter(_corners((-0.25, 0.08, 0.0, 0.0)))
    monkeypatch.setattr("cmr_runtime.calibrate.find_board", lambda image, board: next(corners))
    for number in range(8):
        write_image(tmp_path / f"{number}.png", images[number])
    assert main([str(tmp_path), "--board", "7x5", "--out", str(tmp_path / "camera.json")]) == 0
    assert "cv2.undistort" in capsys.readouterr().err


def test_views_are_taken_for_their_difference() -> None:
    base = np.arange(12.0).reshape(6, 2)
    views = [base, base + 0.1, base + 50, base + 50.1, base + 100]
    taken = diverse(views, 3)
    assert len(taken) == 3
    assert {number // 2 for number in taken} == {0, 1, 2}
    assert diverse(views, 9) == list(range(5))


def test_too_few_views_say_what_to_do() -> None:
    with pytest.raises(InputError, match=r"7×5 .* seen in 2 images; at least 6"):
        calibrate([np.zeros((35, 2))] * 2, BOARD, (480, 360))
    with pytest.raises(InputError, match="tilt"):
        calibrate([np.zeros((35, 2))] * 8, BOARD, (480, 360))


@pytest.mark.parametrize(
    ("options", "word"),
    [(["--board", "7"], "--board"), (["--board", "2x5"], "--board"), (["--board", "7x5", "--views", "2"], "--views")],
)
def test_bad_options_are_one_line(tmp_path: Path, options: list[str], word: str, capsys: pytest.CaptureFixture) -> None:
    write_image(tmp_path / "a.png", np.zeros((40, 40, 3), np.uint8))
    assert main([str(tmp_path / "a.png"), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert word in line


@pytest.mark.parametrize("views", ["0", "1001", "1_0", "many"])
def test_views_that_are_no_number_are_a_wrong_call(views: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as left:
        main(["a.png", "--board", "7x5", "--views", views])
    assert left.value.code == 2
    assert f"--views: '{views}' is no whole number from 1 to 1000" in capsys.readouterr().err


def test_images_of_two_sizes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name, width in (("a.png", 40), ("b.png", 50)):
        write_image(tmp_path / name, np.zeros((40, width, 3), np.uint8))
    assert main([str(tmp_path), "--board", "7x5"]) == 2
    assert "one size" in capsys.readouterr().err
