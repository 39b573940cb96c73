# SPDX-License-Identifier: Apache-2.0
"""What training optimises: which parameters, and what a batch costs, for the default network and for the paper's."""

import math

import numpy as np
import pytest
import torch
from small_net import CONFIG, SIZE, lively_net

from cmr_models.batches import Batches, Mix, Renderings
from cmr_models.by_name import make_objective
from cmr_models.hand import ROOT_JOINT, load_hand
from cmr_models.losses import bone_lengths, gaussian_maps, heatmap_loss
from cmr_models.network import to_input
from cmr_models.network.handnet import HandNetOutput
from cmr_models.network.mesh import MeshOutput
from cmr_models.network.objective import HandNetObjective, HandNetRecipe
from cmr_models.network.prior import SHALLOW_BLOCK, PriorOutput
from cmr_models.paper.config import paper_config
from cmr_models.paper.hierarchy import MeshHierarchy
from cmr_models.paper.objective import PaperObjective, PaperRecipe
from cmr_models.paper.outputs import Maps, PaperOutput
from cmr_runtime.biomechanics import USUAL
from cmr_runtime.network import PriorOutput as Seen
from cmr_runtime.roi import Roi
from cmr_runtime.view import View

HAND = load_hand()


# Parameters


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


# Losses of a batch


@pytest.mark.parametrize("name", ["handnet", "mobrecon", "cmr_pg_resnet18", "ytbhand_resnet18"])
def test_losses_stay_on_the_device_of_the_batch(name, data, monkeypatch):
    objective = make_objective(name, 64)
    batch = Batches(Renderings(data[0]), data[1], [64], objective.mix, 0, 1)[0]
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda tensor: True)  # the meta device has no values
    objective.groups()
    terms = objective.losses(objective.net.to("meta"), {key: value.to("meta") for key, value in batch.items()})
    assert {term.device.type for term in terms.values()} == {"meta"}
    torch.stack(list(terms.values())).sum().backward()


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
    shown = [levels[0], *levels[2:]]  # `CONFIG` has layers of its own on the two coarsest levels
    prior = PriorOutput(maps, outline(cells), sure(batch["present"]), sure(batch["right"]), torch.zeros(0))
    return HandNetOutput(prior, MeshOutput(shown, maps, outline(2 * cells), sure(batch["present"])))


@pytest.fixture(scope="module")
def batch(data):
    mix = Mix(rendered=3, photos=2, empty=1, mirrored=0.0)
    return Batches(Renderings(data[0]), data[1], [SIZE], mix, 0, 5)[0]


def test_knowing_the_labels_costs_nothing_but_the_outlines_own_entropy(data):
    batch = Batches(Renderings(data[0]), None, [SIZE], Mix(rendered=3, photos=0, empty=2, mirrored=0.0), 0, 5)[0]
    terms = losses(perfect(batch), batch, lively_net())
    of_cues, of_mesh = {"heat1", "heat2", "presence", "hand"}, {"mesh", "joints", "bones", "edges"}
    assert set(terms) == of_cues | of_mesh | {"sil1", "sil2", "normals"}
    for name in of_cues | of_mesh:
        assert float(terms[name]) < 2e-3, name
    assert float(terms["normals"]) < 1e-3
    worse = losses(lively_net()(to_input(batch["image"], CONFIG)), batch, lively_net())
    for name, term in worse.items():
        assert float(term.detach()) > 1.5 * float(terms[name]) + 1e-3, name


def test_a_mesh_ten_millimetres_off_costs_about_one(data):
    batch = Batches(Renderings(data[0]), None, [SIZE], Mix(rendered=2, photos=0, empty=1, mirrored=0.0), 0, 5)[0]
    batch["vertices"] = batch["vertices"] + 0.3  # the losses move the labels' root to the origin themselves
    out = perfect(batch)
    moved = [v + 0.01 for v in out.mesh.levels]
    off = HandNetOutput(out.prior, MeshOutput(moved, *out.mesh[1:]))
    terms = losses(off, batch, lively_net())
    assert float(terms["mesh"]) == pytest.approx(1 + 0.5 + 0.25, rel=1e-3)
    assert float(terms["joints"]) == pytest.approx(1, rel=1e-3)
    assert float(terms["edges"]) < 1e-3


def test_photos_add_their_terms_and_teach_no_mesh(batch):
    net = lively_net()
    out = net(to_input(batch["image"], CONFIG))
    near = (net.joint_regressor @ out.mesh.levels[0]).detach()  # of a label that faces away no scale is the best
    noise = 0.02 * torch.randn(near.shape, generator=torch.Generator().manual_seed(0))
    terms = losses(out, batch | {"world": near + noise}, net)
    assert {"photo3d", "turn", "photobones", "photo2d"} <= set(terms)
    meshed = torch.zeros(len(batch["weight"])).bool().index_fill(0, batch["meshed"], True)
    labelled = batch["weight"] > 0
    wanted_of = dict.fromkeys(("photo3d", "turn", "photobones", "photo2d"), labelled) | {
        "mesh": meshed,
        "bones": meshed,
    }
    for term, wanted in wanted_of.items():
        grad = torch.autograd.grad(terms[term], out.mesh.levels[0], retain_graph=True)[0]
        touched = grad.abs().amax((1, 2)) > 0
        assert touched.tolist() == wanted.tolist()


def test_photographed_hands_are_wanted_as_large_as_an_adults():
    net = lively_net()
    wanted = HandNetObjective(CONFIG, HandNetRecipe())._usual_bones.numpy() * 1e3
    assert wanted == pytest.approx(USUAL, rel=0.2)  # the little finger's bones differ most
    assert np.median(wanted / USUAL) == pytest.approx(1, abs=0.03)
    model = bone_lengths(net.joint_regressor @ torch.as_tensor(HAND.template)).numpy()
    assert wanted / model == pytest.approx(wanted[0] / model[0], rel=1e-3)  # of the model's own proportions


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
        for b in (Batches(Renderings(data[0]), data[1], [SIZE], mix, seed, 5)[0] for seed in range(20))
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
    batch = Batches(Renderings(data[0]), None, [SIZE], Mix(rendered=9, photos=0, empty=1, mirrored=0.3), 0, 5)[1]
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
    batch = Batches(Renderings(data[0]), None, [SIZE], Mix(rendered=5, photos=0, empty=2), 0, 5)[0]
    out, recipe = lively_net()(to_input(batch["image"], CONFIG)), HandNetRecipe(presence=2.0)
    wanted, softplus = 0.0, torch.nn.functional.softplus
    for stage in (out.prior, out.mesh):
        logit = stage.presence[:, 0].detach()
        wanted += softplus(-logit[batch["present"]]).mean() + softplus(logit[~batch["present"]]).mean()
    found = float(losses(out, batch, lively_net(), recipe)["presence"].detach())
    assert found == pytest.approx(float(wanted), rel=1e-4)  # twice their mean, of each stage


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
    shares = (pixels[:, :, 0, 0] + 0.5) / SIZE  # of the crop, from edge to edge
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
        "points": np.average(abs(out.keypoints.numpy() - shares).mean((1, 2)), weights=trust),
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


def test_keypoints_are_taught_where_the_runtime_reads_them(batch, paper_objective):
    """Keypoints without a loss lie, for `cmr_runtime`, on the labels' pixels."""
    shares = (batch["keypoints"] + 0.5) / SIZE
    out = random_output(len(shares))._replace(keypoints=shares)
    assert float(paper_objective.terms(out, batch)["points"]) == pytest.approx(0.0, abs=1e-6)
    crop = Roi(0.5 * (SIZE - 1), 0.5 * (SIZE - 1), SIZE)  # the crop is the image
    for share, wanted in zip(shares.detach().numpy(), batch["keypoints"].numpy(), strict=True):
        view = View(crop, Seen(keypoints=share), SIZE, 0.0, 0.0)
        np.testing.assert_allclose(view.keypoints, wanted, atol=1e-3)


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
