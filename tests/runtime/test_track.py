# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from disc_bundle import draw_disc

from cmr_runtime.image_io import read_image, write_image
from cmr_runtime.track import main
from cmr_runtime.tracker import HandMeshTracker


def _frame(number: int) -> np.ndarray:
    return draw_disc(160, 120, 70 + 2 * number, 60, 24)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (160, 120))
    assert writer.isOpened()
    for number in range(8):
        writer.write(cv2.cvtColor(_frame(number), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def _lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "hands.jsonl").read_text().splitlines()]


def _count(path: Path) -> int:
    capture, number = cv2.VideoCapture(str(path)), 0
    while capture.read()[0]:
        number += 1
    return number


def test_images_and_folders(tmp_path: Path, bundle_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "a.png", _frame(0))
    write_image(tmp_path / "in" / "b.png", np.zeros((120, 160, 3), np.uint8))
    write_image(tmp_path / "a.png", _frame(3))
    out = tmp_path / "out"
    arguments = [str(tmp_path / "in"), str(tmp_path / "a.png"), "--out", str(out), "--model", str(bundle_path)]
    assert main([*arguments, "--camera", "140,140,80,60"]) == 0
    assert sorted(p.name for p in out.iterdir()) == [
        "a_2_hand0.ply",
        "a_2_overlay.png",
        "a_hand0.ply",
        "a_overlay.png",
        "b_overlay.png",
        "hands.jsonl",
    ]
    assert [len(line["hands"]) for line in _lines(out)] == [1, 0, 1]
    assert _lines(out)[0]["hands"][0]["camera"]["fx"] == 140
    assert _lines(out)[0]["hands"][0]["registration"]["metric"] is True
    assert len(trimesh.load(out / "a_hand0.ply").vertices) == 60
    assert read_image(out / "a_overlay.png").shape == (120, 160, 3)
    printed = capsys.readouterr().out
    assert "2 of 3" in printed
    assert "registration" in printed


def test_video(tmp_path: Path, bundle_path: Path, video: Path) -> None:
    out = tmp_path / "out"
    arguments = [str(video), "--out", str(out), "--model", str(bundle_path), "--max-frames", "5", "--meshes"]
    assert main(arguments) == 0
    lines = _lines(out)
    assert [line["frame"] for line in lines] == list(range(5))
    assert [line["timestamp_s"] for line in lines] == pytest.approx([n / 25 for n in range(5)])
    assert all(len(line["hands"]) == 1 for line in lines)
    assert _count(out / "clip_overlay.mp4") == 5
    assert len(list(out.glob("clip_00000?_hand0.ply"))) == 5


def test_interruption_leaves_whole_files(
    tmp_path: Path, bundle_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    track, calls = HandMeshTracker.track, []

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return track(self, *arguments)

    monkeypatch.setattr(HandMeshTracker, "track", interrupted)
    out = tmp_path / "out"
    assert main([str(video), "--out", str(out), "--model", str(bundle_path)]) == 130
    assert len(_lines(out)) == 3
    assert _count(out / "clip_overlay.mp4") == 3


@pytest.mark.parametrize(
    ("inputs", "word"),
    [
        (["none.png"], "no file"),
        (["empty"], "no images"),
        (["text.png"], "no image"),
        (["text.mp4"], "cannot be opened"),
        (["97"], "webcam 97"),
        (["a.png", "--camera", "1,2"], "--camera"),
        (["a.png", "--fov", "200"], "field of view"),
        (["a.png", "--model", "text.mp4"], "no bundle"),
    ],
)
def test_errors_are_one_line(
    tmp_path: Path,
    bundle_path: Path,
    inputs: list[str],
    word: str,
    capfd: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("text.png", "text.mp4"):
        (tmp_path / name).write_text("hello")
    write_image(tmp_path / "a.png", _frame(0))
    model = [] if "--model" in inputs else ["--model", str(bundle_path)]
    assert main([*inputs, "--out", "out", *model]) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("[")]  # FFmpeg's own remarks
    assert len(lines) == 1
    assert word in lines[0]
