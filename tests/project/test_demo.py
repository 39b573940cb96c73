# SPDX-License-Identifier: Apache-2.0
"""The shipped checkpoint, bundle and sample belong together, and the demo's steps work on them."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cmr_runtime import Bundle
from cmr_runtime.image_io import read_image

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "models" / "weights" / "hand.pt"


def test_the_default_bundle_was_exported_from_the_shipped_checkpoint() -> None:
    assert Bundle.default().provenance["checkpoint_sha256"] == hashlib.sha256(CHECKPOINT.read_bytes()).hexdigest()


def test_the_default_bundle_holds_the_hand_of_the_package() -> None:
    from cmr_models.hand import load_hand

    topology, hand = Bundle.default().topology, load_hand()
    np.testing.assert_array_equal(topology.faces, hand.faces)
    np.testing.assert_allclose(topology.joint_regressor, hand.joint_regressor, atol=1e-6)


def test_no_module_of_the_runtime_imports_torch_or_an_extra() -> None:
    names = ["cmr_runtime", *(f"cmr_runtime.{m}" for m in ("track", "evaluate", "doctor", "calibrate", "view3d"))]
    heavy = ("torch", "onnx", "cmr_models", "viser", "trimesh")
    program = f"import {', '.join(names)}, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_the_steps_of_the_demo(tmp_path: Path) -> None:
    bundle, out = tmp_path / "hand.cmr", tmp_path / "out"
    tools = Path(sys.executable).parent
    export = [tools / "cmr-export", "--ckpt", CHECKPOINT, "--out", bundle]
    shown = subprocess.run([str(p) for p in export], capture_output=True, text=True, check=True).stdout
    assert "multiply-adds" in shown
    sample = ROOT / "examples" / "data" / "sample.jpg"
    track = [tools / "cmr-track", sample, "--camera", sample.with_suffix(".json"), "--model", bundle, "--out", out]
    shown = subprocess.run([str(p) for p in track], capture_output=True, text=True, check=True).stdout
    assert "registration" in shown
    record = json.loads((out / "hands.jsonl").read_text().splitlines()[0])
    assert record["hands"]
    drawn, image = read_image(out / "sample_overlay.png"), read_image(sample)
    assert drawn.shape == image.shape
    assert (drawn != image).any()
    assert any(path.suffix == ".ply" for path in out.iterdir())


def test_the_example_tracks_the_sample() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "examples" / "track_image.py")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "right hand" in done.stdout
    assert "mm in depth" in done.stdout
