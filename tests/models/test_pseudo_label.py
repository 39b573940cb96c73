# SPDX-License-Identifier: Apache-2.0
"""The command of weak labels."""

import importlib.util
import json
import subprocess
import sys
from multiprocessing.pool import ThreadPool
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from cmr_models import pseudo_label
from cmr_models.pseudo_label import label_folder, main, summary


def test_summary_counts_by_folder():
    result = {
        "labels": [{"image": "a/1.jpg"}, {"image": "a/1.jpg"}],
        "detections": {"a/1.jpg": [], "a/2.jpg": [{"box": [0, 0, 1, 1], "reason": "too small"}]},
    }
    text = summary(result)
    assert text.splitlines()[1].split() == ["a", "2", "1", "2"]
    assert "rejected in a: 1 too small" in text


def test_every_photo_has_its_group(tmp_path, monkeypatch):
    """Also one without a hand, which may become a background."""
    found = {"a.png": [{"box": [0, 0, 9, 9], "reason": ""}], "b.png": []}
    context = SimpleNamespace(Pool=ThreadPool)
    monkeypatch.setattr(pseudo_label, "multiprocessing", SimpleNamespace(get_context=lambda kind: context))
    monkeypatch.setattr(pseudo_label, "label_file", lambda path: (path, 9, 9, found[path.name]))
    (tmp_path / "rooms").mkdir()
    for name in found:
        (tmp_path / "rooms" / name).touch()
    result = label_folder(tmp_path, {"rooms/a.png": "rooms_1", "rooms/b.png": "rooms_55"}, workers=1)
    assert result["groups"] == {"rooms/a.png": "rooms_1", "rooms/b.png": "rooms_55"}
    assert [label["group"] for label in result["labels"]] == ["rooms_1"]
    assert result["detections"]["rooms/b.png"] == []


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
