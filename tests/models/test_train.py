# SPDX-License-Identifier: Apache-2.0
"""The training script: what it optimises, and that a stopped run goes on as if it had not been stopped."""

import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from fake_data import write_photos, write_renderings
from small_net import CONFIG, SIZE, lively_net

from cmr_export.bundle import export
from cmr_export.parity import LIMIT
from cmr_models import train
from cmr_models.batches import Batches, Mix, Renderings
from cmr_models.hand import ROOT_JOINT, load_hand
from cmr_models.network import load_checkpoint
from cmr_models.network.handnet import HandNetOutput
from cmr_models.network.mesh import MeshOutput
from cmr_models.network.prior import SHALLOW_BLOCK, PriorOutput
from cmr_models.train import Recipe, compute_losses, parameter_groups, rate_at, to_input, update_average
from cmr_models.validate import Validation

HAND = load_hand()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return write_renderings(folder / "synth", 12, SIZE), write_photos(folder / "real.npz", 8)


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


@pytest.mark.parametrize("freeze", [True, False])
def test_groups_hold_every_parameter_once_and_leave_the_frozen_out(freeze):
    net = lively_net()
    groups = parameter_groups(net, Recipe(freeze_shallow=freeze, pretrained=0.3))
    assert [g["scale"] for g in groups] == [0.3, 1.0]
    ids = [id(p) for g in groups for p in g["params"]]
    assert len(ids) == len(set(ids))
    names = {id(p): n for n, p in net.named_parameters()}
    left_out = set(names) - set(ids)
    front = (net.prior.trunk.stem, *net.prior.trunk.blocks[: SHALLOW_BLOCK + 1])
    shallow = {id(p) for part in front for p in part.parameters()}
    assert left_out == (shallow if freeze else set())
    assert all(p.requires_grad == (id(p) not in left_out) for p in net.parameters())
    assert all(".trunk." in names[id(p)] for p in groups[0]["params"])
    assert not any(".trunk." in names[id(p)] for p in groups[1]["params"])


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


# Losses of a batch


def losses(out: HandNetOutput, batch: dict, net, recipe: Recipe | None = None, mirrored: float = 0.2) -> dict:
    return compute_losses(out, batch, net, recipe or Recipe(), mirrored)


def perfect(batch: dict) -> HandNetOutput:
    """Build the output that a network would give that knows the labels."""
    size, cells, count = SIZE, SIZE // 4, len(batch["image"])
    target = train.gaussian_maps(batch["keypoints"], size, cells) * batch["present"].float()[:, None, None, None]
    maps = torch.logit(target.clamp(1e-6, 1 - 1e-6))
    coverage = batch["silhouette"][:, None].float() / 255
    outline = lambda side: torch.logit(torch.nn.functional.adaptive_avg_pool2d(coverage, side).clamp(1e-6, 1 - 1e-6))  # noqa: E731
    sure = lambda flag: torch.where(flag, 20.0, -20.0)[:, None]  # noqa: E731
    finest = torch.zeros(count, len(HAND.template), 3)
    finest[batch["meshed"]] = batch["vertices"]
    finest = finest - torch.as_tensor(HAND.joint_regressor[ROOT_JOINT]) @ finest[:, None]
    finest = finest.reshape(count, -1, 3)
    levels = [finest]
    for index in HAND.level_index:
        levels.append(levels[-1][:, index])
    prior = PriorOutput(maps, outline(cells), sure(batch["present"]), sure(batch["right"]), torch.zeros(0))
    return HandNetOutput(prior, MeshOutput(levels, maps, outline(2 * cells)))


@pytest.fixture(scope="module")
def batch(data):
    mix = Mix(rendered=3, photos=2, empty=1, mirrored=0.0)
    return Batches(Renderings(data[0]), data[1], SIZE, mix, 0, 5)[0]


def test_knowing_the_labels_costs_nothing_but_the_outlines_own_entropy(data):
    batch = Batches(Renderings(data[0]), None, SIZE, Mix(rendered=3, photos=0, empty=2, mirrored=0.0), 0, 5)[0]
    terms = losses(perfect(batch), batch, lively_net())
    assert set(terms) == {"heat1", "heat2", "sil1", "sil2", "presence", "hand", "mesh", "joints", "edges", "normals"}
    for name in ("heat1", "heat2", "presence", "hand", "mesh", "joints", "edges"):
        assert float(terms[name]) < 2e-3, name
    assert float(terms["normals"]) < 1e-3
    worse = losses(lively_net()(to_input(batch["image"], CONFIG)), batch, lively_net())
    for name, term in worse.items():
        assert float(term.detach()) > 1.5 * float(terms[name]) + 1e-3, name


def test_a_mesh_ten_millimetres_off_costs_about_one(data):
    batch = Batches(Renderings(data[0]), None, SIZE, Mix(rendered=2, photos=0, empty=1, mirrored=0.0), 0, 5)[0]
    batch["vertices"] = batch["vertices"] + 0.3  # the losses move the labels' root to the origin themselves
    out = perfect(batch)
    moved = [v + 0.01 for v in out.mesh.levels]
    off = HandNetOutput(out.prior, MeshOutput(moved, *out.mesh[1:]))
    terms = losses(off, batch, lively_net())
    assert float(terms["mesh"]) == pytest.approx(1 + 0.5 + 0.25 + 0.125, rel=1e-3)
    assert float(terms["joints"]) == pytest.approx(1, rel=1e-3)
    assert float(terms["edges"]) < 1e-3


def test_photos_add_their_terms_and_teach_no_mesh(batch):
    net = lively_net()
    out = net(to_input(batch["image"], CONFIG))
    terms = losses(out, batch, net)
    assert {"photo3d", "photo2d"} <= set(terms)
    meshed = torch.zeros(len(batch["weight"])).bool().index_fill(0, batch["meshed"], True)
    for term, wanted in {"photo3d": batch["weight"] > 0, "photo2d": batch["weight"] > 0, "mesh": meshed}.items():
        grad = torch.autograd.grad(terms[term], out.mesh.levels[0], retain_graph=True)[0]
        touched = grad.abs().amax((1, 2)) > 0
        assert touched.tolist() == wanted.tolist()


def test_no_term_asks_a_photo_for_its_outline_or_an_empty_picture_for_its_side(batch):
    net = lively_net()
    out = net(to_input(batch["image"], CONFIG))
    terms = losses(out, batch, net)
    gradient = lambda term, leaf: torch.autograd.grad(terms[term], leaf, retain_graph=True)[0]  # noqa: E731
    touched = lambda term, leaf: gradient(term, leaf).flatten(1).abs().amax(1) > 0  # noqa: E731
    assert touched("sil1", out.prior.silhouette).tolist() == batch["outlined"].tolist()
    assert touched("sil2", out.mesh.silhouette).tolist() == batch["outlined"].tolist()
    assert touched("hand", out.prior.right).tolist() == batch["present"].tolist()
    assert touched("presence", out.prior.presence).all()
    assert touched("heat2", out.mesh.heatmaps).all()


def test_heat_maps_of_photos_count_by_their_weight_and_empty_pictures_little(data):
    mix = Mix(rendered=2, photos=3, empty=2, mirrored=0.4)
    batch = next(
        b
        for b in (Batches(Renderings(data[0]), data[1], SIZE, mix, seed, 5)[0] for seed in range(20))
        if 0 < int((b["weight"] == 0)[2:5].sum()) < 3  # some, not all, photos mirrored
    )
    out = lively_net()(to_input(batch["image"], CONFIG))
    recipe = Recipe(empty=0.125, heatmaps=3.0)
    found = float(losses(out, batch, lively_net(), recipe)["heat1"].detach())
    target = train.gaussian_maps(batch["keypoints"], SIZE, SIZE // 4) * batch["present"].float()[:, None, None, None]
    each = [float(train.heatmap_loss(out.prior.heatmaps, target, torch.eye(7)[k]).detach()) for k in range(7)]
    weights = [1.0, 1.0, *(max(w, 0.5) for w in batch["weight"][2:5].tolist()), 0.125, 0.125]
    assert found == pytest.approx(3 * np.average(each, weights=weights), rel=1e-4)


@pytest.mark.parametrize("mirrored", [0.2, 0.5])
def test_left_and_right_hands_count_alike_for_handedness(data, mirrored):
    batch = Batches(Renderings(data[0]), None, SIZE, Mix(rendered=9, photos=0, empty=1, mirrored=0.3), 0, 5)[1]
    right, present = batch["right"], batch["present"]
    lefts, rights = int((~right).sum()), int((right & present).sum())
    assert lefts > 0
    assert rights > 0
    out = lively_net()(to_input(batch["image"], CONFIG))
    net, recipe = lively_net(), Recipe(handedness=2.0)
    found = float(losses(out, batch, net, recipe, mirrored)["hand"].detach())
    logit = out.prior.right[:, 0].detach()
    each = torch.where(right, torch.nn.functional.softplus(-logit), torch.nn.functional.softplus(logit))
    share = (1 - mirrored) / mirrored  # a left hand is that much rarer
    total = each[right & present].sum() + share * each[~right].sum()
    assert found == pytest.approx(2 * float(total) / (rights + share * lefts), rel=1e-4)


def test_training_steps_lower_the_loss_and_leave_the_frozen_layers(batch):
    net, recipe = lively_net(), Recipe()
    groups = parameter_groups(net, recipe)
    optimiser = torch.optim.AdamW(groups, lr=2e-3)
    frozen = [p.detach().clone() for p in net.prior.trunk.stem.parameters()]
    totals = []
    for _ in range(12):
        terms = losses(net(to_input(batch["image"], CONFIG)), batch, net, recipe)
        loss = torch.stack(list(terms.values())).sum()
        totals.append(float(loss.detach()))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    assert all(math.isfinite(t) for t in totals)
    assert totals[-1] < 0.7 * totals[0]
    for before, after in zip(frozen, net.prior.trunk.stem.parameters(), strict=True):
        assert torch.equal(before, after)
        assert after.grad is None
    silent = [n for n, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not silent


# Validation


def test_figures_of_a_network_that_knows_the_answers(data, monkeypatch):
    net = lively_net()
    validation = Validation(Renderings(data[0]), data[1], CONFIG, count=4)
    assert len(validation.rendered) == 4
    assert len(validation.photos) == 2  # held out
    assert sum(s.present for s in validation.others) == 2
    assert not any(s.right for s in validation.others if s.present)

    def oracle(net, samples):
        cells = torch.from_numpy(np.stack([s.keypoints for s in samples]))
        maps = train.gaussian_maps(cells, SIZE, SIZE // 4).numpy()
        vertices = np.stack([np.zeros_like(HAND.template) if s.vertices is None else 2 * s.vertices for s in samples])
        joints = [s.world if s.vertices is None else HAND.joint_regressor @ (2 * s.vertices) for s in samples]
        flags = {"present": np.array([s.present for s in samples]), "right": np.array([s.right for s in samples])}
        return {"joints": np.stack(joints), "maps": maps, "vertices": vertices, **flags}

    monkeypatch.setattr(validation, "_predict", oracle)
    figures = validation.run(net)
    assert figures["synth_px256"] < 2
    assert figures["synth_pa_mm"] == pytest.approx(0, abs=1e-2)
    assert figures["synth_root_mm"] > 10  # twice as large: seen without the similarity
    assert figures["photo_pa_mm"] == figures["photo_root_mm"] == pytest.approx(0, abs=1e-3)
    assert [figures[k] for k in ("right_seen_right", "left_seen_left", "hand_found", "empty_found")] == [1, 1, 1, 0]


def test_validation_repeats_itself(data):
    net = lively_net()
    first, second = (Validation(Renderings(data[0]), data[1], CONFIG, count=3).run(net) for _ in range(2))
    assert first == second
    assert all(math.isfinite(v) for v in first.values())


# The script


def run(monkeypatch, data, out, *more: str) -> None:
    photos = ["--photos", str(data[1])]
    monkeypatch.setattr(train, "VALIDATION", 2)
    monkeypatch.setattr(train, "Mix", partial(Mix, rendered=2, photos=1, empty=1))
    monkeypatch.setattr(train, "HandNetConfig", lambda: CONFIG)
    monkeypatch.setattr(train, "Validation", partial(Validation, count=2))
    arguments = [str(out), "--synth", str(data[0]), *photos, "--steps", "3", "--threads", "1", "--device", "cpu", *more]
    monkeypatch.setattr("sys.argv", ["train", *arguments])
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
    bundle, differences = export(whole / "model.pt", tmp_path / "hand.cmr")
    assert max(differences.values()) <= LIMIT
    assert bundle.provenance["training_steps"] == "3"
    assert bundle.input_size == SIZE


def test_a_finished_run_started_again_changes_nothing(data, whole, monkeypatch):
    before = (whole / "state.pt").read_bytes()
    run(monkeypatch, data, whole)
    assert (whole / "state.pt").read_bytes() == before
