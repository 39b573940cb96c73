# SPDX-License-Identifier: Apache-2.0
"""What `cmr-track` reads and writes besides the usual: lists, arrays, EXIF cameras, full disks, the 3D view."""

import io
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from jpeg_with_exif import with_focal_length
from track_clip import disc_frame, make_clip, read_lines

from cmr_runtime import InputError
from cmr_runtime.image_io import write_image
from cmr_runtime.outputs import OverlayVideo
from cmr_runtime.track import main


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip.avi")


def test_a_list_on_standard_input(
    tmp_path: Path, bundle_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    write_image(tmp_path / "a b.png", disc_frame(0))
    out = tmp_path / "out"
    arguments = ["-", "--out", str(out), "--model", str(bundle_path), "--max-frames", "2"]
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{tmp_path / 'a b.png'}\n\n{tmp_path / 'none.png'}\r\n{video}"))
    assert main(arguments) == 2
    assert [Path(line["source"]).name for line in read_lines(out)] == ["a b.png", "clip.avi", "clip.avi"]
    (line,) = capsys.readouterr().err.splitlines()
    assert "none.png cannot be read" in line
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert main(arguments) == 2
    assert "standard input names no file" in capsys.readouterr().err


def test_arrays_of_the_whole_run(tmp_path: Path, bundle_path: Path, video: Path) -> None:
    out = tmp_path / "out"
    options = ["--model", str(bundle_path), "--npz", "--meshes", "--mesh-format", "obj", "--max-frames", "4"]
    assert main([str(video), "--out", str(out), *options]) == 0
    with np.load(out / "hands.npz") as arrays:
        joints = [line["hands"][0]["joints_m"] for line in read_lines(out)]
        np.testing.assert_allclose(arrays["joints"][:, 0], joints, atol=1e-6)
        assert arrays["found"].all()
        mesh = trimesh.load(out / "clip_000003_hand0.obj", process=False)
        np.testing.assert_array_equal(mesh.vertices.astype(np.float32), arrays["vertices"][3, 0])


def test_the_camera_of_a_photo_that_tells_its_focal_length(
    tmp_path: Path, bundle_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "a.jpg").write_bytes(with_focal_length(disc_frame(0), 28))
    write_image(tmp_path / "b.png", disc_frame(0))
    names = [str(tmp_path / name) for name in ("a.jpg", "b.png")]
    assert main([*names, "--out", str(tmp_path / "1"), "--model", str(bundle_path)]) == 0
    shown = capsys.readouterr().out
    assert "camera of 1 image from the focal length in the EXIF data: depth is metric only approximately" in shown
    assert "depth is not metric" in shown
    photo, other = read_lines(tmp_path / "1")
    assert (photo["camera_from"], other["camera_from"]) == ("exif", "assumed")
    assert photo["hands"][0]["camera"]["fx"] == pytest.approx(28 * 200 / np.hypot(36, 24), rel=1e-6)
    assert photo["hands"][0]["registration"]["metric"] is True
    assert main([names[0], "--out", str(tmp_path / "2"), "--model", str(bundle_path), "--fov", "50"]) == 0
    assert "EXIF" not in capsys.readouterr().out
    assert read_lines(tmp_path / "2")[0]["camera_from"] == "given"


_LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))  # fails as a full disk does
from cmr_runtime.track import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.skipif(os.name != "posix", reason="limits on files")
@pytest.mark.parametrize("room", [0, 300, 6000])
@pytest.mark.parametrize("name", ["clip.avi", "a.png"])
def test_a_full_disk_is_one_line(tmp_path: Path, bundle_path: Path, video: Path, room: int, name: str) -> None:
    write_image(tmp_path / "a.png", np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8))
    out = tmp_path / "out"
    command = [sys.executable, "-c", _LIMITED, str(room), str(tmp_path / name), "--out", str(out)]
    done = subprocess.run([*command, "--model", str(bundle_path), "--meshes", "--npz"], capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("[")]
    assert line.startswith("cmr-track: ")
    assert "written" in line
    assert len(read_lines(out)) <= 8  # whole lines
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]


def test_the_view_shows_every_frame_and_stays(
    tmp_path: Path, bundle_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    class View:
        url = "http://localhost:1"

        def __enter__(self):
            return self

        def __exit__(self, *_):
            calls.append("closed")

        def forget(self):
            calls.append("forgot")

        def show(self, image, hands, camera):
            calls.append((image.shape, len(hands), camera and camera.fx))

        def wait(self):
            calls.append("waited")

    monkeypatch.setattr("cmr_runtime.track.HandView", View)
    arguments = [str(video), "--out", str(tmp_path), "--model", str(bundle_path), "--view", "--max-frames", "3"]
    for option, focal in (([], None), (["--camera", "140,140,80,60"], 140)):
        assert main([*arguments, *option]) == 0
        assert calls == ["forgot", *[((120, 160, 3), 1, focal)] * 3, "waited", "closed"]
        calls.clear()


def test_a_frame_of_another_size_is_refused_and_the_video_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with OverlayVideo(path, 25.0) as overlay:
        for _ in range(2):
            overlay.write(np.zeros((48, 64, 3), np.uint8))
        with pytest.raises(InputError, match=r"out\.mp4 has frames of 64×48 pixels, this one has 48×64; give one size"):
            overlay.write(np.zeros((64, 48, 3), np.uint8))
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) == 2
