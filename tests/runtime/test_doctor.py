# SPDX-License-Identifier: Apache-2.0
import dataclasses
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cmr_runtime import Bundle, Hand, HandMeshTracker, Topology
from cmr_runtime.compiled import core
from cmr_runtime.doctor import drawn_hand, examine, main
from cmr_runtime.errors import CmrError
from cmr_runtime.plan.session import kernels
from cmr_runtime.registration.solvers import OsqpSolver


def test_a_sound_installation(capsys: pytest.CaptureFixture) -> None:
    assert main(["--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    names = [check["name"] for check in report["checks"]]
    assert {"python", "numpy", "onnxruntime", "compiled core", "providers", "solver", "bundle", "self-test"} <= set(
        names
    )
    assert set(report["stages_ms"]) == {"crop", "prior", "mesh", "decode", "registration", "total"}
    assert all(time > 0 for time in report["stages_ms"].values())
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert "WRONG" not in shown
    assert "all is well" in shown


def test_a_damaged_bundle_is_wrong(tmp_path: Path, bundle_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = bytearray(bundle_path.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bad.cmr").write_bytes(data)
    assert main(["--model", str(tmp_path / "bad.cmr")]) == 1
    shown = capsys.readouterr().out
    assert any(line.startswith("WRONG") and "bundle" in line for line in shown.splitlines())
    assert "something is wrong" in shown
    assert main(["--model", str(tmp_path / "none.cmr"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_old_and_absent_packages_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    required = ["numpy>=999.1", "nowhere>=1.0", "scipy>=1.2; python_version > '3'", 'torch>=2; extra == "train"']
    monkeypatch.setattr("importlib.metadata.requires", lambda name: required)
    monkeypatch.setattr("cmr_runtime.doctor._self_test", lambda *_: (None, True, ""))
    found = {check.name: check for check in examine().checks}
    assert [found[name].ok for name in ("numpy", "nowhere", "scipy")] == [False, False, True]
    assert "absent" in found["nowhere"].detail
    assert "torch" not in found


def test_any_package_of_opencv_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name.startswith("opencv-") and name != "opencv-contrib-python":
            raise importlib.metadata.PackageNotFoundError(name)
        return "5.0"

    monkeypatch.setattr("importlib.metadata.requires", lambda name: ["opencv-python-headless>=4.9"])
    monkeypatch.setattr("importlib.metadata.version", version)
    monkeypatch.setattr("cmr_runtime.doctor._self_test", lambda *_: (None, True, ""))
    found = {check.name: check for check in examine().checks}
    assert found["opencv-python-headless"].ok
    assert "5.0" in found["opencv-python-headless"].detail


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("in use", "in use"),
        ("absent (x)", "absent (x); NumPy does the same, in about 1 ms more for each frame: install a C compiler"),
        (
            "switched off by CMR_RUNTIME_COMPILED=0",
            "switched off by CMR_RUNTIME_COMPILED=0; NumPy does the same, in about 1 ms more for each frame",
        ),
    ],
)
def test_a_compiled_core_is_told_and_none_is_not_wrong(monkeypatch: pytest.MonkeyPatch, state: str, told: str) -> None:
    monkeypatch.setattr("cmr_runtime.doctor.state", state)
    monkeypatch.setattr("cmr_runtime.doctor._self_test", lambda *_: (None, True, ""))
    (check,) = [check for check in examine().checks if check.name == "compiled core"]
    assert check.ok
    assert check.detail.startswith(told)


_WITHOUT = """
import importlib.metadata, sys
version = importlib.metadata.version
def absent(name):
    if name.startswith(sys.argv[2]):
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)
importlib.metadata.version = absent
sys.modules[sys.argv[1]] = None
from cmr_runtime.doctor import main
sys.exit(main([]))
"""


@pytest.mark.parametrize(
    ("module", "package", "blind"),
    [
        # where plans run all networks, the self-test does without it
        ("onnxruntime", "onnxruntime", ["providers"] if kernels() else ["providers", "self-test"]),
        ("cv2", "opencv-", ["self-test"]),
        # the drawn hand reaches no bound
        ("osqp", "osqp", ["solver"]),
        ("scipy", "scipy", ["solver"] if core is not None else ["solver", "self-test"]),
    ],
)
def test_a_required_package_that_is_absent_is_wrong(module: str, package: str, blind: list[str]) -> None:
    command = [sys.executable, "-c", _WITHOUT, module, package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    first, *others = [line for line in done.stdout.splitlines() if line.startswith("WRONG")]
    assert first.split()[1].startswith(package)
    assert "absent; at least" in first
    assert [line.split()[1] for line in others] == blind
    assert all(module in line and "install cmr-runtime anew" in line for line in others)


@pytest.mark.parametrize("fault", [ValueError("numpy.dtype size changed"), CmrError("no solution"), 0.5])
def test_a_solver_that_does_not_work_is_wrong(monkeypatch: pytest.MonkeyPatch, fault: Exception | float) -> None:
    def solve(self: OsqpSolver, *program: np.ndarray) -> np.ndarray:
        if isinstance(fault, Exception):
            raise fault
        return np.full(4, fault)

    monkeypatch.setattr(OsqpSolver, "solve", solve)
    monkeypatch.setattr("cmr_runtime.doctor._self_test", lambda *_: (None, True, ""))
    (check,) = [check for check in examine().checks if check.name == "solver"]
    assert not check.ok
    assert str(fault) in check.detail or fault == 0.5


@pytest.mark.parametrize("threads", ["0", "257", "two"])
def test_threads_that_cannot_be_are_a_wrong_call(threads: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--threads", threads])
    assert left.value.code == 2
    assert f"--threads: '{threads}' is no whole number from 1 to 256" in capsys.readouterr().err


def test_a_network_that_misses_the_drawn_hand_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmr_runtime.doctor._SKIN", (110, 110, 110))  # hardly to be seen
    monkeypatch.setattr("cmr_runtime.doctor._DISTANCE", 30.0)
    report = examine()
    assert not report.ok
    assert "not found" in report.checks[-1].detail


def test_a_network_as_wrong_as_it_is_unsure_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    track = HandMeshTracker.track

    def far(self: HandMeshTracker, *arguments: object, **options: object) -> list[Hand]:
        return [
            dataclasses.replace(
                hand,
                translation=hand.translation + np.array([0.0, 0.0, 0.2]),
                registration=dataclasses.replace(hand.registration, sigma=np.full(3, 0.3)),
            )
            for hand in track(self, *arguments, **options)
        ]

    monkeypatch.setattr(HandMeshTracker, "track", far)
    report = examine()
    assert not report.ok
    assert "do the weights, the mesh's unit and the order of the joints fit?" in report.checks[-1].detail


def test_a_hand_that_is_not_seen_in_its_box_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    track = HandMeshTracker.track
    monkeypatch.setattr(
        HandMeshTracker, "track", lambda self, *a, rois=None: [] if rois is not None else track(self, *a)
    )
    report = examine()
    assert not report.ok
    assert "not in its own box" in report.checks[-1].detail


@pytest.mark.parametrize("turn", [np.eye(3), np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]), np.diag([-1.0, -1, 1])])
def test_the_drawn_hand_lies_flat_with_its_fingers_up(turn: np.ndarray) -> None:
    hand = Bundle.default().topology
    turned = (hand.template @ turn.T).astype(np.float32)
    image, camera, joints = drawn_hand(dataclasses.replace(hand, template=turned))
    pixels = camera.project(joints)
    assert pixels[12, 1] < pixels[9, 1] < pixels[0, 1]  # tip, knuckle, wrist of the middle finger
    assert np.ptp(joints[:, 2]) < 0.5 * np.ptp(joints[:, 1])
    # No mirror: distances and the sense of thumb, wrist and little finger are those of the rest shape.
    rest = hand.joint_regressor @ hand.template
    triple = [np.linalg.det(p[[1, 9, 17]] - p[0]) for p in (rest, joints)]
    assert triple[0] == pytest.approx(triple[1], rel=1e-3)
    x, y = np.rint(pixels[9]).astype(int)
    assert np.ptp(image[y, x].astype(int)) > 30  # skin
    assert np.ptp(image[5, 5].astype(int)) == 0  # ground


def test_any_mesh_can_be_drawn(topology: Topology) -> None:
    assert drawn_hand(topology)[0].shape == (480, 640, 3)
