# SPDX-License-Identifier: Apache-2.0
"""MediaPipe's columns of `cmr-eval`, with a stand-in that says what lies beside each photo."""

import io
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from cmr_runtime import Camera, peer_eval
from cmr_runtime.bench import peer, peer_photos
from cmr_runtime.bench.peer import interpreter
from cmr_runtime.bench.worker import PeerError
from cmr_runtime.evaluate import main
from cmr_runtime.image_io import write_image
from cmr_runtime.peer_eval import place

CAMERA = Camera(210.0, 202.0, 70.0, 64.0, 160, 120)
#: They lie beside the repository where they are at hand.
PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "eval_only" / "joints3d"

STAND_IN = """
import json, os, sys
model = sys.argv[sys.argv.index("--model") + 1]
print(json.dumps({"ready": True, "versions": {"mediapipe": "7.7"}}), flush=True)
for line in sys.stdin:
    with open(json.loads(line)["photo"] + "." + model) as file:
        said = file.read()
    if said == "dies":
        print("segmentation of something", file=sys.stderr, flush=True)
        os._exit(3)
    print(said, flush=True)
"""


def _joints(seed: int) -> np.ndarray:
    """Joints of no hand, 0.5 m away."""
    return np.random.default_rng(seed).uniform([-0.06, -0.08, 0.44], [0.06, 0.08, 0.56], (21, 3))


def _says(joints: np.ndarray, world: np.ndarray, name: str = "Right", pixels: float = 0.0) -> str:
    """Answer with joints as they are seen, or so many pixels to the right, and world landmarks."""
    landmarks = (CAMERA.project(joints) + np.array([0.5 + pixels, 0.5])) / (CAMERA.width, CAMERA.height)
    return json.dumps({"hand": {"landmarks": landmarks.tolist(), "world": world.tolist(), "handedness": name}})


def _write(folder: Path, number: int, **said: str) -> None:
    """Add a photo of a left hand in which our tracker finds none, and what each model says of it."""
    path = folder / "annotations.json"
    entries = json.loads(path.read_text()) if path.exists() else []
    name = f"{number}.png"
    write_image(folder / name, np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8))
    for model, text in said.items():
        (folder / f"{name}.{model}").write_text(text)
    joints = _joints(number).tolist()
    entries.append({"image": name, "handedness": "left", "K": CAMERA.matrix.tolist(), "joints_camera_m": joints})
    path.write_text(json.dumps(entries))


@pytest.fixture
def command(tmp_path: Path, bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Command that measures the photos in `tmp_path` beside the stand-in."""
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr(peer_eval, "_SCRIPT", script)
    named = ["--peer", "mediapipe", "--peer-python", sys.executable]
    return ["joints3d", str(tmp_path), "--model", str(bundle_path), *named]


NOTHING = '{"hand": null}'


def test_figures_of_a_peer_whose_errors_are_known(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    turn = cv2.Rodrigues(np.array([0.2, -0.1, 0.3]))[0]
    # Larger by a tenth, it can only lie farther by a tenth; turned about itself, it is turned back by its place.
    larger = [1.1 * (_joints(n) - 0.3) for n in range(3)]
    turned = [(_joints(n) - _joints(n)[0]) @ turn.T for n in range(3)]
    for n in range(3):
        lite = _says(_joints(n), larger[n], "Left" if n == 1 else "Right")
        _write(tmp_path, n, lite=lite, full=_says(_joints(n), turned[n]) if n < 2 else NOTHING)
    assert main([*command, "--json"]) == 0
    ours = json.loads(capsys.readouterr().out)
    lite, full = ours.pop("peers").values()
    assert ours["found"] == 0.0
    assert ours["kp2d_px"] is None
    truth = [_joints(n) for n in range(3)]
    away = [100 * np.linalg.norm(joints, axis=1).mean() for joints in truth]
    around = [100 * np.linalg.norm(joints - joints[9], axis=1).mean() for joints in truth]
    assert lite == {
        "images": 3,
        "found": 1.0,
        "kp2d_px": pytest.approx(0, abs=1e-3),
        "mpjpe_root_mm": pytest.approx(np.mean(around), abs=1e-3),
        "pa_mpjpe_mm": pytest.approx(0, abs=1e-3),
        "cs_mpjpe_mean_mm": pytest.approx(np.mean(away), abs=1e-2),
        "cs_mpjpe_median_mm": pytest.approx(np.median(away), abs=1e-2),
        "handedness_accuracy": pytest.approx(2 / 3, abs=1e-3),
        "impossible_hands": 1.0,
        "versions": {"mediapipe": "7.7"},
    }
    off = [np.linalg.norm((joints - joints[9]) @ (turn.T - np.eye(3)), axis=1).mean() for joints in truth[:2]]
    assert full["found"] == pytest.approx(2 / 3, abs=1e-3)
    assert full["mpjpe_root_mm"] == pytest.approx(1e3 * np.mean(off), abs=1e-3)
    assert full["pa_mpjpe_mm"] == pytest.approx(0, abs=1e-3)
    assert full["cs_mpjpe_mean_mm"] == pytest.approx(0, abs=1e-2)
    assert full["handedness_accuracy"] == 1.0


def test_the_table_has_a_column_for_each(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    joints = _joints(0)
    _write(tmp_path, 0, lite=_says(joints, joints, pixels=2.5), full=_says(joints, joints))
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[-3:] == ["this model", "MediaPipe lite", "MediaPipe full"]
    (pixels,) = (line for line in lines if line.startswith("2D"))
    assert pixels.split()[-3:] == ["–", "2.50", "0.00"]
    assert lines[-1].startswith("MediaPipe Hands 7.7: ")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("dies", r"ended without an answer; its last words: .*segmentation of something"),
        (_says(_joints(0), _joints(0))[:200], "answered '{\"hand\": .*, without 'hand'"),
        (_says(_joints(0), _joints(0)[:20]), r"answers to 0\.png with what is no hand .*20, 3"),
        (_says(_joints(0), np.full((21, 3), np.nan)), "what is no hand"),
        (_says(_joints(0), _joints(0), "Both"), "what is no hand .*Both"),
        ('{"hand": [1, 2]}', "what is no hand"),
        ('{"error": "no such file"}', "says: no such file"),
    ],
)
def test_a_peer_that_fails_is_said_in_a_line(
    tmp_path: Path, command: list[str], said: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(tmp_path, 0, lite=NOTHING, full=said)
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cmr-eval: peer MediaPipe full ")
    assert line.endswith(f"; --peer-python is {sys.executable}; it must be a Python with mediapipe")
    assert re.search(words, line), line


def test_a_peer_that_is_not_there_is_said_with_what_makes_it(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(tmp_path, 0, lite=NOTHING, full=NOTHING)
    monkeypatch.setattr(peer, "own_place", lambda: tmp_path / "none")
    assert main(command[:-2]) == 2
    assert main([*command[:-1], str(tmp_path / "none" / "python")]) == 2
    absent, wrong = capsys.readouterr().err.splitlines()
    assert "`python -m cmr_runtime.bench.peer`" in absent
    assert "does not start" in wrong


def test_points_that_lie_in_one_have_no_place() -> None:
    assert place(_joints(0), np.full((21, 2), 9.0), CAMERA) is None
    assert place(np.zeros((21, 3)), CAMERA.project(_joints(0)), CAMERA) is None


class FakeHands:
    """Finds in a picture 21 times the middle of what is red, and no hand where nothing is."""

    settings: dict[str, Any]

    def __init__(self, **settings: Any) -> None:
        type(self).settings = settings

    def process(self, image: np.ndarray) -> SimpleNamespace:
        rows, columns = np.nonzero(image[..., 0] > image[..., 2])
        if not len(rows):
            return SimpleNamespace(multi_hand_landmarks=None)
        x, y = (columns.mean() + 0.5) / image.shape[1], (rows.mean() + 0.5) / image.shape[0]
        points = SimpleNamespace(landmark=[SimpleNamespace(x=x, y=y, z=0.25)] * 21)
        named = SimpleNamespace(classification=[SimpleNamespace(label="Left", score=0.9)])
        return SimpleNamespace(
            multi_hand_landmarks=[points], multi_hand_world_landmarks=[points], multi_handedness=[named]
        )


def test_landmarks_count_in_parts_of_the_photo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hands = SimpleNamespace(solutions=SimpleNamespace(hands=SimpleNamespace(Hands=FakeHands)))
    monkeypatch.setitem(sys.modules, "mediapipe", hands)
    image = np.zeros((67, 101, 3), np.uint8)  # odd: half of it is no number of pixels
    write_image(tmp_path / "none.png", image)
    image[10:13, 80:85] = (255, 0, 0)
    write_image(tmp_path / "réd.png", image)
    (tmp_path / "text.png").write_text("text")
    look = peer_photos.network("lite")
    assert FakeHands.settings["model_complexity"] == 0
    assert FakeHands.settings["static_image_mode"]
    assert FakeHands.settings["max_num_hands"] == 1
    names = ["none.png", "réd.png", "text.png", "absent.png"]
    requests, answers = [json.dumps({"photo": str(tmp_path / name)}) for name in names], io.StringIO()
    peer_photos.serve(look, [*requests, "nonsense"], answers)
    none, red, *errors = (json.loads(line) for line in answers.getvalue().splitlines())
    assert none == {"hand": None}
    assert np.array(red["hand"]["landmarks"]) * (101, 67) - 0.5 == pytest.approx(np.tile([82.0, 11.0], (21, 1)))
    assert red["hand"]["handedness"] == "Left"
    assert np.shape(red["hand"]["world"]) == (21, 3)
    assert [list(answer) for answer in errors] == [["error"]] * 3


@pytest.mark.slow
def test_mediapipes_figures_are_those_of_another_measurement(capsys: pytest.CaptureFixture[str]) -> None:
    """By other code, of the same photos with the same margin and threshold."""
    try:
        interpreter()
    except PeerError as error:
        pytest.skip(str(error))
    if not PHOTOS.is_dir():
        pytest.skip("the photos of joints3d are not at hand")
    assert main(["joints3d", str(PHOTOS), "--peer", "mediapipe", "--json"]) == 0
    peers = json.loads(capsys.readouterr().out)["peers"]
    keys = ("kp2d_px", "mpjpe_root_mm", "pa_mpjpe_mm", "cs_mpjpe_mean_mm", "cs_mpjpe_median_mm")
    known = {"MediaPipe lite": (6.6, 19.8, 10.6, 29.1, 24.6), "MediaPipe full": (6.4, 16.2, 9.9, 24.9, 17.2)}
    for name, column in peers.items():
        assert [column[key] for key in keys] == pytest.approx(known[name], rel=0.03)
        assert column["found"] == pytest.approx({"MediaPipe lite": 289, "MediaPipe full": 291}[name] / 292, abs=0.01)
        assert column["handedness_accuracy"] > 0.99
