# SPDX-License-Identifier: Apache-2.0
import json
import re
from pathlib import Path

import numpy as np
import pytest
from disc_bundle import draw_disc

from cmr_runtime import Bundle, Camera, evaluate
from cmr_runtime.accuracy import Seen, measure
from cmr_runtime.accuracy import figures as counted
from cmr_runtime.draw import CELL
from cmr_runtime.evaluate import main
from cmr_runtime.image_io import read_image, write_image
from cmr_runtime.tracker import HandMeshTracker

K = [[200.0, 0, 63.5], [0, 200.0, 63.5], [0, 0, 1]]
KEYS = [
    "images",
    "found",
    "kp2d_px",
    "mpjpe_root_mm",
    "pa_mpjpe_mm",
    "cs_mpjpe_mean_mm",
    "cs_mpjpe_median_mm",
    "handedness_accuracy",
    "impossible_hands",
]


@pytest.fixture
def folder(tmp_path: Path, bundle_path: Path) -> Path:
    """Four photos, the last without a hand; the truth is the prediction moved 10, 20 and 60 mm along z."""
    camera = Camera.from_matrix(K, 128, 128)
    entries = []
    for number, (side, shift) in enumerate([("right", 0.01), ("left", 0.02), ("left", 0.06), ("right", 0.0)]):
        image = draw_disc(128, 128, 60, 66, 30, side) if number < 3 else np.zeros((128, 128, 3), np.uint8)
        name = f"{number}.png"
        write_image(tmp_path / name, image)
        with HandMeshTracker(bundle_path, mode="image") as tracker:
            hands = tracker.track(image, camera, rois=[(0, 0, 128, 128)])
        joints = hands[0].joints.astype(float) + np.array([0, 0, shift]) if hands else np.ones((21, 3))
        # The third photo's label says right: one of three sides is wrong.
        label = "right" if number == 2 else side
        entries.append({"image": name, "handedness": label, "K": K, "joints_camera_m": joints.tolist()})
    (tmp_path / "annotations.json").write_text(json.dumps(entries))
    return tmp_path


def test_figures_with_a_known_answer(folder: Path, bundle_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["joints3d", str(folder), "--model", str(bundle_path), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert list(figures) == KEYS
    assert figures["images"] == 4
    assert figures["found"] == 0.75
    assert figures["mpjpe_root_mm"] == pytest.approx(0, abs=1e-3)
    assert figures["pa_mpjpe_mm"] == pytest.approx(0, abs=1e-3)
    assert figures["cs_mpjpe_mean_mm"] == pytest.approx(30, abs=1e-3)
    assert figures["cs_mpjpe_median_mm"] == pytest.approx(20, abs=1e-3)
    assert figures["handedness_accuracy"] == pytest.approx(2 / 3, abs=1e-3)
    assert 0 < figures["kp2d_px"] < 20


def test_hands_that_violate_anatomy_are_counted() -> None:
    topology = Bundle.default().topology
    rest = topology.joint_regressor.astype(np.float64) @ topology.template + [0, 0, 0.5]
    bent, lost = rest.copy(), rest.copy()
    bent[7:9, 2] = 2 * rest[6, 2] - rest[7:9, 2]  # the index finger, backwards
    lost[7] = lost[6]
    camera = Camera.from_matrix(K, 128, 128)
    rows = [measure(Seen(rest[:, :2], each, each, "right"), rest, "right", camera) for each in (rest, bent, lost, rest)]
    assert [row["impossible"] for row in rows] == [0, 1, 1, 0]
    assert counted(rows)["impossible_hands"] == 0.5


def test_nothing_found_is_null_not_zero(folder: Path, bundle_path: Path, capsys: pytest.CaptureFixture) -> None:
    entries = json.loads((folder / "annotations.json").read_text())
    (folder / "annotations.json").write_text(json.dumps(entries[3:]))
    assert main(["joints3d", str(folder), "--model", str(bundle_path), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["found"] == 0.0
    assert all(figures[key] is None for key in KEYS[2:])


def test_table_and_sheet(folder: Path, bundle_path: Path, capsys: pytest.CaptureFixture) -> None:
    sheet = folder / "sheet.png"
    assert main(["joints3d", str(folder), "--model", str(bundle_path), "--limit", "2", "--sheet", str(sheet)]) == 0
    out = capsys.readouterr().out
    assert "MediaPipe" not in out
    assert read_image(sheet).shape[2] == 3


def test_the_worst_are_drawn_first(folder: Path, bundle_path: Path, capsys: pytest.CaptureFixture) -> None:
    entries = json.loads((folder / "annotations.json").read_text())
    bent = np.array(entries[1]["joints_camera_m"])
    bent[8] += [0.03, 0, 0.02]
    entries[1]["joints_camera_m"] = bent.tolist()
    (folder / "annotations.json").write_text(json.dumps(entries))
    sheets = {}
    for count in (0, 1, 2):
        sheet, worst = folder / f"worst{count}.png", ["--worst", str(count)] if count else []
        call = ["joints3d", str(folder), "--model", str(bundle_path), "--sheet", str(sheet), *worst]
        assert main(call) == 0
        sheets[count] = read_image(sheet)
    for place, photo in enumerate((3, 1)):  # the photo in which nothing is found, then the bent one
        x = CELL * place
        row, column = divmod(photo, sheets[0].shape[1] // CELL)
        cell = sheets[0][CELL * row : CELL * (row + 1), CELL * column : CELL * (column + 1)]
        assert np.array_equal(sheets[2][:CELL, x : x + CELL], cell)
    assert np.array_equal(sheets[1], sheets[2][:CELL, :CELL])


def test_no_pictures_are_drawn_unless_a_sheet_is_wanted(
    folder: Path, bundle_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(evaluate, "draw_hands", None)
    assert main(["joints3d", str(folder), "--model", str(bundle_path)]) == 0
    with pytest.raises(SystemExit):
        main(["joints3d", str(folder), "--worst", "3"])
    assert "--sheet FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"handedness": "Left"}, 'entry 1 of .* has handedness \'Left\'; give "left" or "right"'),
        ({"joints_camera_m": [[float("nan")] * 3] * 21}, "entry 1 of .* has joints that are not finite"),
        ({"joints_camera_m": [[0.0, 0.0, -0.5]] * 21}, "entry 1 of .* has joints that .* not in front of the camera"),
        ({"K": [[0.0, 0, 63.5], [0, 200.0, 63.5], [0, 0, 1]]}, "entry 1 of "),
    ],
)
def test_annotations_that_would_give_wrong_figures_are_refused(
    folder: Path, bundle_path: Path, capsys: pytest.CaptureFixture, change: dict, message: str
) -> None:
    entries = json.loads((folder / "annotations.json").read_text())
    entries[1] |= change
    (folder / "annotations.json").write_text(json.dumps(entries))
    assert main(["joints3d", str(folder), "--model", str(bundle_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)


def test_threads_that_cannot_be_are_a_wrong_call(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as left:
        main(["joints3d", str(tmp_path), "--threads", "0"])
    assert left.value.code == 2
    assert "--threads: '0' is no whole number from 1 to 256" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["joints3d"], ["sheet"]])
def test_help_documents_the_annotations(command: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    lines = capsys.readouterr().out.splitlines()[-2:]
    assert "joints_camera_m" in lines[0]
    assert "metres" in lines[1]


def test_sheet_of_photos_without_joints(folder: Path, bundle_path: Path, capsys: pytest.CaptureFixture) -> None:
    entries = json.loads((folder / "annotations.json").read_text())
    (folder / "annotations.json").unlink()
    for entry in entries:
        del entry["joints_camera_m"]
    (folder / "cameras.json").write_text(json.dumps(entries))
    assert main(["sheet", str(folder), "--model", str(bundle_path), "--out", str(folder / "s.png")]) == 0
    assert "3 of 4" in capsys.readouterr().out
    assert main(["joints3d", str(folder), "--model", str(bundle_path)]) == 2
    assert "no joints" in capsys.readouterr().err


def test_errors_are_one_line(tmp_path: Path, bundle_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["joints3d", str(tmp_path), "--model", str(bundle_path)]) == 2
    (tmp_path / "annotations.json").write_text('[{"image": "a.png"}]')
    assert main(["joints3d", str(tmp_path), "--model", str(bundle_path)]) == 2
    (tmp_path / "annotations.json").write_text("[")
    assert main(["joints3d", str(tmp_path), "--model", str(bundle_path)]) == 2
    (tmp_path / "annotations.json").write_text("[]")
    assert main(["joints3d", str(tmp_path), "--model", str(bundle_path)]) == 2
    assert main(["sheet", str(tmp_path), "--model", str(bundle_path), "--out", str(tmp_path / "s.png")]) == 2
    (tmp_path / "annotations.json").write_text("{}")
    assert main(["joints3d", str(tmp_path), "--model", str(bundle_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6
    path = tmp_path / "annotations.json"
    assert lines[3] == lines[4] == f"cmr-eval: {path} lists no photo; give at least one entry"
    assert lines[5] == f"cmr-eval: {path} is no list of photos"
    assert "entry 0" in lines[1]
