# SPDX-License-Identifier: Apache-2.0
"""The built wheel in an empty environment: no torch, the default bundle inside, an image tracked."""

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import importlib.util, json, sys
assert importlib.util.find_spec("torch") is None, "torch is installed"
import cv2
from cmr_runtime import Camera, HandMeshTracker
about = json.load(open(sys.argv[2]))
rgb = cv2.cvtColor(cv2.imread(sys.argv[1]), cv2.COLOR_BGR2RGB)
with HandMeshTracker(mode="image") as tracker:
    hands = tracker.track(rgb, Camera(**about["camera"]))
    faces = tracker.faces
assert "torch" not in sys.modules
hand = hands[0]
print(json.dumps({
    "hands": len(hands), "vertices": list(hand.vertices.shape), "largest": int(faces.max()),
    "root": hand.translation.tolist(), "sigma": hand.registration.sigma.tolist(), "handedness": hand.handedness,
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_what_an_application_needs_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "cmr_runtime/data/hand.cmr" in names
    assert {"cmr_models/hand/assets/hand.npz", "cmr_models/synth/assets/poses.npz"} <= set(names)
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"cmr_runtime", "cmr_models", "cmr_export"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("licenses/NOTICE") for name in names)


@pytest.mark.slow
def test_the_wheel_tracks_an_image_without_torch(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)  # a path to a checkout has pip take the package for installed
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel]
    subprocess.run([str(part) for part in install], check=True, capture_output=True, timeout=900)
    sample = ROOT / "examples" / "data"
    run = [str(python), "-c", PROGRAM, str(sample / "sample.jpg"), str(sample / "sample.json")]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["hands"] == 1
    assert found["vertices"][0] == found["largest"] + 1
    assert found["handedness"] == "right"
    truth = json.loads((sample / "sample.json").read_text())["joints_camera_m"]
    error = np.array(found["root"]) - np.array(truth)[9]
    assert (np.abs(error) < 4 * np.array(found["sigma"]) + 0.02).all()
