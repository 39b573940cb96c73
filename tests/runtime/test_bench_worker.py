# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path
from unittest.mock import Mock

import pytest
from fake_worker import fake_worker

from cmr_runtime.bench import peer
from cmr_runtime.bench.machine import describe_machine, describe_versions, governor, processor_name
from cmr_runtime.bench.worker import PeerError, Worker


def test_worker_answers_until_it_is_closed() -> None:
    with fake_worker("good") as worker:
        assert worker.versions == {"fake": "1.0"}
        assert worker.run(3) == [2.0, 2.0, 2.0]
        assert len(worker.run(5)) == 5
    assert worker._process.returncode == 0


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("dies", r"peer fake .*; its last words: .*segmentation of something; mend it"),
        ("short", r"asked for 4 times in ms and answered \[1\.0\]"),
        ("nan", "asked for 4 times"),
        ("negative", "asked for 4 times"),
        ("text", "answered soon"),
    ],
)
def test_worker_that_fails_is_named_with_its_mend(mode: str, words: str) -> None:
    with fake_worker(mode) as worker, pytest.raises(PeerError, match=words):
        worker.run(4)


def test_worker_that_is_silent_is_given_up() -> None:
    with fake_worker("silent") as worker:
        worker._timeout = 0.2
        with pytest.raises(PeerError, match=r"gave no answer in 0\.2 s"):
            worker.run(4)
        with pytest.raises(PeerError):
            worker.run(4)


@pytest.mark.parametrize(
    ("mode", "words"),
    [("no import", "says: ModuleNotFoundError.*mend it"), ("garbage", "answered 'INFO: hello', without 'ready'")],
)
def test_worker_that_does_not_greet(mode: str, words: str) -> None:
    with pytest.raises(PeerError, match=words):
        fake_worker(mode)


def test_worker_whose_program_is_missing(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match=r"does not start.*mend it"):
        Worker([str(tmp_path / "python")], "fake", mend="mend it")


def test_stale_or_damaged_environment_is_refused(tmp_path: Path) -> None:
    (tmp_path / "peer.json").write_text('["mediapipe==0.9.0"]')
    with pytest.raises(PeerError, match=r"mediapipe==0\.9\.0.*--again"):
        peer.interpreter(tmp_path)
    (tmp_path / "peer.json").write_text(json.dumps([*peer.REQUIREMENTS, *peer.FILES_ONLY]))
    with pytest.raises(PeerError, match="lost its Python"):
        peer.interpreter(tmp_path)


def test_environment_replaces_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("the only copy")
    with pytest.raises(PeerError, match="move it away"):
        peer.create(location=tmp_path)
    with pytest.raises(PeerError, match="--python"):
        peer.create(str(tmp_path / "nothing"), tmp_path / "new")


def test_processor_name_on_x86_and_arm() -> None:
    assert processor_name("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n") == "Some CPU @ 2 GHz"
    assert processor_name("processor\t: 0\nFeatures\t: fp\n\nModel\t\t: A board Rev 1\n") == "A board Rev 1"
    assert processor_name("")


def test_governors_are_read_from_the_system(tmp_path: Path) -> None:
    assert governor(tmp_path) is None
    for core, name in enumerate(["performance", "performance", "powersave"]):
        folder = tmp_path / f"cpu{core}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(f"{name}\n")
    assert governor(tmp_path) == "performance, powersave"


def test_machine_and_versions_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = describe_machine()
    assert set(machine) == {"processor", "cores", "governor", "system", "load"}
    assert machine["cores"] >= 1
    monkeypatch.setattr("cmr_runtime.bench.machine._PACKAGES", ("numpy", "no-such-package"))
    versions = describe_versions()
    assert versions["numpy"][0].isdecimal()
    assert versions["no-such-package"] == "not installed as a package"


def test_the_named_interpreter_goes_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "own_place", lambda: tmp_path / "none")
    assert peer.peer_python("/some/python") == "/some/python"
    with pytest.raises(PeerError, match="--peer-python"):
        peer.peer_python(None)


def test_a_user_without_a_home_needs_none_but_for_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "cache_folder", Mock(side_effect=RuntimeError("Could not determine home directory.")))
    assert peer.peer_python("/some/python") == "/some/python"
    with pytest.raises(PeerError, match=r"home directory.*set CMR_CACHE to a folder"):
        peer.peer_python(None)
    assert peer.main([]) == 2
