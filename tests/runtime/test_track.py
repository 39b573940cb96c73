# SPDX-License-Identifier: Apache-2.0
import gc
from pathlib import Path
from weakref import WeakSet

import cv2
import numpy as np
import pytest
import trimesh
from disc_bundle import draw_disc, make_content
from track_clip import disc_frame, make_clip, read_lines

from cmr_runtime import write_bundle
from cmr_runtime.image_io import read_image, write_image
from cmr_runtime.search import Search
from cmr_runtime.track import main
from cmr_runtime.tracker import HandMeshTracker


def _count(path: Path) -> int:
    capture, number = cv2.VideoCapture(str(path)), 0
    while capture.read()[0]:
        number += 1
    return number


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip.avi")


def test_images_and_folders(tmp_path: Path, bundle_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "a.png", disc_frame(0))
    write_image(tmp_path / "in" / "b.png", np.zeros((120, 160, 3), np.uint8))
    write_image(tmp_path / "a.png", disc_frame(3))
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
    assert [len(line["hands"]) for line in read_lines(out)] == [1, 0, 1]
    assert read_lines(out)[0]["hands"][0]["camera"]["fx"] == 140
    assert read_lines(out)[0]["hands"][0]["registration"]["metric"] is True
    assert len(trimesh.load(out / "a_hand0.ply").vertices) == 60
    assert read_image(out / "a_overlay.png").shape == (120, 160, 3)
    printed = capsys.readouterr().out
    assert "2 of 3" in printed
    assert "registration" in printed


def test_a_bad_input_among_several_does_not_end_the_run(
    tmp_path: Path, bundle_path: Path, video: Path, capfd: pytest.CaptureFixture
) -> None:
    write_image(tmp_path / "a.png", disc_frame(0))
    for name in ("bad.png", "bad.mp4"):
        (tmp_path / name).write_text("hello")
    names = ["none.png", "bad.png", "bad.mp4", "a.png", video.name]
    out = tmp_path / "out"
    assert main([*(str(tmp_path / n) for n in names), "--out", str(out), "--model", str(bundle_path)]) == 2
    assert [Path(line["source"]).name for line in read_lines(out)] == ["a.png"] + [video.name] * 8
    printed, errors = capfd.readouterr()
    assert "9 of 9" in printed
    errors = [line for line in errors.splitlines() if line.startswith("cmr-track: ")]
    assert len(errors) == 3
    assert all(name in line for name, line in zip(names, errors, strict=False))
    # Where nothing is left, nothing is written.
    assert main(["none.png", "none.jpg", "--out", str(tmp_path / "other")]) == 2
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "option",
    [
        ["--num-hands", "0"],
        ["--num-hands", "65"],
        ["--threads", "0"],
        ["--threads", "257"],
        ["--max-frames", "-3"],
        ["--provider", "NoneExecutionProvider"],
        ["--precision", "int8"],  # of a bundle without plans
        ["--box", "1,2,3"],
        ["--camera", "1,2"],
    ],
)
def test_a_wrong_option_leaves_the_results_of_an_earlier_run(
    tmp_path: Path, bundle_path: Path, option: list[str], capfd: pytest.CaptureFixture
) -> None:
    write_image(tmp_path / "a.png", np.zeros((60, 80, 3), np.uint8))
    out = tmp_path / "out"
    out.mkdir()
    for name in ("hands.jsonl", "hands.npz"):
        (out / name).write_text("of an earlier run")
    arguments = [str(tmp_path / "a.png"), "--out", str(out), "--model", str(bundle_path), "--npz", *option]
    try:
        code = main(arguments)
    except SystemExit as left:  # argparse
        code = left.code
    assert code == 2
    assert option[0].strip("-") in capfd.readouterr().err.splitlines()[-1]
    assert [(out / name).read_text() for name in ("hands.jsonl", "hands.npz")] == ["of an earlier run"] * 2


def test_a_photo_of_a_shape_that_the_camera_does_not_fit_does_not_end_the_run(
    tmp_path: Path, bundle_path: Path, capfd: pytest.CaptureFixture
) -> None:
    for name, shape in (("a.png", (60, 80)), ("b.png", (80, 60)), ("c.png", (120, 160))):
        write_image(tmp_path / name, np.zeros((*shape, 3), np.uint8))
    (tmp_path / "camera.json").write_text('{"fx": 90, "fy": 90, "cx": 40, "cy": 30, "width": 80, "height": 60}')
    out = tmp_path / "out"
    options = ["--out", str(out), "--model", str(bundle_path), "--camera", str(tmp_path / "camera.json")]
    assert main([str(tmp_path), *options]) == 2
    assert [Path(line["source"]).name for line in read_lines(out)] == ["a.png", "c.png"]
    printed, errors = capfd.readouterr()
    assert "0 of 2" in printed
    (line,) = [line for line in errors.splitlines() if line.startswith("cmr-track: ")]
    assert "b.png" in line
    assert "another shape" in line
    assert main([str(tmp_path / "b.png"), *options]) == 2


def test_videos_do_not_pile_up_their_trackers(
    tmp_path: Path, bundle_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[int] = []
    trackers: WeakSet[HandMeshTracker] = WeakSet()
    init = HandMeshTracker.__init__

    def counted(self, *arguments, **options):
        init(self, *arguments, **options)
        alive.append(len(trackers))
        trackers.add(self)

    monkeypatch.setattr(HandMeshTracker, "__init__", counted)
    arguments = ["--out", str(tmp_path / "out"), "--model", str(bundle_path), "--max-frames", "1"]
    gc.disable()
    try:
        assert main([*[str(video)] * 4, *arguments]) == 0
    finally:
        gc.enable()
    assert max(alive) <= 1  # the one of the video before may still be in a variable


def test_images_share_a_tracker_and_first_calls_are_not_timed(
    tmp_path: Path, bundle_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    made, closed, calls = [], [], []
    init, close, track = HandMeshTracker.__init__, HandMeshTracker.close, HandMeshTracker.track
    monkeypatch.setattr(HandMeshTracker, "__init__", lambda self, *a, **k: made.append(a[1]) or init(self, *a, **k))
    monkeypatch.setattr(HandMeshTracker, "close", lambda self: closed.append(self.mode) or close(self))
    monkeypatch.setattr(HandMeshTracker, "track", lambda self, *a: calls.append(self.mode) or track(self, *a))
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name, disc_frame(0))
    inputs = [str(tmp_path / "a.png"), str(video), str(tmp_path / "b.png")]
    out = tmp_path / "out"
    assert main([*inputs, "--out", str(out), "--model", str(bundle_path), "--max-frames", "3"]) == 0
    assert made == ["image", "video"]
    assert sorted(closed) == ["image", "video"]
    assert calls == ["image"] * 2 + ["video"] * 4 + ["image"]
    assert [line["frame"] for line in read_lines(out)] == [None, 0, 1, 2, None]
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("frame, with search")]
    assert row.split()[-1] == "5"


def test_the_first_frame_is_tracked_as_if_it_came_once(tmp_path: Path, bundle_path: Path, video: Path) -> None:
    out = tmp_path / "out"
    assert main([str(video), "--out", str(out), "--model", str(bundle_path), "--max-frames", "4"]) == 0
    capture, rows = cv2.VideoCapture(str(video)), []
    with HandMeshTracker(bundle_path) as tracker:
        for number in range(4):
            rgb = cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB)
            rows += [hand.to_dict()["joints_m"] for hand in tracker.track(rgb, None, number / 25)]
    assert [hand["joints_m"] for line in read_lines(out) for hand in line["hands"]] == rows


@pytest.mark.parametrize(("option", "metric"), [([], False), (["--fov", "60"], True), (["--camera", "9,9,8,6"], True)])
def test_without_a_camera_the_report_says_that_depth_is_not_metric(
    tmp_path: Path, bundle_path: Path, option: list[str], metric: bool, capsys: pytest.CaptureFixture
) -> None:
    write_image(tmp_path / "a.png", np.zeros((60, 80, 3), np.uint8))
    assert main([str(tmp_path / "a.png"), "--out", str(tmp_path), "--model", str(bundle_path), *option]) == 0
    assert ("depth is not metric" in capsys.readouterr().out.splitlines()[-1]) is not metric


def test_help_tells_what_is_assumed(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "known horizontal field of view; without it and --camera, 60 is assumed and depth is not metric" in told


def test_video(tmp_path: Path, bundle_path: Path, video: Path) -> None:
    out = tmp_path / "out"
    arguments = [str(video), "--out", str(out), "--model", str(bundle_path), "--max-frames", "5", "--meshes"]
    assert main(arguments) == 0
    lines = read_lines(out)
    assert [line["frame"] for line in lines] == list(range(5))
    assert [line["timestamp_s"] for line in lines] == pytest.approx([n / 25 for n in range(5)])
    assert all(len(line["hands"]) == 1 for line in lines)
    assert _count(out / "clip_overlay.mp4") == 5
    assert len(list(out.glob("clip_00000?_hand0.ply"))) == 5


def test_a_box_and_a_side_for_images(tmp_path: Path, bundle_path: Path) -> None:
    image = np.maximum(draw_disc(400, 160, 70, 80, 30), draw_disc(400, 160, 330, 80, 25))
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name, image)
    names = [str(tmp_path / name) for name in ("a.png", "b.png")]
    out = tmp_path / "out"
    assert main([*names, "--out", str(out), "--model", str(bundle_path), "--box", "270,20,120,120"]) == 0
    for line in read_lines(out):
        assert abs(line["hands"][0]["keypoints_px"][9][0] - 330) < 4
        assert line["hands"][0]["handedness"] == "right"
    assert main([*names, "--out", str(out), "--model", str(bundle_path), "--box=270,20,120,120", "--side", "left"]) == 0
    assert [line["hands"][0]["handedness"] for line in read_lines(out)] == ["left", "left"]


def test_a_hand_of_twice_the_length_is_twice_as_far_away(tmp_path: Path, bundle_path: Path) -> None:
    write_image(tmp_path / "a.png", draw_disc(400, 160, 200, 80, 30))
    depths = []
    for length in ("0.1", "0.2"):
        arguments = [str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--model", str(bundle_path)]
        assert main([*arguments, "--hand-length", length]) == 0
        depths.append(read_lines(tmp_path / "out")[0]["hands"][0]["translation_m"][2])
    assert depths[1] / depths[0] == pytest.approx(2, rel=0.02)


def test_a_box_for_the_first_frame_of_a_video(
    tmp_path: Path, bundle_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches = []
    search = Search.__call__
    monkeypatch.setattr(Search, "__call__", lambda self, *a: searches.append(a) or search(self, *a))
    out = tmp_path / "out"
    assert main([str(video), "--out", str(out), "--model", str(bundle_path), "--box", "30,20,80,80"]) == 0
    assert not searches
    middles = [line["hands"][0]["keypoints_px"][9][0] for line in read_lines(out)]
    np.testing.assert_allclose(middles, [70 + 2 * number for number in range(8)], atol=2)


def test_a_network_that_finds_no_hands_by_itself(tmp_path: Path, video: Path) -> None:
    maps = make_content(prior=("heatmaps", "silhouette", "features"))
    write_bundle(tmp_path / "maps.cmr", **maps)
    write_image(tmp_path / "a.png", disc_frame(0))
    out = tmp_path / "out"
    assert main([str(tmp_path / "a.png"), str(video), "--out", str(out), "--model", str(tmp_path / "maps.cmr")]) == 0
    assert [len(line["hands"]) for line in read_lines(out)] == [1] * 9
    assert (out / "a_hand0.ply").is_file()


def test_interruption_leaves_whole_files(
    tmp_path: Path, bundle_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    track, calls = HandMeshTracker.track, []

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 5:  # the first is not timed
            raise KeyboardInterrupt
        return track(self, *arguments)

    monkeypatch.setattr(HandMeshTracker, "track", interrupted)
    out = tmp_path / "out"
    assert main([str(video), "--out", str(out), "--model", str(bundle_path), "--npz"]) == 130
    with np.load(out / "hands.npz") as arrays:
        assert arrays["frame"].tolist() == [0, 1, 2]
    assert len(read_lines(out)) == 3
    assert _count(out / "clip_overlay.mp4") == 3


def test_a_video_that_is_cut_short_is_an_error_and_its_results_are_whole(
    tmp_path: Path, bundle_path: Path, capfd: pytest.CaptureFixture
) -> None:
    path, out = make_clip(tmp_path / "clip.avi", 40), tmp_path / "out"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    read = _count(path)
    assert 10 < read < 25
    options = ["--out", str(out), "--model", str(bundle_path)]
    assert main([str(path), *options]) == 2
    printed, errors = capfd.readouterr()
    (line,) = [line for line in errors.splitlines() if not line.startswith("[")]
    assert f"cmr-track: video {path} gave {read} of the 40 frames that it tells of; is it whole" in line
    assert f"{read} of {read} images or frames" in printed
    assert len(read_lines(out)) == _count(out / "clip_overlay.mp4") == read
    # Who asks for no more than there is gets all of it.
    assert main([str(path), *options, "--max-frames", str(read)]) == 0


def test_a_webcam_that_ends_by_itself_is_an_error(
    tmp_path: Path, bundle_path: Path, video: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: capture(str(video) if source == 3 else source))
    monkeypatch.chdir(tmp_path)
    options = ["3", "--out", "out", "--model", str(bundle_path)]
    assert main(options) == 2
    assert "cmr-track: webcam 3 ended by itself after 8 frames; is it plugged in" in capfd.readouterr().err
    assert len(read_lines(tmp_path / "out")) == 8
    assert main([*options, "--max-frames", "5"]) == 0


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
        (["a.png", "--box", "1,2,3"], "--box"),
        (["a.png", "--model", "text.mp4"], "no bundle"),
        (["a.png", "--out", "a.png"], "--out a.png cannot be written: "),
        (["a.png", "--out", "a.png/x"], "; give a folder"),
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
    write_image(tmp_path / "a.png", disc_frame(0))
    model = [] if "--model" in inputs else ["--model", str(bundle_path)]
    assert main(["--out", "out", *inputs, *model]) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("[")]  # FFmpeg's own remarks
    assert len(lines) == 1
    assert word in lines[0]
