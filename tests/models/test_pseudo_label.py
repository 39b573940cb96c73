# SPDX-License-Identifier: Apache-2.0
"""The command of weak labels."""

import importlib.util
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from cmr_models.pseudo_label import main, summary


def test_summary_counts_by_folder():
    result = {
        "labels": [{"image": "a/1.jpg"}, {"image": "a/1.jpg"}],
        "detections": {"a/1.jpg": [], "a/2.jpg": [{"box": [0, 0, 1, 1], "reason": "too small"}]},
    }
    text = summary(result)
    assert text.splitlines()[1].split() == ["a", "2", "1", "2"]
    assert "rejected in a: 1 too small" in text


def test_the_commands_do_without_torch():
    code = "import sys, cmr_models.pseudo_label, cmr_models.real_crops; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_command_on_a_photo_without_hands(tmp_path):
    if importlib.util.find_spec("mediapipe") is None:
        pytest.skip("mediapipe==0.10.14 is not installed here")
    (tmp_path / "photos").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (240, 240, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "photos" / "noise.png"), noise)
    out = tmp_path / "labels.json"
    main([str(tmp_path / "photos"), str(out), "--workers", "1"])
    result = json.loads(out.read_text())
    assert result["labels"] == []
    assert list(result["detections"]) == ["noise.png"]
