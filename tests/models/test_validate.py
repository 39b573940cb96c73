# SPDX-License-Identifier: Apache-2.0
"""Validation: its figures for a network that knows the answers, and the command that prints them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_net import CONFIG, SIZE, lively_net

from cmr_models import validate
from cmr_models.batches import Renderings
from cmr_models.hand import ROOT_JOINT, load_hand
from cmr_models.losses import gaussian_maps
from cmr_models.network import save_checkpoint
from cmr_models.validate import Validation

HAND = load_hand()


def test_figures_of_a_network_that_knows_the_answers(data, monkeypatch):
    net = lively_net()
    validation = Validation(Renderings(data[0]), data[1], CONFIG, count=4)
    assert len(validation.rendered) == 4
    assert len(validation.photos) == 2  # held out
    assert sum(s.present for s in validation.others) == 2
    assert not any(s.right for s in validation.others if s.present)

    def oracle(net, samples, last=False):
        seen.append(last)
        cells = torch.from_numpy(np.stack([s.keypoints for s in samples]))
        maps = gaussian_maps(cells, SIZE, SIZE // 4).numpy()
        vertices = np.stack([np.zeros_like(HAND.template) if s.vertices is None else 2 * s.vertices for s in samples])
        joints = [s.world if s.vertices is None else HAND.joint_regressor @ (2 * s.vertices) for s in samples]
        flags = {"present": np.array([s.present for s in samples]), "right": np.array([s.right for s in samples])}
        blocks = [np.zeros((SIZE, SIZE)) if s.silhouette is None else s.silhouette for s in samples]
        cells = np.stack(blocks).reshape(len(samples), SIZE // 2, 2, SIZE // 2, 2).mean((2, 4)) >= 127.5
        cells[: len(cells) // 2] &= np.arange(SIZE // 2) < 0  # the first half shows no hand
        return {"joints": np.stack(joints), "maps": maps, "vertices": vertices, "outlines": cells, **flags}

    seen = []
    monkeypatch.setattr(validation, "_predict", oracle)
    figures = validation.run(net)
    assert seen.count(True) == 2  # as tracked, and the others
    assert figures["recalled_pa_mm"] == figures["tracked_pa_mm"]
    assert (figures["hand_recalled"], figures["empty_recalled"]) == (1, 0)
    assert figures["synth_px256"] < 2
    assert figures["synth_pa_mm"] == pytest.approx(0, abs=1e-2)
    assert figures["synth_iou"] == 0.5
    root = HAND.joint_regressor[ROOT_JOINT]
    lengths = [np.linalg.norm(s.vertices - root @ s.vertices, axis=1).mean() for s in validation.rendered]
    assert figures["synth_vertex_mm"] == pytest.approx(1000 * np.mean(lengths), rel=1e-3)
    assert figures["tracked_vertex_mm"] == pytest.approx(figures["synth_vertex_mm"], rel=1e-3)  # turned, as large
    assert figures["tracked_px256"] < 2
    assert figures["tracked_right"] == 1
    assert figures["synth_root_mm"] > 10  # twice as large: seen without the similarity
    # The renderings' hands are at rest; the photos' labels are random points.
    assert figures["tracked_violations"] == figures["tracked_truth_violations"] == 0
    assert figures["photo_violations"] == figures["photo_truth_violations"] == 1
    assert figures["photo_size_spread"] > 0
    assert figures["photo_pa_mm"] == figures["photo_root_mm"] == pytest.approx(0, abs=1e-3)
    assert [figures[k] for k in ("right_seen_right", "left_seen_left", "hand_found", "empty_found")] == [1, 1, 1, 0]


def test_sizes_spread_by_their_logarithm_whatever_the_fingers_do():
    rest = HAND.joint_regressor @ HAND.template
    bent = rest.copy()
    bent[6:9] = rest[5]
    assert validate.size_spread(np.stack([rest, bent])) == pytest.approx(0, abs=1e-6)
    hands = np.stack([rest * math.exp(0.1), bent * math.exp(-0.1) + 5.0])
    assert validate.size_spread(hands) == pytest.approx(0.1, rel=1e-4)


def test_validation_repeats_itself(data):
    net = lively_net()
    first, second = (Validation(Renderings(data[0]), data[1], CONFIG, count=3).run(net) for _ in range(2))
    assert first == second
    assert all(math.isfinite(v) for v in first.values())


def test_the_command_prints_what_validation_finds(data, tmp_path, capsys):
    net, path = lively_net(), tmp_path / "net.pt"
    save_checkpoint(path, net)
    validate.main([str(path), "--synth", str(data[0]), "--photos", str(data[1]), "--count", "3"])
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == "3 renderings, 2 photos"
    found = {name: float(value) for name, value in map(str.split, lines)}
    assert found == Validation(Renderings(data[0], last=3), data[1], CONFIG, count=3).run(net)
    larger = ["--size", str(CONFIG.size + 32)]
    validate.main([str(path), "--synth", str(data[0]), "--count", "3", *larger])
    found = dict(map(str.split, capsys.readouterr().out.splitlines()[1:]))
    other = replace(CONFIG, size=CONFIG.size + 32)
    wanted = Validation(Renderings(data[0], last=3), None, other, count=3).run(net)
    assert {name: float(value) for name, value in found.items()} == wanted
    for side in ("0", "100"):
        with pytest.raises(SystemExit):
            validate.main([str(path), "--synth", str(data[0]), "--size", side])
        assert f"size is {side}; need a multiple of 32" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        validate.main([str(data[1]), "--synth", str(data[0])])
    assert "real.npz" in capsys.readouterr().err


def test_pictures_without_a_hand_are_asked_with_the_cues_of_one(data, monkeypatch):
    validation = Validation(Renderings(data[0]), data[1], CONFIG, count=4)
    drawn, last = [], validate.last_frames
    monkeypatch.setattr(
        validate, "last_frames", lambda present, *a: drawn.append((present, last(present, *a))) or drawn[-1][1]
    )
    validation._predict(lively_net(), validation.others, True)
    for present, frames in drawn:
        assert frames["recalled"].all()
        assert not all(present)
        assert all(present[k] for k in frames["source"].tolist())
