# SPDX-License-Identifier: Apache-2.0
import json
import sys
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import pytest
from disc_bundle import draw_disc
from fake_worker import FRAMES

import cmr_runtime
from cmr_runtime import Bundle, BundleError, InputError
from cmr_runtime.bench import cli, entrants
from cmr_runtime.bench.clip import prepare
from cmr_runtime.bench.entrants import Entrant
from cmr_runtime.bench.peer import interpreter
from cmr_runtime.bench.reading import read_report
from cmr_runtime.bench.report import Plan
from cmr_runtime.bench.turns import requests, run
from cmr_runtime.bench.worker import PeerError
from cmr_runtime.plan.session import kernels

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "examples" / "data" / "sample.jpg"
DEFAULT, INT8 = (ROOT / "cmr_runtime" / "data" / name for name in ("hand.cmr", "hand_int8.cmr"))
QUICK = ["--passes", "2", "--block", "3", "--warm-up", "2", "--cold-starts", "1"]


def _fake(mode: str = "good") -> Entrant:
    return Entrant("fake", "fake", (sys.executable, "-I", "-c", FRAMES, mode), "mend it")


def test_turns_cover_every_pass_and_begin_it_anew() -> None:
    turns = requests(7, Plan(passes=2, block=3, warm_up=1, cold_starts=1, lead_in=2))
    assert [n for turn in turns for n in turn["frames"]] == [*range(7)] * 2
    assert [turn["cut"] for turn in turns] == [True, False, False] * 2
    assert [turn["lead_in"] for turn in turns[:3]] == [[6, 6], [2, 2], [5, 5]]


def test_a_still_is_fitted_and_shown_again(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((100, 400, 3), np.uint8) + np.arange(3, dtype=np.uint8))
    clip = prepare(str(tmp_path / "a.png"), tmp_path, (200, 200), 7)
    assert (clip.width, clip.height, clip.frames, clip.still) == (200, 50, 7, True)
    frame = np.fromfile(clip.path, np.uint8).reshape(50, 200, 3)
    assert (frame == (2, 1, 0)).all()  # RGB


def test_a_video_gives_its_frames_up_to_the_most(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (160, 120))
    for _ in range(6):
        writer.write(draw_disc(160, 120, 80, 60, 25)[..., ::-1])
    writer.release()
    clip = prepare(str(tmp_path / "a.avi"), tmp_path, (640, 360), 4)
    assert (clip.width, clip.height, clip.frames, clip.still, clip.rate) == (480, 360, 4, False, 25.0)
    assert clip.path.stat().st_size == 4 * 480 * 360 * 3
    (tmp_path / "b.jpg").write_bytes(b"none")
    with pytest.raises(InputError, match="no image that OpenCV reads"):
        prepare(str(tmp_path / "b.jpg"), tmp_path, (640, 360), 4)
    (tmp_path / "two").mkdir()
    for name in "ab":
        cv2.imwrite(str(tmp_path / "two" / f"{name}.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InputError, match="names 2 files"):
        prepare(str(tmp_path / "two"), tmp_path, (640, 360), 4)


def test_figures_of_a_contestant_whose_times_are_known(tmp_path: Path) -> None:
    clip = prepare(str(SAMPLE), tmp_path, (64, 36), 5)
    plan = Plan(passes=2, block=2, warm_up=3, cold_starts=2, lead_in=0, pause=0.0)
    steps: list[None] = []
    (entry,) = run([_fake()], clip, plan, lambda: steps.append(None))
    assert len(steps) == 2 + 1 + 6
    assert (entry.frames["all"].n, entry.frames["tracked"].n, entry.frames["detecting"].n) == (10, 8, 2)
    assert {figures.p99_ms for figures in entry.frames.values()} == {4.0}
    assert {stage: figures.mean_ms for stage, figures in entry.stages["tracked"].items()} == {"mesh": 3.0, "rest": 1.0}
    assert list(entry.stages["detecting"]) == ["detect", "rest"]
    assert (entry.without_hand, entry.cpu_share, entry.peak_memory_mb) == (2, 0.5, 12.5)
    assert entry.warm_up.n == 3
    cold = entry.cold_start_ms
    assert cold["total"] == pytest.approx(cold["start"] + 10.0)
    assert entry.versions == {"fake": "1.0"}


@pytest.mark.parametrize(
    ("mode", "words"),
    [("wrong cold", "does not tell its cold start"), ("wrong count", "was shown 3"), ("wrong sample", "was shown 3")],
)
def test_a_contestant_that_answers_wrongly_is_named(tmp_path: Path, mode: str, words: str) -> None:
    clip = prepare(str(SAMPLE), tmp_path, (64, 36), 5)
    with pytest.raises(PeerError, match=rf"peer fake {words}.*mend it"):
        run([_fake(mode)], clip, Plan(1, 2, 3, 1, pause=0.0))


def test_the_command_measures_the_sample_beside_a_peer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(entrants, "mediapipe", lambda python, hands: [_fake()])
    assert cli.main([str(SAMPLE), "--frames", "4", *QUICK, "--peer", "mediapipe", "--json"]) == 0
    (tmp_path / "a.json").write_text(capsys.readouterr().out, "utf-8")
    report = read_report(tmp_path / "a.json")
    ours, peer = report.entries
    assert (ours.system, ours.threads, ours.bundle.sha256) == (
        "cmr_runtime",
        1,
        sha256(DEFAULT.read_bytes()).hexdigest(),
    )
    assert report.settings.still
    assert (report.settings.width, report.settings.height) == (480, 360)
    assert ours.without_hand == 0
    assert ours.samples.detecting[0]
    assert ours.samples.detecting[4]  # a new pass is a new video
    assert not any(ours.samples.detecting[1:4])
    assert {"crop", "prior", "mesh", "decode", "registration", "smooth"} <= set(ours.stages["tracked"])
    assert "detect" not in ours.stages["tracked"]
    assert ours.stages["detecting"]["detect"].n == 2
    assert set(ours.cold_start_ms) == {"start", "import", "load", "first", "total"}
    assert ours.cpu_share > 0
    (pair,) = report.compared
    assert (pair.ours, pair.peer, pair.ratios["all"].n) == (ours.name, peer.name, 8)
    assert pair.ratios["tracked"].n == 6


def test_precisions_of_one_bundle_give_several_rows() -> None:
    found = entrants.ours([str(DEFAULT)], [1], 1, precisions=["fp32", "int8"] if kernels(8) else ["fp32"])
    assert [entrant.name for entrant in found] == [f"hand {each}, 1 thread" for each in ("fp32", "int8")][: len(found)]
    assert len({entrant.bundle.sha256 for entrant in found}) == 1
    (own,) = entrants.ours([None], [1], 1, precisions=["int8"])
    assert own.name == "hand int8, 1 thread"
    assert own.command[-6:-4] == ("--precision", "int8")
    assert "--model" not in own.command


def test_several_models_and_threads_give_several_rows(bundle_path: Path) -> None:
    found = entrants.ours([str(DEFAULT), str(bundle_path)], [1, 2, 1], 1)
    assert [entrant.threads for entrant in found] == [1, 2, 1, 2]
    assert len({entrant.name for entrant in found}) == 4
    assert "disc fp32, 2 threads" in {entrant.name for entrant in found}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give a clip"),
        ([str(SAMPLE), "--read", "a.json"], "give a clip"),
        ([str(SAMPLE), "--provider", "TPUExecutionProvider"], "which this build of ONNX Runtime has"),
        ([str(SAMPLE), "--model", "none.cmr"], "no bundle at none.cmr"),
        ([str(SAMPLE), "--model", str(INT8), "--precision", "fp32"], "was exported in int8"),
        ([str(SAMPLE), "--model", str(DEFAULT), str(DEFAULT)], "the same bundle twice"),
        ([str(SAMPLE), "--peer", "reference"], "--reference CLONE and --assets DIR"),
        (["none.mp4"], "no file or folder none.mp4"),
        ([str(SAMPLE), "--peer", "mediapipe", "--peer-python", "none/python"], "does not start"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*arguments, "--cold-starts", "1"]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_the_bundles_of_the_package_are_those_that_the_tracker_opens(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shipped = Path(entrants.shipped("fp32"))
    assert shipped.parent.parent == Path(cmr_runtime.__file__).parent  # of the package that is imported, not of another
    assert Bundle.open(shipped).prior == Bundle.default("fp32").prior
    monkeypatch.setattr("importlib.resources.files", lambda _: tmp_path)
    with pytest.raises(BundleError, match="holds no default bundle"):
        entrants.shipped("int8")


def test_outside_a_checkout_the_reference_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(entrants, "_REFERENCE", tmp_path / "none.py")
    with pytest.raises(InputError, match="needs a checkout of this project"):
        entrants.reference("clone", "assets", str(DEFAULT), 1, 1)


@pytest.mark.parametrize("option", [["--size", "640"], ["--size", "1x1"], ["--threads", "0"], ["--passes", "-1"]])
def test_odd_options_are_refused(option: list[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([str(SAMPLE), *option])


@pytest.mark.slow
def test_mediapipe_hands_takes_part(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        interpreter()
    except PeerError as error:
        pytest.skip(str(error))
    assert cli.main([str(SAMPLE), "--frames", "4", *QUICK, "--peer", "mediapipe", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [entry["system"] for entry in report["entries"]] == ["cmr_runtime", "MediaPipe Hands", "MediaPipe Hands"]
    assert report["entries"][1]["versions"]["mediapipe"] == "0.10.14"
    assert {pair["ratios"]["all"]["n"] for pair in report["compared"]} == {8}
