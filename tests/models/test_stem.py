# SPDX-License-Identifier: Apache-2.0
"""First layers that learn from a teacher's: where they begin, what they are told, and the script around them."""

import json
from functools import partial

import pytest
import torch
from small_net import CONFIG, SIZE, lively_net

from cmr_models import train
from cmr_models.batches import Batches, Mix, Renderings
from cmr_models.network import HandNetConfig, load_checkpoint
from cmr_models.network import objective as default
from cmr_models.network.handnet import save_checkpoint
from cmr_models.network.objective import HandNetRecipe
from cmr_models.network.stem import StemObjective
from cmr_models.validate import Validation


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "model.pt"
    about = {"step": 7, "licence": "X", "licence_text": "Theirs.", "sources": {"rooms": "theirs"}}
    save_checkpoint(path, lively_net(), about=json.dumps(about))
    return path


def batch_of(data, number=0):
    return Batches(Renderings(data[0]), data[1], [SIZE], Mix(rendered=2, photos=1, empty=1), 0, number + 1)[number]


def test_all_but_the_first_layers_is_the_teachers_and_stays(teacher, data):
    objective = StemObjective(teacher, HandNetRecipe())
    source, _ = load_checkpoint(teacher)
    assert objective.net.config.stem == HandNetConfig().lite().stem
    mesh = source.mesh.state_dict()
    assert all(torch.equal(value, mesh[name]) for name, value in objective.net.mesh.state_dict().items())
    for place, block in zip(objective.net.prior.trunk.places, objective.net.prior.trunk.blocks, strict=True):
        same = source.prior.trunk.blocks[place].state_dict()
        assert all(torch.equal(value, same[name]) for name, value in block.state_dict().items()), place
    terms = objective.losses(objective.net, batch_of(data))
    torch.stack(list(terms.values())).sum().backward()
    learning = {name for name, p in objective.net.named_parameters() if p.grad is not None and p.grad.any()}
    wanted = {"prior.trunk.stem", "prior.trunk.blocks.0", "prior.trunk.blocks.1"}
    assert {".".join(name.split(".")[: 3 if "stem" in name else 4]) for name in learning} == wanted
    ours = {id(p) for group in objective.groups() for p in group["params"]}
    assert ours == {id(p) for p in objective.net.parameters() if p.requires_grad}


def test_the_loss_is_none_where_the_maps_are_the_teachers(teacher, data):
    objective = StemObjective(teacher, HandNetRecipe())
    twin = load_checkpoint(teacher)[0]
    assert all(float(term.detach()) == 0 for term in objective.losses(twin, batch_of(data)).values())
    assert all(float(term.detach()) > 0.1 for term in objective.losses(objective.net, batch_of(data)).values())


def run(monkeypatch, data, teacher, out, *more):
    monkeypatch.setattr(train, "VALIDATION", 2)
    monkeypatch.setattr(default, "Mix", partial(Mix, rendered=2, photos=1, empty=1))
    monkeypatch.setattr(train, "Validation", partial(Validation, count=2))
    start = [str(out), "--synth", str(data[0]), "--photos", str(data[1]), "--threads", "1", "--device", "cpu"]
    monkeypatch.setattr(
        "sys.argv", ["train", *start, "--steps", "30", "--rate", "1e-2", *more, "--teacher", str(teacher)]
    )
    train.main()


def test_the_script_brings_the_maps_nearer_and_keeps_the_rest(data, teacher, tmp_path, monkeypatch):
    run(monkeypatch, data, teacher, tmp_path / "run", "--stem-alone")
    net, content = load_checkpoint(tmp_path / "run" / "model.pt")
    source, _ = load_checkpoint(teacher)
    objective, batch = StemObjective(teacher, HandNetRecipe()), batch_of(data, 99)
    with torch.no_grad():
        before, after = (sum(objective.losses(each, batch).values()) for each in (objective.net, net))
    assert float(after) < 0.8 * float(before)
    mesh = source.mesh.state_dict()
    assert all(torch.equal(value, mesh[name]) for name, value in net.mesh.state_dict().items())
    about = json.loads(content["about"])
    assert (about["licence"], about["teacher"]["step"], about["step"]) == ("X", 7, 30)


def test_terms_stated_for_the_student_go_before_its_teachers(teacher, tmp_path):
    objective = StemObjective(teacher, HandNetRecipe())
    objective.save(tmp_path / "model.pt", objective.net, json.dumps({"licence": "MIT", "sources": {"synth": "own"}}))
    about = json.loads(load_checkpoint(tmp_path / "model.pt")[1]["about"])
    assert about["licence"] == "MIT"
    assert "licence_text" not in about, "the teacher's text speaks of another licence"
    assert about["sources"] == {"rooms": "theirs", "synth": "own"}


def test_a_dense_stem_goes_on_learning_with_the_whole_network(teacher):
    net = StemObjective(teacher, HandNetRecipe()).net
    objective = default.HandNetObjective(net.config, HandNetRecipe(freeze_shallow=True))
    learning = {id(p) for group in objective.groups() for p in group["params"]}
    assert learning == {id(p) for p in objective.net.parameters()}


def test_what_it_gives_becomes_a_lite_network(teacher, data, tmp_path, monkeypatch, capsys):
    stem = tmp_path / "stem.pt"
    net = StemObjective(teacher, HandNetRecipe()).net
    save_checkpoint(stem, net)
    monkeypatch.setattr(train, "VALIDATION", 2)
    monkeypatch.setattr(default, "Mix", partial(Mix, rendered=2, photos=1, empty=1))
    monkeypatch.setattr(train, "Validation", partial(Validation, count=2))
    start = ["--synth", str(data[0]), "--photos", str(data[1]), "--threads", "1", "--device", "cpu", "--lite"]
    steps = ["--steps", "3", "--rate", "0", "--minutes", "0"]
    train.main([str(tmp_path / "run"), *start, *steps, "--start", str(stem)])
    lite, _ = load_checkpoint(tmp_path / "run" / "model.pt")
    assert lite.config == CONFIG.lite()
    assert torch.equal(lite.prior.trunk.stem[1].conv.weight, net.prior.trunk.stem[1].conv.weight)
    assert 12 in net.mesh.trunk.places
    assert 12 not in lite.mesh.trunk.places
    product = lite.mesh.global_features[1].weight @ lite.mesh.global_features[0].weight
    values = torch.linalg.svdvals(net.mesh.global_features.weight)
    off = torch.linalg.matrix_norm(product - net.mesh.global_features.weight)
    torch.testing.assert_close(off, values[lite.config.rank :].square().sum().sqrt())  # the nearest of that rank
    with pytest.raises(SystemExit):
        train.main([str(tmp_path / "no"), *start, *steps, "--start", str(teacher)])
    assert "train others by --stem-alone" in capsys.readouterr().err


def test_what_does_not_go_together_is_refused(data, teacher, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, data, teacher, tmp_path / "run", "--stem-alone", "--blocks", "4")
    assert "without --stem-alone" in capsys.readouterr().err
    dense = tmp_path / "dense.pt"
    save_checkpoint(dense, StemObjective(teacher, HandNetRecipe()).net)
    with pytest.raises(SystemExit):
        run(monkeypatch, data, dense, tmp_path / "run", "--stem-alone")
    assert "has a dense stem already" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["train", str(tmp_path), "--synth", str(data[0]), "--stem-alone"])
    with pytest.raises(SystemExit):
        train.main()
    assert "--stem-alone learns from the first layers of --teacher" in capsys.readouterr().err
