# SPDX-License-Identifier: Apache-2.0
"""The built wheel in an empty environment: no torch, the default bundle inside, an image tracked.

And its compiled core: from a source distribution, and left out where there is no compiler.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]

NO_TORCH = """
import importlib.util
assert importlib.util.find_spec("torch") is None, "torch is installed"
"""
PROGRAM = """
import json, sys
import cv2
from cmr_runtime import Camera, HandMeshTracker
about = json.load(open(sys.argv[2]))
rgb = cv2.cvtColor(cv2.imread(sys.argv[1]), cv2.COLOR_BGR2RGB)
with HandMeshTracker(mode="image") as tracker:
    hands = tracker.track(rgb, Camera(**about["camera"]))
    faces = tracker.faces
assert "torch" not in sys.modules
hand = hands[0]
import cmr_runtime.compiled
print(json.dumps({
    "where": cmr_runtime.__file__, "compiled": cmr_runtime.compiled.core is not None,
    "hands": len(hands), "vertices": list(hand.vertices.shape), "largest": int(faces.max()),
    "root": hand.translation.tolist(), "sigma": hand.registration.sigma.tolist(), "handedness": hand.handedness,
}))
"""


#: All that a source distribution is made of.
SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "NOTICE")
PACKAGES = ("cmr_runtime", "models/cmr_models", "export/cmr_export")


def compiler() -> bool:
    """Whether this Python finds what compiles for it: without, the package goes without its core, as it should."""
    if sys.platform == "win32":
        return False  # nothing tells where Visual Studio is
    words = shlex.split(os.environ.get("CC", sysconfig.get_config_var("CC") or ""))
    return bool(words and shutil.which(words[0])) and Path(sysconfig.get_path("include"), "Python.h").is_file()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of them without what was compiled: several workers that build in the checkout would mix their files."""
    folder = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        shutil.copy(ROOT / name, folder)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.pyd"))
    return folder


@pytest.fixture(scope="module")
def built(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a source distribution, and a wheel built from that."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(sources)]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


def tracks(python: list[str], program: str, where: Path, path: str = "") -> dict:
    """What `PROGRAM` finds in the sample with the package that lies in a folder; `path` is PYTHONPATH."""
    sample = ROOT / "examples" / "data"
    run = [*python, "-c", program, str(sample / "sample.jpg"), str(sample / "sample.json")]
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, cwd=where, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert Path(found["where"]).is_relative_to(where)
    assert found["hands"] == 1
    assert found["vertices"][0] == found["largest"] + 1
    assert found["handedness"] == "right"
    truth = json.loads((sample / "sample.json").read_text())["joints_camera_m"]
    error = np.array(found["root"]) - np.array(truth)[9]
    assert (np.abs(error) < 4 * np.array(found["sigma"]) + 0.02).all()
    return found


@pytest.mark.slow
def test_the_wheel_holds_what_an_application_needs_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "cmr_runtime/data/hand.cmr" in names
    assert {"cmr_models/hand/assets/hand.npz", "cmr_models/synth/assets/poses.npz"} <= set(names)
    assert not any(name.startswith("cmr_runtime/core/") for name in names)  # its sources
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
    found = tracks([str(python)], NO_TORCH + PROGRAM, tmp_path / "env")
    assert found["compiled"] is ("cmr_runtime/_core.abi3.so" in zipfile.ZipFile(wheel).namelist())


@pytest.mark.slow
def test_a_source_distribution_compiles(built: Path, wheel: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    files = {f"cmr_runtime/core/{path.name}" for path in (ROOT / "cmr_runtime" / "core").glob("*.[ch]")}
    assert files <= names
    assert any(name.endswith(".h") for name in files)
    if not compiler():
        pytest.skip("there is no C compiler with Python's headers")
    assert "cmr_runtime/_core.abi3.so" in zipfile.ZipFile(wheel).namelist()
    assert "-cp311-abi3-" in wheel.name


@pytest.mark.slow
def test_without_a_compiler_it_installs_and_tracks_with_numpy(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CC", "LDSHARED"):
        monkeypatch.setenv(name, "false")  # the program that always fails
    monkeypatch.delenv("PYTHONPATH", raising=False)
    shutil.copytree(sources, tmp_path / "sources")  # pip builds in place
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path / "site"]
    subprocess.run([*map(str, install), str(tmp_path / "sources")], check=True, capture_output=True, timeout=600)
    assert not list((tmp_path / "site" / "cmr_runtime").glob("_core.*"))
    # -S: an editable install of the checkout would lend the core that is missing here.
    path = os.pathsep.join([str(tmp_path / "site"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    found = tracks([sys.executable, "-S"], PROGRAM, tmp_path / "site", path)
    assert not found["compiled"]
