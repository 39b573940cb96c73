# SPDX-License-Identifier: Apache-2.0
"""A mesh stage that learns from another one: where it begins, what it is told, and the script around it."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from small_net import CONFIG, SIZE, lively_net, small_net

from cmr_models import train
from cmr_models.batches import Batches, Mix, Renderings
from cmr_models.network import load_checkpoint
from cmr_models.network import objective as default
from cmr_models.network.handnet import save_checkpoint
from cmr_models.network.objective import HandNetRecipe
from cmr_models.network.taught import TaughtObjective, start_from
from cmr_models.validate import Validation

BLOCKS = (4, 5, 7, 10)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "model.pt"
    about = {"step": 7, "licence": "X", "licence_text": "Theirs.", "sources": {"rooms": "theirs", "hand": "anny"}}
    save_checkpoint(path, lively_net(), about=json.dumps(about))
    return path


def first_batch(data):
    mix = Mix(rendered=2, photos=1, empty=1)
    return Batches(Renderings(data[0]), data[1], [SIZE], mix, 0, 1)[0]


def test_with_all_blocks_it_begins_as_its_teacher(teacher, data):
    objective = TaughtObjective(teacher, None, HandNetRecipe())
    terms = objective.losses(objective.net, first_batch(data))
    for name in ("tokens", "taught", "maps"):
        assert float(terms[name].detach()) == pytest.approx(0, abs=1e-6), name
    assert float(terms["mesh"].detach()) > 0


def test_blocks_begin_with_the_weights_of_their_place(teacher):
    net = TaughtObjective(teacher, BLOCKS, HandNetRecipe()).net
    source, _ = load_checkpoint(teacher)
    assert net.config.mesh_blocks == BLOCKS
    assert len(net.mesh.trunk.blocks) == len(BLOCKS)
    for block, place in zip(net.mesh.trunk.blocks, BLOCKS, strict=True):
        for name, value in source.mesh.trunk.blocks[place - 4].state_dict().items():
            assert torch.equal(block.state_dict()[name], value), (place, name)
    shorter = small_net(3, net.config)  # a teacher that itself lacks blocks
    start_from(net, shorter)
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in shorter.state_dict().items())


def test_a_matrix_of_low_rank_comes_from_the_teachers_or_stays_as_it_is(teacher):
    source, _ = load_checkpoint(teacher)
    low = small_net(3, replace(CONFIG, rank=4))
    start_from(source, low)
    lower = small_net(4, replace(CONFIG, rank=3))
    start_from(low, lower)
    first, last = lower.mesh.global_features
    values = torch.linalg.svdvals(source.mesh.global_features.weight)
    off = torch.linalg.matrix_norm(last.weight @ first.weight - source.mesh.global_features.weight)
    torch.testing.assert_close(off, values[3:].square().sum().sqrt())
    assert torch.equal(last.bias, source.mesh.global_features.bias)
    other = small_net(5, replace(CONFIG, rank=4, mesh_blocks=BLOCKS))  # reads features of another kind
    before = {name: value.clone() for name, value in other.mesh.global_features.state_dict().items()}
    start_from(source, other)
    assert all(torch.equal(value, before[name]) for name, value in other.mesh.global_features.state_dict().items())


def test_only_the_mesh_stage_learns(teacher, data):
    objective = TaughtObjective(teacher, BLOCKS, HandNetRecipe())
    trained = {id(p) for group in objective.groups() for p in group["params"]}
    assert trained == {id(p) for p in objective.net.mesh.parameters()}
    terms = objective.losses(objective.net, first_batch(data))
    assert not {"heat1", "sil1", "presence", "hand"} & set(terms)
    assert not objective.net.config.recall  # it never saw the cues of a last frame
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is None for p in objective.net.prior.parameters())
    assert all(p.grad is None for p in objective._teacher.parameters())
    silent = [name for name, p in objective.net.mesh.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


def run(monkeypatch, data, teacher, out, *more):
    monkeypatch.setattr(train, "VALIDATION", 2)
    monkeypatch.setattr(default, "Mix", partial(Mix, rendered=2, photos=1, empty=1))
    monkeypatch.setattr(train, "Validation", partial(Validation, count=2))
    start = [str(out), "--synth", str(data[0]), "--photos", str(data[1]), "--threads", "1", "--device", "cpu"]
    blocks = ["--teacher", str(teacher), "--blocks", *map(str, BLOCKS)]
    monkeypatch.setattr("sys.argv", ["train", *start, "--steps", "3", "--rate", "1e-3", *blocks, *more])
    train.main()


def test_the_script_goes_on_and_its_checkpoint_tells_of_both_runs(data, teacher, tmp_path, monkeypatch, capfd):
    whole, out = tmp_path / "whole", tmp_path / "run"
    run(monkeypatch, data, teacher, whole)
    run(monkeypatch, data, teacher, out, "--minutes", "0")
    run(monkeypatch, data, teacher, out)
    assert "goes on at step 1" in capfd.readouterr().out
    net, content = load_checkpoint(out / "model.pt")
    same, _ = load_checkpoint(whole / "model.pt")
    source, _ = load_checkpoint(teacher)
    for name, value in net.state_dict().items():
        assert torch.equal(value, same.state_dict()[name]), name
        if name.startswith("prior."):
            assert torch.equal(value, source.state_dict()[name]), name
    assert net.config.mesh_blocks == BLOCKS
    assert net.config.size == CONFIG.size
    about = json.loads(content["about"])
    assert (about["step"], about["teacher"]["step"], about["licence"]) == (3, 7, "X")
    assert about["recipe"]["rate"] == 1e-3


def test_terms_stated_for_the_student_go_before_its_teachers(teacher, tmp_path):
    objective = TaughtObjective(teacher, BLOCKS, HandNetRecipe())
    objective.save(tmp_path / "model.pt", objective.net, json.dumps({"licence": "MIT", "sources": {"rooms": "mine"}}))
    about = json.loads(load_checkpoint(tmp_path / "model.pt")[1]["about"])
    assert about["licence"] == "MIT"
    assert "licence_text" not in about, "the teacher's text speaks of another licence"
    assert about["sources"] == {"rooms": "mine", "hand": "anny"}
    assert about["teacher"]["licence_text"] == "Theirs."


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--size", "64"], "states network and size"),
        (["--network", "mobrecon"], "states network and size"),
        (["--blocks", "4", "5"], "in order, and not without"),
        (["--teacher", "none.pt"], "none.pt"),
    ],
)
def test_what_does_not_go_together_is_refused(data, teacher, tmp_path, monkeypatch, capsys, more, message):
    with pytest.raises(SystemExit):
        run(monkeypatch, data, teacher, tmp_path / "run", *more)
    assert message in capsys.readouterr().err


def test_blocks_need_a_teacher(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["train", str(tmp_path), "--synth", str(data[0]), "--blocks", "4"])
    with pytest.raises(SystemExit):
        train.main()
    assert "--blocks are of the mesh stage" in capsys.readouterr().err
