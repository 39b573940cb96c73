# SPDX-License-Identifier: Apache-2.0
"""Every example runs as its first lines say, and does what they say."""

import json
import re
import runpy
import shutil
import subprocess
import sys
import time
import types
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest

from cmr_runtime import Bundle
from cmr_runtime.doctor import drawn_hand
from cmr_runtime.image_io import read_image, write_image

EXAMPLES = Path(__file__).parents[2] / "examples"
SAMPLE = EXAMPLES / "data" / "sample.jpg"


def _run(name: str, *arguments: object, folder: Path = EXAMPLES) -> str:
    command = [sys.executable, str(folder / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample, moving and coming nearer."""
    return _film(tmp_path_factory.mktemp("clip") / "clip.avi", 25.0)


def _film(path: Path, rate: float) -> Path:
    image = cv2.imread(str(SAMPLE))
    height, width = image.shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, (width, height))
    assert writer.isOpened()
    for number in range(12):
        zoom = 0.8 + 0.02 * number
        shift = [width / 2 * (1 - zoom) - 20 + 2 * number, height / 2 * (1 - zoom)]
        move = np.float32([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
        writer.write(cv2.warpAffine(image, move, (width, height), borderMode=cv2.BORDER_REFLECT))
    writer.release()
    return path


def test_every_example_is_run_by_a_test() -> None:
    tests = [Path(__file__), Path(__file__).with_name("test_demo.py")]
    named = {name for path in tests for name in re.findall(r'"(\w+\.py)"', path.read_text("utf-8"))}
    assert {path.name for path in EXAMPLES.glob("*.py")} == named - {"test_demo.py"}


def test_video(clip: Path, tmp_path: Path) -> None:
    lines = _run("track_video.py", clip, tmp_path / "out.mp4").splitlines()
    assert len(lines) >= 11
    depths = [float(line.split()[-3]) for line in lines]
    assert depths[-1] < 0.95 * depths[0]  # it came nearer
    capture = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 12


def test_webcam_loop(clip: Path) -> None:
    start = time.monotonic()
    seconds, rates, dropped, where = _webcam(clip)
    assert time.monotonic() - start > 11 / 25  # at the clip's own speed
    assert sorted(set(seconds)) == seconds
    assert all(0 < rate <= 60 for rate in rates[5:])  # 25 come in a second, however fast they are looked at
    # Each of the 12 frames is looked at or dropped; one that waits at the end may be dropped after the last line.
    assert 11 <= len(where) + dropped[-1] <= 12
    assert sum("right at" in words for words in where) >= len(where) - 1


def test_webcam_loop_drops_what_comes_too_fast(tmp_path: Path) -> None:
    _, _, dropped, where = _webcam(_film(tmp_path / "fast.avi", 1000.0))
    assert sorted(dropped) == dropped
    assert dropped[-1] > 0
    assert 11 <= len(where) + dropped[-1] <= 12


def _webcam(path: Path) -> tuple[list[float], list[int], list[int], list[str]]:
    """Columns of what it prints: seconds, frames a second, frames dropped, hands."""
    lines = _run("webcam.py", path).splitlines()
    rows = [re.fullmatch(r" *([\d.]+) s +(\d+) frames/s  (\d+) dropped  (.+)", line).groups() for line in lines]
    seconds, rates, dropped, where = zip(*rows, strict=True)
    return [*map(float, seconds)], [*map(int, rates)], [*map(int, dropped)], list(where)


def test_an_image_with_a_camera_as_it_is_calibrated(tmp_path: Path) -> None:
    camera = json.loads((EXAMPLES / "data" / "sample.json").read_text())["camera"]
    twice = {name: 2 * camera[name] for name in ("fx", "fy", "width", "height")}
    twice |= {name: 2 * camera[name] + 0.5 for name in ("cx", "cy")}  # pixels count from the first one's middle
    found = _run("track_image.py").splitlines()[:2]  # then comes how far the truth is off
    for about in (camera, {**twice, "distortion": [0.1, 0.0, 0.0, 0.0], "views": 20}):
        (tmp_path / "camera.json").write_text(json.dumps(about))
        shown = _run("track_image.py", SAMPLE, tmp_path / "camera.json").splitlines()
        assert shown == found
        assert shown[1].endswith("camera known")


def test_own_network() -> None:
    shown = _run("own_network.py")
    assert float(re.search(r"mean error of the joints ([\d.]+) mm", shown)[1]) < 40
    assert "of 21 joints agree" in shown


def test_own_detector() -> None:
    assert re.match(r"\d+ boxes, 1 with a hand\nright hand", _run("own_detector.py"))


def test_the_cube_is_drawn_on_the_palm(tmp_path: Path) -> None:
    shown = _run("ar_cube.py", tmp_path / "a.png")
    near, far = (float(depth) for depth in re.match(r"cube on the right palm, ([\d.]+) to ([\d.]+) m", shown).groups())
    assert (near + far) / 2 < 0.45  # the palm, at 0.45 m, is turned to the camera, and the cube stands before it
    changed = (read_image(tmp_path / "a.png") != read_image(SAMPLE)).any(axis=2)
    y, x = np.nonzero(changed)
    assert 0.005 < changed.mean() < 0.1
    # About where the palm is seen.
    assert 240 < np.median(x) < 400
    assert 180 < np.median(y) < 350


def test_pinch(tmp_path: Path, clip: Path) -> None:
    assert "pinch" not in _run("pinch.py", clip)  # thumb and index finger are spread


def test_batch_of_files(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "a.png", drawn_hand(Bundle.default().topology)[0])
    write_image(tmp_path / "in" / "b.png", np.full((120, 160, 3), 90, np.uint8))
    (tmp_path / "in" / "c.jpg").write_bytes(SAMPLE.read_bytes())
    shown = _run("batch_to_npz.py", tmp_path / "in", tmp_path / "hands.npz")
    assert "hands found: 2" in shown
    with np.load(tmp_path / "hands.npz") as arrays:
        assert arrays["found"][:, 0].tolist() == [True, False, True]
        assert arrays["vertices"].shape[2:] == Bundle.default().topology.template.shape


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """The examples elsewhere: those that make the pictures which are kept write beside themselves."""
    return Path(shutil.copytree(EXAMPLES, tmp_path / "examples"))


def test_the_picture_of_the_sample_is_drawn(copies: Path) -> None:
    _run("make_picture.py", folder=copies)
    drawn, kept = (read_image(folder.parent / "docs" / "sample.png") for folder in (copies, EXAMPLES))
    assert drawn.shape == kept.shape
    assert drawn.std() > 20  # three panels, not one colour


def test_the_sample_is_rendered(copies: Path) -> None:
    for path in (copies / "data").iterdir():
        path.unlink()
    _run("make_sample.py", folder=copies)
    made, kept = (json.loads((folder / "data" / "sample.json").read_text()) for folder in (copies, EXAMPLES))
    assert made["handedness"] == kept["handedness"]
    assert made["camera"] == pytest.approx(kept["camera"], rel=1e-4)
    np.testing.assert_allclose(made["joints_camera_m"], kept["joints_camera_m"], atol=1e-3)
    difference = read_image(copies / "data" / "sample.jpg").astype(float) - read_image(SAMPLE)
    assert np.abs(difference).mean() < 2


def test_the_view_of_a_waving_hand_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as the browser, which need not be here."""
    pytest.importorskip("viser")
    browser = types.ModuleType("playwright.sync_api")
    browser.sync_playwright = None
    monkeypatch.setitem(sys.modules, "playwright", types.ModuleType("playwright"))
    monkeypatch.setitem(sys.modules, "playwright.sync_api", browser)
    main = runpy.run_path(str(EXAMPLES / "make_view.py"))["main"]
    pages = []

    def screenshot(_: str, url: str) -> None:
        with urllib.request.urlopen(url, timeout=20) as page:
            pages.append(page.status)

    monkeypatch.setitem(main.__globals__, "screenshot", screenshot)
    main("no browser")
    assert pages == [200]
