# SPDX-License-Identifier: Apache-2.0
"""Every example runs as its first lines say, and does what they say."""

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from cmr_runtime import Bundle
from cmr_runtime.doctor import drawn_hand
from cmr_runtime.image_io import read_image, write_image

EXAMPLES = Path(__file__).parents[2] / "examples"
SAMPLE = EXAMPLES / "data" / "sample.jpg"
#: They need the training's packages or a browser, and write the pictures that are kept.
MAKERS = {"make_picture.py", "make_sample.py", "make_view.py"}
TESTED = {
    *("ar_cube.py", "batch_to_npz.py", "own_detector.py", "own_network.py", "pinch.py", "track_image.py"),
    *("track_video.py", "webcam.py"),
}


def _run(name: str, *arguments: object) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample, moving and coming nearer."""
    path = tmp_path_factory.mktemp("clip") / "clip.avi"
    image = cv2.imread(str(SAMPLE))
    height, width = image.shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (width, height))
    assert writer.isOpened()
    for number in range(12):
        zoom = 0.8 + 0.02 * number
        shift = [width / 2 * (1 - zoom) - 20 + 2 * number, height / 2 * (1 - zoom)]
        move = np.float32([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
        writer.write(cv2.warpAffine(image, move, (width, height), borderMode=cv2.BORDER_REFLECT))
    writer.release()
    return path


def test_every_example_is_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == TESTED | MAKERS


def test_video(clip: Path, tmp_path: Path) -> None:
    lines = _run("track_video.py", clip, tmp_path / "out.mp4").splitlines()
    assert len(lines) >= 11
    depths = [float(line.split()[-3]) for line in lines]
    assert depths[-1] < 0.95 * depths[0]  # it came nearer
    capture = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 12


def test_webcam_loop(clip: Path) -> None:
    lines = _run("webcam.py", clip).splitlines()
    assert len(lines) == 12
    assert sum("right at" in line for line in lines) >= 11


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
