# SPDX-License-Identifier: Apache-2.0
"""The training script: its recipe, what it writes, and that a stopped run goes on as if it had not been stopped."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_data import write_renderings
from small_net import CONFIG, SIZE, lively_net, small_net
from small_training import COUNTS, arguments_for, make_small

from cmr_export.bundle import export
from cmr_models import train
from cmr_models.batches import Mix
from cmr_models.network import HandNetConfig, load_checkpoint, save_checkpoint, to_input
from cmr_models.objective import Recipe
from cmr_models.paper import objective as paper
from cmr_models.paper.config import names, paper_config
from cmr_models.paper.hierarchy import MeshHierarchy
from cmr_models.paper.objective import PaperObjective, PaperRecipe
from cmr_models.paper.recognise import load_paper_checkpoint
from cmr_models.train import rate_at, update_average

# Recipe


def test_learning_rate_warms_up_and_falls_to_a_hundredth():
    recipe = Recipe(steps=1000, warm_up=100, rate=2.0)
    rates = [rate_at(step, recipe) for step in range(1000)]
    assert rates[0] == pytest.approx(0.02)
    assert np.diff(rates[:100]).min() > 0
    assert rates[100] == pytest.approx(2.0) == max(rates)
    assert np.diff(rates[100:]).max() < 0
    assert rate_at(550, recipe) == pytest.approx(0.02 + 1.98 / 2)
    assert rate_at(1000, recipe) == rate_at(5000, recipe) == pytest.approx(0.02)


def test_images_are_normalised_per_channel():
    image = torch.randint(0, 256, (2, 4, 4, 3), dtype=torch.uint8)
    x = to_input(image, CONFIG)
    assert x.shape == (2, 3, 4, 4)
    wanted = (float(image[1, 2, 3, 0]) / 255 - CONFIG.mean[0]) / CONFIG.std[0]
    assert float(x[1, 0, 2, 3]) == pytest.approx(wanted, rel=1e-5)


def test_average_moves_a_share_of_the_way():
    average, net = lively_net(0), lively_net(1)
    before = average.prior.head.weight.detach().clone()
    update_average(average, net, 0.75)
    torch.testing.assert_close(average.prior.head.weight, 0.75 * before + 0.25 * net.prior.head.weight)


def test_average_takes_the_running_statistics_along():
    average, net = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    for _ in range(3):
        net(torch.tensor([[3.0, 1], [5, 1]]))
    mean = float(net.running_mean[0])
    update_average(average, net, 0.75)
    assert float(average.running_mean[0]) == pytest.approx(0.25 * mean)
    assert int(average.num_batches_tracked) == 3


# The script


def run(monkeypatch, data, out, *more: str) -> None:
    """Train the default network, made small, or the one that ``more`` names."""
    make_small(monkeypatch, COUNTS)
    monkeypatch.setattr("sys.argv", ["train", *arguments_for(data, out, *more)])
    train.main()


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        run(patch, data, out)
    return out


def test_a_stopped_run_ends_like_an_uninterrupted_one(data, whole, tmp_path, monkeypatch, capfd):
    out = tmp_path / "run"
    run(monkeypatch, data, out, "--minutes", "0")  # one step, then out of time
    assert torch.load(out / "state.pt", weights_only=True)["step"] == 1
    run(monkeypatch, data, out)
    assert "goes on at step 1" in capfd.readouterr().out
    a, b = (torch.load(folder / "state.pt", weights_only=True) for folder in (whole, out))
    assert a["step"] == b["step"] == 3
    for part in ("net", "average"):
        for name, value in a[part].items():
            assert torch.equal(b[part][name], value), f"{part} {name}"
    moments = lambda state: [m for p in state["optimiser"]["state"].values() for m in p.values()]  # noqa: E731
    assert all(torch.equal(x, y) for x, y in zip(moments(a), moments(b), strict=True))
    assert [json.loads(line)["step"] for line in (out / "figures.jsonl").read_text().splitlines()] == [1, 3]


def test_the_number_of_workers_changes_nothing(data, whole, tmp_path, monkeypatch):
    run(monkeypatch, data, tmp_path / "run", "--workers", "2")
    ours, theirs = (torch.load(folder / "state.pt", weights_only=True)["net"] for folder in (whole, tmp_path / "run"))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_batches_can_be_larger(data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    run(monkeypatch, data, out, "--times", "2", "--minutes", "0")
    mix = json.loads(load_checkpoint(out / "model.pt")[1]["about"])["mix"]
    assert (mix["rendered"], mix["photos"], mix["empty"]) == (4, 2, 2)
    assert mix["zoomed"] == Mix.zoomed
    with pytest.raises(SystemExit):
        run(monkeypatch, data, out)
    assert "--times 2, not 1: give the same" in capsys.readouterr().err


def test_a_run_does_not_go_on_with_other_renderings_or_photos(data, tmp_path, monkeypatch, capfd):
    out = tmp_path / "run"
    run(monkeypatch, data, out, "--minutes", "0")
    with pytest.raises(SystemExit):
        run(monkeypatch, data, out, "--synth", str(data[0]), str(data[0]))
    assert re.search(r"--synth \['\S+ \(10 hands\)'\], not \['\S+ \(10 hands\)', '\S+", capfd.readouterr().err)
    (tmp_path / "others.npz").write_bytes(data[1].read_bytes())
    with pytest.raises(SystemExit):
        run(monkeypatch, data, out, "--photos", str(tmp_path / "others.npz"))
    assert "not others.npz (" in capfd.readouterr().err
    state = torch.load(out / "state.pt", weights_only=True)
    for name in ("synth", "photos"):
        del state["arguments"][name]  # as in a state of before
    torch.save(state, out / "state.pt")
    run(monkeypatch, data, out, "--minutes", "0")
    assert "goes on at step 1" in capfd.readouterr().out


def test_the_script_writes_the_averaged_network_with_its_provenance(whole):
    net, content = load_checkpoint(whole / "model.pt")
    state = torch.load(whole / "state.pt", weights_only=True)
    for name, value in net.state_dict().items():
        assert torch.equal(value, state["average"][name]), name
    assert not torch.equal(state["average"]["prior.head.weight"], state["net"]["prior.head.weight"])
    about = json.loads(content["about"])
    assert about["step"] == 3
    assert about["recipe"]["steps"] == 3
    assert about["mix"]["rendered"] == 2
    assert about["renderings"] == 10  # two are kept for validation


def test_what_training_wrote_exports_with_parity(whole, tmp_path):
    bundle = export(whole / "model.pt", tmp_path / "hand.cmr").bundle  # raises without parity
    assert bundle.provenance["training_steps"] == "3"
    assert bundle.input_size == SIZE


def test_a_finished_run_started_again_changes_nothing(data, whole, monkeypatch):
    before = (whole / "state.pt").read_bytes()
    run(monkeypatch, data, whole)
    assert (whole / "state.pt").read_bytes() == before


def test_a_run_may_start_from_the_weights_of_another(data, whole, tmp_path, monkeypatch, capsys):
    start = ("--start", str(whole / "model.pt"))
    run(monkeypatch, data, tmp_path / "on", *start, "--rate", "1e-9", "--minutes", "0")
    began, found = load_checkpoint(whole / "model.pt")[0], load_checkpoint(tmp_path / "on" / "model.pt")[0]
    for name, value in began.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, atol=1e-6, rtol=0)
    with pytest.raises(SystemExit):
        run(monkeypatch, data, tmp_path / "no", *start, "--network", "mobrecon_ds")
    assert "leave out --trunk, --teacher and --network" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(monkeypatch, data, tmp_path / "no", "--start", str(data[1]))
    assert "real.npz" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


# The paper's networks through the same script


@pytest.fixture(scope="module")
def mobile(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("mobile") / "run"
    with pytest.MonkeyPatch.context() as patch:
        run(patch, data, out, "--network", "mobrecon_ds", "--size", "64")
    return out


def test_a_network_of_the_paper_goes_on_where_it_was(data, mobile, tmp_path, monkeypatch, capfd):
    out, arguments = tmp_path / "run", ("--network", "mobrecon_ds", "--size", "64")
    run(monkeypatch, data, out, *arguments, "--minutes", "0")
    run(monkeypatch, data, out, *arguments)
    assert "goes on at step 1" in capfd.readouterr().out
    a, b = (torch.load(folder / "state.pt", weights_only=True) for folder in (mobile, out))
    for part in ("net", "average"):
        for name, value in a[part].items():
            assert torch.equal(b[part][name], value), f"{part} {name}"
    figures = [json.loads(line) for line in (out / "figures.jsonl").read_text().splitlines()]
    assert [set(f) for f in figures] == [{"step", "synth_vertex_mm", "synth_px256", "photo_px256"}] * 2
    assert all(math.isfinite(v) for f in figures for v in f.values())


def test_its_checkpoint_is_recognised_and_says_what_it_is(mobile):
    net = load_paper_checkpoint(mobile / "model.pt", MeshHierarchy.from_hand())
    state = torch.load(mobile / "state.pt", weights_only=True)
    assert net.config.architecture == "mobrecon_ds"
    assert net.config.size == 64
    for name, value in net.state_dict().items():
        assert torch.equal(value, state["average"][name]), name
    content = torch.load(mobile / "model.pt", weights_only=True)
    assert content["format"] == paper.FORMAT
    assert paper.PaperConfig(**content["config"]) == net.config
    about = json.loads(content["about"])
    assert about["step"] == 3
    assert about["recipe"]["rate"] == 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_checkpoints_of_all_networks_are_recognised(name, tmp_path):
    slim = {"channels": (4, 4, 8, 8), "spiral_lengths": (9, 9, 9, 9)}
    objective = PaperObjective(paper_config(name, **slim), PaperRecipe())
    objective.save(tmp_path / "model.pt", objective.net, "{}")
    net = load_paper_checkpoint(tmp_path / "model.pt", objective.hierarchy)
    assert net.config == objective.config
    for key, value in objective.net.state_dict().items():
        assert torch.equal(net.state_dict()[key], value), key


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--network", "mobrecon", "--size", "100"), "multiple of 32"),
        (("--size", "100"), "multiple of 32"),
        (("--sizes", "64", "100"), "size is 100; need a multiple of 32"),
        (("--network", "mobrecon", "--sizes", "64"), "--sizes are of handnet, not of mobrecon"),
        (("--network", "mobrecon", "--trunk", "t.npz"), "--trunk"),
        (("--network", "mobrecon_sd"), "mobrecon_ds"),
        (("--steps", "0"), "--steps 0: need at least 1"),
        (("--steps", "-3"), "--steps -3: need at least 1"),
        (("--times", "0"), "--times 0: need at least 1"),
        (("--workers", "0"), "--workers 0: need at least 1"),
        (("--processes", "0"), "--processes 0: need at least 1"),
        (("--mesh-levels", "2"), "--mesh-levels are of the network that --start gives"),
        (("--compact",), "--compact is of the network that --start gives"),
        (("--rank", "8"), "--rank is of a matrix of the network that --start gives"),
        (("--processes", "2", "--device", "cuda"), "--processes 2 are for --device cpu, not cuda"),
        *(
            (("--" + name, "absent"), f"--{name} absent: cannot be used")
            for name in ("about", "synth", "photos", "trunk")
        ),
        (("--about", __file__), "cannot be used"),
        (("--start", "absent"), "absent: cannot be read"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(data, tmp_path, monkeypatch, capsys, arguments, message):
    with pytest.raises(SystemExit):
        run(monkeypatch, data, tmp_path / "run", *arguments)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_too_few_renderings_are_refused(data, tmp_path, monkeypatch, capsys):
    few = str(write_renderings(tmp_path / "few", 2, SIZE))  # as many as are kept for validation
    with pytest.raises(SystemExit):
        run(monkeypatch, data, tmp_path / "run", "--synth", str(data[0]), few)
    assert f"--synth {few}: cannot be used (need more than 2 renderings" in capsys.readouterr().err


def test_a_run_starts_with_the_size_of_the_weights_that_it_starts_from(data, tmp_path, monkeypatch):
    start, out = tmp_path / "start.pt", tmp_path / "run"
    save_checkpoint(start, small_net(config=replace(CONFIG, size=32)))
    run(monkeypatch, data, out, "--start", str(start), "--minutes", "0")
    assert load_checkpoint(out / "model.pt")[0].config.size == 32


def test_a_run_of_several_sizes_goes_on_with_the_same_alone(data, tmp_path, monkeypatch, capsys):
    """And its validation and checkpoint are of the network's own size."""
    start, out = tmp_path / "start.pt", tmp_path / "run"
    save_checkpoint(start, small_net(config=replace(CONFIG, size=32)))
    arguments = ("--start", str(start), "--minutes", "0")
    run(monkeypatch, data, out, *arguments, "--sizes", "32", "64")
    net, content = load_checkpoint(out / "model.pt")
    assert net.config.size == 32
    assert json.loads(content["about"])["sizes"] == [32, 64]
    with pytest.raises(SystemExit):
        run(monkeypatch, data, out, *arguments)
    assert "--sizes [32, 64], not None" in capsys.readouterr().err


def test_weights_of_one_size_start_a_run_of_another(data, tmp_path, monkeypatch, capsys):
    start, out = tmp_path / "start.pt", tmp_path / "run"
    net = small_net(config=replace(CONFIG, size=32))
    save_checkpoint(start, net)
    run(monkeypatch, data, out, "--start", str(start), "--size", "64", "--minutes", "0")
    other, _ = load_checkpoint(out / "model.pt")
    assert other.config.size == 64
    for name, weight in net.prior.trunk.stem.state_dict().items():  # frozen, so that one step leaves it alone
        torch.testing.assert_close(other.prior.trunk.stem.state_dict()[name], weight, rtol=0, atol=0)
    with pytest.raises(SystemExit):
        run(monkeypatch, data, tmp_path / "no", "--start", str(start), "--size", "100")
    assert "size is 100; need a multiple of 32" in capsys.readouterr().err


def test_layers_of_the_finest_mesh_levels_are_left_out(data, tmp_path, monkeypatch, capsys):
    start, out = tmp_path / "start.pt", tmp_path / "run"
    net = small_net(config=replace(CONFIG, mesh_widths=(4, 8, 8, 16)))
    save_checkpoint(start, net)
    run(monkeypatch, data, out, "--start", str(start), "--mesh-levels", "2", "--rate", "0", "--minutes", "0")
    other, _ = load_checkpoint(out / "model.pt")
    assert other.config.mesh_widths == (8, 16)
    image = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        whole, found = net(image).mesh, other(image).mesh
    assert [v.shape[1] for v in found.levels] == [778, 195, 98]
    apart = lambda vertices: vertices[1:] - vertices[:1]  # noqa: E731  the root follows from the finest level
    torch.testing.assert_close(apart(found.levels[1][0]), apart(whole.levels[2][0]), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found.heatmaps, whole.heatmaps)
    for count, message in (("5", "has layers of 4"), ("0", "need at least 1"), ("1", "need 2 to 4")):
        with pytest.raises(SystemExit):
            run(monkeypatch, data, tmp_path / "no", "--start", str(start), "--mesh-levels", count)
        assert message in capsys.readouterr().err


def test_a_matrix_of_lower_rank_begins_as_the_nearest_one(data, tmp_path, monkeypatch, capsys):
    start, out, again, net = tmp_path / "start.pt", tmp_path / "run", tmp_path / "again", lively_net()
    save_checkpoint(start, net)
    whole = net.mesh.global_features.weight
    most = min(whole.shape)

    def product(folder):
        other, _ = load_checkpoint(folder / "model.pt")
        return other.config.rank, other.mesh.global_features[1].weight @ other.mesh.global_features[0].weight

    run(monkeypatch, data, out, "--start", str(start), "--rank", str(most), "--rate", "0", "--minutes", "0")
    rank, found = product(out)
    assert rank == most
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-4)
    run(monkeypatch, data, again, "--start", str(out / "model.pt"), "--rank", "3", "--rate", "0", "--minutes", "0")
    rank, found = product(again)
    assert rank == 3
    lost = torch.linalg.svdvals(whole)[3:].square().sum().sqrt()
    torch.testing.assert_close(torch.linalg.matrix_norm(found - whole), lost, atol=1e-4, rtol=1e-3)
    for count, message in ((most + 1, f"need 1 to {most}"), (0, "--rank 0: need at least 1")):
        with pytest.raises(SystemExit):
            run(monkeypatch, data, tmp_path / "no", "--start", str(start), "--rank", str(count))
        assert message in capsys.readouterr().err


def test_a_compact_run_keeps_the_weights_of_the_blocks_that_stay(data, tmp_path, monkeypatch, capsys):
    start, out, net = tmp_path / "start.pt", tmp_path / "run", lively_net(config=replace(CONFIG, recall=False))
    save_checkpoint(start, net)
    run(monkeypatch, data, out, "--start", str(start), "--compact", "--rate", "0", "--minutes", "0")
    other, _ = load_checkpoint(out / "model.pt")
    usual = HandNetConfig()
    assert (other.config.prior_blocks, other.config.mesh_blocks) == (usual.prior_blocks, usual.mesh_blocks)
    for stage in ("prior", "mesh"):
        ours, theirs = (getattr(each, stage).trunk for each in (other, net))
        assert len(ours.blocks) < len(theirs.blocks)
        for place, block in zip(ours.places, ours.blocks, strict=True):
            same = theirs.blocks[theirs.places.index(place)].state_dict()
            assert all(torch.equal(value, same[name]) for name, value in block.state_dict().items()), (stage, place)
        assert torch.equal(ours.last[0].conv.weight, theirs.last[0].conv.weight)
    assert torch.equal(other.mesh.presence.weight, net.prior.presence.weight)  # of features of the same kind
    save_checkpoint(start, small_net(config=replace(CONFIG, mesh_blocks=(4, 7, 10, 14))))
    with pytest.raises(SystemExit):
        run(monkeypatch, data, tmp_path / "no", "--start", str(start), "--compact")
    assert "lacks blocks [5, 8, 9, 11, 12, 13], which would be untrained" in capsys.readouterr().err


def test_a_run_goes_on_with_its_own_arguments_only(data, mobile, monkeypatch, capsys):
    before = (mobile / "state.pt").read_bytes()
    other = ("--size", "96", "--seed", "9", "--rate", "1e-2")
    with pytest.raises(SystemExit):
        run(monkeypatch, data, mobile, "--network", "mobrecon_ds", *other)
    message = capsys.readouterr().err
    assert "--size 64, not 96; --seed 0, not 9; --rate 0.001, not 0.01: give the same" in message
    assert (mobile / "state.pt").read_bytes() == before


def test_a_run_of_before_a_loss_or_with_another_mixture_does_not_go_on(data, whole, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    out.mkdir()
    content = torch.load(whole / "state.pt", weights_only=True)
    other = {name: value for name, value in content["arguments"].items() if name != "bones"} | {"mix_lean": 0.5}
    torch.save(content | {"arguments": other}, out / "state.pt")
    before = (out / "state.pt").read_bytes()
    with pytest.raises(SystemExit):
        run(monkeypatch, data, out)
    message = capsys.readouterr().err
    assert "mix_lean 0.5, not 0.2" in message
    assert "bones None, not 2.0" in message
    assert (out / "state.pt").read_bytes() == before


def test_state_files_of_before_are_read_and_damaged_ones_refused(data, whole, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    out.mkdir()
    content = torch.load(whole / "state.pt", weights_only=True)
    torch.save({name: part for name, part in content.items() if name != "arguments"}, out / "state.pt")
    run(monkeypatch, data, out)
    assert "goes on at step 3" in capsys.readouterr().out
    for damaged in ((whole / "state.pt").read_bytes()[:-1000], b""):
        (out / "state.pt").write_bytes(damaged)
        with pytest.raises(SystemExit):
            run(monkeypatch, data, out)
        assert "state.pt: cannot be read" in capsys.readouterr().err
    torch.save(content | {"net": {}}, out / "state.pt")
    with pytest.raises(SystemExit):
        run(monkeypatch, data, out)
    assert "prior" in capsys.readouterr().err


def test_a_folder_holds_runs_of_one_network(data, mobile, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, data, mobile)
    assert "holds a run of mobrecon_ds, not of handnet" in capsys.readouterr().err
