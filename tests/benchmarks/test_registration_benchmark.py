# SPDX-License-Identifier: Apache-2.0
import json

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("qpsolvers")

from benchmarks import registration
from benchmarks.registration_baselines import SlsqpBaseline
from benchmarks.registration_scenes import CAMERA, CELLS, NETWORK, SILHOUETTES, Condition, make_frames, make_scenes
from benchmarks.registration_solvers import make_solvers
from benchmarks.registration_trust import size_alone
from cmr_runtime.registration.extents import extents
from cmr_runtime.silhouette import contour


@pytest.fixture(scope="module")
def scenes():
    return make_scenes(6, seed=3)


def test_a_clean_frame_is_the_projected_hand(scenes):
    for frame in make_frames(scenes, Condition()):
        pixels = frame.camera.project(frame.vertices + frame.translation)
        assert np.allclose(frame.keypoints, frame.camera.project(frame.joints + frame.translation))
        seen = frame.roi.to_image(contour(frame.silhouette, NETWORK), NETWORK)
        cell = frame.roi.size / CELLS
        assert np.abs(extents(seen) - extents(pixels)).max() < 0.6 * cell
        assert np.allclose(frame.joints[9], 0)


def test_frames_repeat_and_differ_by_their_condition(scenes):
    once, again = (make_frames(scenes, Condition(2.0, 3)) for _ in range(2))
    clean = make_frames(scenes, Condition(0.0))
    for a, b, c in zip(once, again, clean, strict=True):
        assert np.array_equal(a.keypoints, b.keypoints)
        moved = np.linalg.norm(a.keypoints - c.keypoints, axis=1) * 224 / a.roi.size
        assert (moved > 9).sum() == 3


@pytest.mark.parametrize("silhouette", SILHOUETTES[1:])
def test_silhouettes_are_spoilt_as_they_say(scenes, silhouette):
    clean, spoilt = (make_frames(scenes, Condition(silhouette=name)) for name in ("clean", silhouette))
    for a, b in zip(clean, spoilt, strict=True):
        ratio = b.silhouette.sum() / a.silhouette.sum()
        if silhouette == "third occluded":
            assert ratio == pytest.approx(2 / 3, abs=0.02)
        elif silhouette == "cut by border":
            assert ratio < 0.98
            assert b.camera.width * b.camera.height < CAMERA.width * CAMERA.height
            joints = b.camera.project(b.joints + b.translation)
            assert np.allclose(joints, b.keypoints)
        else:
            assert 0.8 < ratio < 1.2
            assert not np.array_equal(a.silhouette, b.silhouette)


def test_wrong_meshes_are_wrong_by_what_they_say(scenes):
    exact, wrong, larger = (make_frames(scenes, Condition(mesh=name)) for name in ("exact", "5 mm", "5 % size"))
    for a, b, c in zip(exact, wrong, larger, strict=True):
        assert np.linalg.norm(b.vertices - a.vertices, axis=1).mean() == pytest.approx(0.005, rel=1e-6)
        assert np.allclose(b.joints[9], 0)
        factor = np.linalg.norm(c.vertices) / np.linalg.norm(a.vertices)
        assert abs(factor - 1) == pytest.approx(0.05)


def test_the_cost_of_size_alone_is_that_of_the_wrong_size(scenes):
    costs = size_alone(scenes, 0)
    depths = 1e3 * np.mean([np.linalg.norm(scene.translation) for scene in scenes])
    assert 0.047 * depths < costs["5 % size"] < 0.053 * depths
    assert 0 < costs["5 mm"] < costs["5 % size"]


def test_all_solvers_find_a_clean_hand(scenes):
    frames = make_frames(scenes, Condition())
    for name, solver in make_solvers().items():
        _, errors = registration.measure(solver, frames)
        assert np.median(errors) < (5.0 if "1D" in name else 0.1), name


def test_baseline_does_not_depend_on_its_arithmetic(scenes):
    frame = make_frames(scenes, Condition(2.0))[0]
    outline = frame.roi.to_image(contour(frame.silhouette, NETWORK), NETWORK)
    arguments = (frame.vertices, frame.joints, frame.keypoints, outline, frame.camera.matrix, 1280.0)
    assert np.allclose(SlsqpBaseline()(*arguments), SlsqpBaseline(vectorised=True)(*arguments), atol=1e-5)


def test_a_quick_run_prints_draws_and_dumps(tmp_path, capsys):
    picture = tmp_path / "errors.png"
    assert registration.main(["--quick", "--count", "2", "--plot", str(picture)]) == 0
    text = capsys.readouterr().out
    assert "a frame within 0.8 ms" in text
    assert "third occluded" in text
    assert cv2.imread(str(picture)) is not None


def test_json_holds_the_table(monkeypatch, capsys):
    first = list(registration.cells(quick=True))[:4]
    monkeypatch.setattr(registration, "cells", lambda quick: iter(first))
    assert registration.main(["--quick", "--count", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {cell["condition"]["silhouette"] for cell in report["cells"]} == set(SILHOUETTES)
    assert {"median", "p95"} == set(report["times"]["SLSQP"])
    assert len(report["bars"]) == 7


def test_a_wrong_count_is_refused():
    with pytest.raises(SystemExit):
        registration.main(["--count", "0"])
