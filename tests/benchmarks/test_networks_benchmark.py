# SPDX-License-Identifier: Apache-2.0
import io
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from disc_bundle import S, make_mesh, make_prior, make_topology
from fake_worker import fake_worker

from benchmarks import networks
from benchmarks.peer_landmarks import serve
from cmr_runtime import write_bundle
from cmr_runtime.bench import peer
from cmr_runtime.bench.machine import describe_machine
from cmr_runtime.bench.worker import PeerError


@pytest.fixture(scope="module")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    topology = make_topology()
    path = tmp_path_factory.mktemp("bundle") / "hand.cmr"
    write_bundle(
        path, prior=make_prior(), mesh=make_mesh(topology), topology=topology, licence_text="For tests only.\n",
        name="disc", licence="Apache-2.0", provenance={}, input_size=S, mean=[0.0] * 3, std=[1.0] * 3,
    )  # fmt: skip
    return path


def test_landmark_worker_serves_json_lines() -> None:
    requests = ['{"run": 2}', '{"run": 0}', '{"run": true}', "[]", "nonsense", '{"run": 1}']
    answers, calls, ticks = io.StringIO(), [], itertools.count(step=0.004)
    serve(lambda: calls.append(1), io.StringIO("\n".join(requests)), answers, lambda: next(ticks))
    said = [json.loads(line) for line in answers.getvalue().splitlines()]
    assert said[0]["ms"] == pytest.approx([4.0, 4.0])
    assert [list(answer) for answer in said[1:5]] == [["error"]] * 4
    assert "nonsense" in said[4]["error"]
    assert said[5]["ms"] == pytest.approx([4.0])
    assert len(calls) == 3


def test_turns_rotate_and_leave_out_what_leads_in() -> None:
    order: list[tuple[str, int]] = []

    def contestant(name: str):
        def run(invocations: int) -> dict[str, list[float]]:
            order.append((name, invocations))
            return {name: [float(i) for i in range(invocations)]}

        return run

    times = networks.measure([contestant(name) for name in "abc"], rounds=4, invocations=5, pause=0.0)
    assert order[:3] == [(name, networks.WARM_UP) for name in "abc"]
    assert "".join(name for name, _ in order[3:]) == "abcbcacababc"
    expected = [[float(networks.LEAD_IN + i) for i in range(5)]] * 4
    assert times == dict.fromkeys("abc", expected)


def test_ratio_is_taken_within_a_round() -> None:
    # The machine slows down threefold after the first round; the ratio must not see it.
    ours = [[1.0, 2.0, 3.0], [3.0, 6.0, 9.0], [9.0, 6.0, 3.0], [6.0, 6.0, 6.0]]
    theirs = [[4.0, 4.0, 4.0], [12.0, 12.0, 12.0], [12.0, 12.0, 12.0], [5.0, 5.0, 5.0]]
    summary = networks.summarise({"ours": ours, "theirs": theirs}, "ours", ["theirs"])
    ratio = summary["ratios"]["theirs"]
    assert ratio["median"] == 0.5
    assert ratio["extremes"] == [0.5, 1.2]
    assert ratio["quartiles"] == pytest.approx([0.5, 0.675])
    assert (ratio["faster_rounds"], ratio["rounds"]) == (3, 4)
    assert summary["stages"]["ours"]["median_ms"] == 6.0
    assert summary["stages"]["theirs"]["p95_ms"] == np.percentile(theirs, 95)


@pytest.fixture
def fake_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "peer_python", lambda named: sys.executable)
    monkeypatch.setattr(networks, "landmark_worker", lambda python, model, threads: fake_worker("good"))
    monkeypatch.setattr(networks, "PAUSE", 0.0)


@pytest.mark.usefixtures("fake_peer")
def test_command_prints_json(bundle_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--model", str(bundle_path), "--threads", "1", "2", "--rounds", "2", "--invocations", "3", "--json"]
    assert networks.main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["model"] == "disc"
    assert {"onnxruntime", "numpy", "fake"} <= set(report["versions"])
    assert [run["threads"] for run in report["runs"]] == [1, 2]
    for run in report["runs"]:
        assert list(run["stages"]) == ["prior", "mesh", "prior + mesh", "MediaPipe full", "MediaPipe lite"]
        assert run["stages"]["MediaPipe full"] == {"median_ms": 2.0, "p95_ms": 2.0}
        assert {ratio["rounds"] for ratio in run["ratios"].values()} == {2}


@pytest.mark.usefixtures("fake_peer")
def test_command_prints_a_table(bundle_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert networks.main(["--model", str(bundle_path), "--rounds", "2", "--invocations", "2"]) == 0
    text = capsys.readouterr().out
    assert str(describe_machine()["processor"]) in text
    assert "MediaPipe full        2.00 ms    2.00 ms" in text
    assert "prior + mesh / MediaPipe lite: " in text
    assert "of 2 rounds" in text


def test_command_names_the_mend_when_the_peer_is_absent(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peer, "own_place", lambda: tmp_path)
    assert networks.main(["--model", str(bundle_path)]) == 2
    assert "python -m cmr_runtime.bench.peer" in capsys.readouterr().err


@pytest.mark.slow
def test_real_peer_runs_both_networks(bundle_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        peer.interpreter()
    except PeerError as error:
        pytest.skip(str(error))
    assert networks.main(["--model", str(bundle_path), "--rounds", "1", "--invocations", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["versions"]["mediapipe"] == "0.10.14"
    assert set(report["runs"][0]["ratios"]) == {"MediaPipe full", "MediaPipe lite"}
