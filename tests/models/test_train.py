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
from cmr_models import by_name, train, validate
from cmr_models.batches import Batches, Mix, Renderings
from cmr_models.hand import ROOT_JOINT, load_hand
from cmr_models.losses import gaussian_maps, heatmap_loss
from cmr_models.network import load_checkpoint, save_checkpoint, to_input
from cmr_models.network import objective as default
from cmr_models.network.handnet import HandNetOutput
from cmr_models.network.mesh import MeshOutput
from cmr_models.network.objective import HandNetObjective, HandNetRecipe
from cmr_models.network.prior import SHALLOW_BLOCK, PriorOutput
from cmr_models.objective import Recipe
from cmr_models.paper import objective as paper
from cmr_models.paper.config import names, paper_config
from cmr_models.paper.hierarchy import MeshHierarchy
from cmr_models.paper.objective import PaperObjective, PaperRecipe
from cmr_models.paper.outputs import Maps, PaperOutput
from cmr_models.paper.recognise import load_paper_checkpoint
from cmr_models.train import rate_at, update_average
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
    objective = HandNetObjective(CONFIG, HandNetRecipe(freeze_shallow=freeze, pretrained=0.3))
    net, groups = objective.net, objective.groups()
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


def test_average_takes_the_running_statistics_along():
    average, net = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    for _ in range(3):
        net(torch.tensor([[3.0, 1], [5, 1]]))
    mean = float(net.running_mean[0])
    update_average(average, net, 0.75)
    assert float(average.running_mean[0]) == pytest.approx(0.25 * mean)
    assert int(average.num_batches_tracked) == 3


# Losses of a batch


def losses(out: HandNetOutput, batch: dict, net, recipe: HandNetRecipe | None = None, mirrored: float = 0.2) -> dict:
    objective = HandNetObjective(CONFIG, recipe or HandNetRecipe(), Mix(mirrored=mirrored))
    return objective.terms(net, out, batch)


def perfect(batch: dict) -> HandNetOutput:
    """Build the output that a network would give that knows the labels."""
    size, cells, count = SIZE, SIZE // 4, len(batch["image"])
    target = gaussian_maps(batch["keypoints"], size, cells) * batch["present"].float()[:, None, None, None]
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
    assert {"photo3d", "turn", "photo2d"} <= set(terms)
    meshed = torch.zeros(len(batch["weight"])).bool().index_fill(0, batch["meshed"], True)
    labelled = batch["weight"] > 0
    for term, wanted in {"photo3d": labelled, "turn": labelled, "photo2d": labelled, "mesh": meshed}.items():
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
    recipe = HandNetRecipe(empty=0.125, heatmaps=3.0)
    found = float(losses(out, batch, lively_net(), recipe)["heat1"].detach())
    target = gaussian_maps(batch["keypoints"], SIZE, SIZE // 4) * batch["present"].float()[:, None, None, None]
    each = [float(heatmap_loss(out.prior.heatmaps, target, torch.eye(7)[k]).detach()) for k in range(7)]
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
    net, recipe = lively_net(), HandNetRecipe(handedness=2.0)
    found = float(losses(out, batch, net, recipe, mirrored)["hand"].detach())
    logit = out.prior.right[:, 0].detach()
    each = torch.where(right, torch.nn.functional.softplus(-logit), torch.nn.functional.softplus(logit))
    share = (1 - mirrored) / mirrored  # a left hand is that much rarer
    total = each[right & present].sum() + share * each[~right].sum()
    assert found == pytest.approx(2 * float(total) / (rights + share * lefts), rel=1e-4)


def test_pictures_with_and_without_a_hand_count_alike_for_presence(data):
    batch = Batches(Renderings(data[0]), None, SIZE, Mix(rendered=5, photos=0, empty=2), 0, 5)[0]
    out, recipe = lively_net()(to_input(batch["image"], CONFIG)), HandNetRecipe(presence=2.0)
    logit, softplus = out.prior.presence[:, 0].detach(), torch.nn.functional.softplus
    halves = softplus(-logit[batch["present"]]).mean(), softplus(logit[~batch["present"]]).mean()
    found = float(losses(out, batch, lively_net(), recipe)["presence"].detach())
    assert found == pytest.approx(float(sum(halves)), rel=1e-4)  # twice their mean


def test_training_steps_lower_the_loss_and_leave_the_frozen_layers(batch):
    objective = HandNetObjective(CONFIG, HandNetRecipe())
    objective.net = net = lively_net()
    optimiser = torch.optim.AdamW(objective.groups(), lr=2e-3)
    frozen = [p.detach().clone() for p in net.prior.trunk.stem.parameters()]
    totals = []
    for _ in range(12):
        loss = torch.stack(list(objective.losses(net, batch).values())).sum()
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


# Losses of the paper's networks


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


@pytest.fixture(scope="module")
def paper_objective():
    slim = {"channels": (4, 4, 4, 4), "spiral_lengths": (4, 4, 4, 4)}
    return PaperObjective(paper_config("ytbhand_resnet18", size=SIZE, **slim), PaperRecipe())


def random_output(count: int) -> PaperOutput:
    """Build what a network with every kind of output might give."""
    random = torch.Generator().manual_seed(0)
    maps = lambda channels: torch.randn(count, channels, SIZE // 2, SIZE // 2, generator=random)  # noqa: E731
    levels = [0.2 * torch.randn(count, n, 3, generator=random) for n in MeshHierarchy.from_hand().counts[:4]]
    priors = (Maps(None, maps(1)), Maps(maps(21), None))
    return PaperOutput(levels, Maps(maps(21), maps(1)), priors, torch.rand(count, 21, 2, generator=random))


def test_losses_of_the_paper_against_numpy(batch, paper_objective):
    out = random_output(len(batch["image"]))
    found = {name: float(term) for name, term in paper_objective.terms(out, batch).items()}
    present, photo = batch["present"].numpy(), (batch["present"] & ~batch["outlined"]).numpy()
    trust = np.where(photo, np.maximum(batch["weight"].numpy(), 0.5), present)
    pixels = batch["keypoints"].numpy()[:, :, None, None]
    y, x = 2 * np.mgrid[: SIZE // 2, : SIZE // 2] + 0.5  # pixels in the middle of each cell
    target = np.exp(-((x - pixels[..., 0]) ** 2 + (y - pixels[..., 1]) ** 2) / (2 * 3.5**2))
    target *= (abs(x - pixels[..., 0]) <= 6.5) & (abs(y - pixels[..., 1]) <= 6.5)
    coverage = batch["silhouette"].numpy().reshape(-1, SIZE // 2, 2, SIZE // 2, 2).mean((2, 4)) / 255

    def cross_entropy(logits, target, weights):
        x = logits.numpy().astype(float)
        return np.average((softplus(x) - target * x).mean((1, 2, 3)), weights=weights)

    outlined = batch["outlined"].numpy()
    wanted = {
        "sil1": 0.5 * cross_entropy(out.priors[0].silhouette, coverage[:, None], outlined),
        "heat2": 10 * cross_entropy(out.priors[1].heatmaps, target, trust),
        "heat3": 10 * cross_entropy(out.refined.heatmaps, target, trust),
        "sil3": 0.5 * cross_entropy(out.refined.silhouette, coverage[:, None], outlined),
        "points": np.average(abs(out.keypoints.numpy() - pixels[:, :, 0, 0] / SIZE).mean((1, 2)), weights=trust),
    }
    truth, faces, hierarchy = batch["vertices"].numpy(), HAND.faces, MeshHierarchy.from_hand()
    truth = (truth - (HAND.joint_regressor @ truth)[:, ROOT_JOINT, None]) / 0.2
    vertices, level, wanted["mesh"] = out.levels[0][batch["meshed"]].numpy(), truth, 0
    for predicted, index in zip(out.levels, hierarchy.down_index, strict=True):
        wanted["mesh"] += abs(predicted[batch["meshed"]].numpy() - level).mean()
        level = level[:, index]
    sides = lambda v: np.stack([v[:, faces[:, a]] - v[:, faces[:, b]] for a, b in ((0, 1), (0, 2), (1, 2))])  # noqa: E731
    length = lambda v: np.linalg.norm(sides(v), axis=-1)  # noqa: E731
    wanted["edges"] = abs(length(vertices) - length(truth)).mean()
    normal = np.cross(*sides(truth)[:2])
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    wanted["normals"] = 0.1 * abs((sides(vertices) * normal).sum(-1) / length(vertices)).mean()
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert found[name] == pytest.approx(float(value), rel=1e-4), name


def test_networks_are_asked_for_what_they_give(batch, paper_objective):
    out = random_output(len(batch["image"]))
    terms = lambda **changes: set(paper_objective.terms(out._replace(**changes), batch))  # noqa: E731
    mesh = {"mesh", "edges", "normals"}
    assert terms(refined=None, priors=(), keypoints=None) == mesh
    assert terms(refined=None, priors=()) == {"points", *mesh}
    assert terms(priors=(), keypoints=None) == {"heat1", "sil1", *mesh}
    photos = batch | {"meshed": batch["meshed"][:0], "vertices": batch["vertices"][:0]}
    assert set(paper_objective.terms(out, photos)) == {"sil1", "heat2", "heat3", "sil3", "points"}


@pytest.mark.parametrize("name", ["cmr_pg_resnet18", "mobrecon", "ytbhand_resnet18"])
def test_a_batch_teaches_every_parameter_that_takes_part(batch, name):
    torch.manual_seed(0)
    slim = {"channels": (4, 4, 4, 4), "spiral_lengths": (9, 9, 9, 9)}
    objective = PaperObjective(paper_config(name, size=SIZE, **slim), PaperRecipe())
    torch.stack(list(objective.losses(objective.net, batch).values())).sum().backward()
    silent = [n for n, p in objective.net.named_parameters() if p.grad is None or not p.grad.any()]
    # Layers that the reference owns and passes by; those of the attention wait for `gamma`, which starts at zero.
    idle = ("backbone2.fc.", *(f"backbone.dense_stack1.{part}." for part in ("senet3", "dense4", "dense5")))
    assert [n for n in silent if not n.startswith(idle) and "_conv." not in n] == []


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
        maps = gaussian_maps(cells, SIZE, SIZE // 4).numpy()
        vertices = np.stack([np.zeros_like(HAND.template) if s.vertices is None else 2 * s.vertices for s in samples])
        joints = [s.world if s.vertices is None else HAND.joint_regressor @ (2 * s.vertices) for s in samples]
        flags = {"present": np.array([s.present for s in samples]), "right": np.array([s.right for s in samples])}
        blocks = [np.zeros((SIZE, SIZE)) if s.silhouette is None else s.silhouette for s in samples]
        cells = np.stack(blocks).reshape(len(samples), SIZE // 2, 2, SIZE // 2, 2).mean((2, 4)) >= 127.5
        cells[: len(cells) // 2] &= np.arange(SIZE // 2) < 0  # the first half shows no hand
        return {"joints": np.stack(joints), "maps": maps, "vertices": vertices, "outlines": cells, **flags}

    monkeypatch.setattr(validation, "_predict", oracle)
    figures = validation.run(net)
    assert figures["synth_px256"] < 2
    assert figures["synth_pa_mm"] == pytest.approx(0, abs=1e-2)
    assert figures["synth_iou"] == 0.5
    root = HAND.joint_regressor[ROOT_JOINT]
    lengths = [np.linalg.norm(s.vertices - root @ s.vertices, axis=1).mean() for s in validation.rendered]
    assert figures["synth_vertex_mm"] == pytest.approx(1000 * np.mean(lengths), rel=1e-3)
    assert figures["synth_root_mm"] > 10  # twice as large: seen without the similarity
    assert figures["photo_pa_mm"] == figures["photo_root_mm"] == pytest.approx(0, abs=1e-3)
    assert [figures[k] for k in ("right_seen_right", "left_seen_left", "hand_found", "empty_found")] == [1, 1, 1, 0]


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
    with pytest.raises(SystemExit):
        validate.main([str(data[1]), "--synth", str(data[0])])
    assert "real.npz" in capsys.readouterr().err


# The script


def run(monkeypatch, data, out, *more: str) -> None:
    """Train the default network, made small, or the one that ``more`` names."""
    photos = ["--photos", str(data[1])]
    monkeypatch.setattr(train, "VALIDATION", 2)
    monkeypatch.setattr(default, "Mix", partial(Mix, rendered=2, photos=1, empty=1))
    monkeypatch.setattr(by_name, "HandNetConfig", lambda: CONFIG)
    monkeypatch.setattr(
        paper, "Mix", lambda **kinds: Mix(**kinds | {"rendered": 3, "photos": int(kinds["photos"] > 0)})
    )
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
        (("--network", "mobrecon", "--trunk", "t.npz"), "--trunk"),
        (("--network", "mobrecon_sd"), "mobrecon_ds"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(data, tmp_path, monkeypatch, capsys, arguments, message):
    with pytest.raises(SystemExit):
        run(monkeypatch, data, tmp_path / "run", *arguments)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_folder_holds_runs_of_one_network(data, mobile, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, data, mobile)
    assert "holds a run of mobrecon_ds, not of handnet" in capsys.readouterr().err
