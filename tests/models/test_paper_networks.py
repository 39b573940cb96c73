# SPDX-License-Identifier: Apache-2.0
"""The paper's networks compute what the reference implementation computes, and all of their variants work."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cmr_models.paper.build import build
from cmr_models.paper.config import ARCHITECTURES, PaperConfig, names, paper_config
from cmr_models.paper.hierarchy import MeshHierarchy
from cmr_models.paper.recognise import load_paper_checkpoint, recognise
from cmr_models.paper.spiral import DSConv, SpiralConv
from cmr_models.paper.staged import staged

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "handmesh"
HAND = MeshHierarchy.from_hand()
SMALL = {"channels": (8, 8, 16, 16), "spiral_lengths": (9, 9, 12, 15), "size": 64}
#: Channels that enter the mesh stage: 64 features, 21 joints, 1 silhouette, groups of joints.
CUES = {"cmr_s": 65, "cmr_p": 85, "cmr_sp": 86, "cmr_g": 100, "cmr_sg": 95, "cmr_pg": 95}
RESNET = [name for name in names() if name.endswith("resnet18")]


def reference_recipe():
    spec = importlib.util.spec_from_file_location("reference_recipe", REFERENCE / "recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def golden_outputs(output) -> dict[str, torch.Tensor]:
    """Name our output as the reference does: probabilities, maps at every 4th pixel."""
    found = {f"mesh_pred_{level}": vertices for level, vertices in enumerate(output.levels)}
    found["mesh_pred"] = output.levels[0]
    if output.refined:
        found["uv_pred"], mask = (logits.sigmoid()[..., ::4, ::4] for logits in output.refined)
        found["mask_pred"] = mask[:, 0]
    poses = [maps.heatmaps for maps in output.priors if maps.heatmaps is not None]
    for name, logits in zip(("uv_prior", "uv_prior2"), poses, strict=False):
        found[name] = logits.sigmoid()[..., ::4, ::4]
    for maps in output.priors:
        if maps.silhouette is not None:
            found["mask_prior"] = maps.silhouette.sigmoid()[:, 0, ::4, ::4]
    return found


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference's outputs are not here")
@pytest.mark.parametrize(
    ("network", "name", "bare"),
    [
        ("cmr_g_freihand", "cmr_g_resnet18", False),
        ("cmr_sg_freihand", "cmr_sg_resnet18", False),
        ("cmr_pg_freihand", "cmr_pg_resnet18", False),
        ("ytbhand_res18_freihand", "ytbhand_resnet18", True),
        pytest.param("cmr_pg_res50_freihand", "cmr_pg_resnet50", True, marks=pytest.mark.slow),
        pytest.param("cmr_pg_human36m", "cmr_pg_resnet18", False, marks=pytest.mark.slow),
    ],
)
def test_a_checkpoint_gives_what_the_reference_gives(tmp_path, network, name, bare):
    recipe, keys = reference_recipe(), json.loads((REFERENCE / f"keys_{network}.json").read_text())
    state = {key: torch.from_numpy(value) for key, value in recipe.fill(keys).items()}
    torch.save(state if bare else {"model_state_dict": state, "epoch": 3}, tmp_path / "checkpoint.pt")
    net = load_paper_checkpoint(tmp_path / "checkpoint.pt", REFERENCE)
    assert {key: list(value.shape) for key, value in net.state_dict().items()} == keys
    body = "human36m" in network
    assert net.config == paper_config(name, **({"joints": 17, "size": 256} if body else {}))
    with torch.inference_mode():
        found = golden_outputs(net(torch.from_numpy(recipe.reference_input(net.config.size))))
    golden = np.load(REFERENCE / f"golden_{network}.npz")
    wanted = {key: golden[key] for key in golden.files if not key.startswith("spiral_")}
    assert wanted.keys() <= found.keys()
    for key, value in wanted.items():
        np.testing.assert_allclose(found[key].numpy(), value, atol=1e-4, err_msg=key)


@pytest.mark.parametrize("name", RESNET)
def test_a_network_is_recognised_and_its_stages_together_are_the_network(name):
    torch.manual_seed(0)
    config = paper_config(name, **SMALL)
    net = build(config, HAND).eval()
    assert recognise(net.state_dict()) == replace(config, size=224)
    if config.architecture in CUES:
        encoder = net.backbone3 if len(config.priors) == 2 else net.backbone_mesh
        assert encoder.reduce[0].conv.in_channels == CUES[config.architecture]

    image = torch.randn(2, 3, 64, 64)
    parts = staged(net, HAND, {"step": 1})
    with torch.inference_mode():
        output = net(image)
        prior = dict(zip(parts.prior.outputs, parts.prior(image), strict=True))
        mesh = dict(zip(parts.mesh.outputs, parts.mesh(*(prior[key] for key in parts.mesh.inputs)), strict=True))
    assert (parts.architecture, parts.size, parts.root_joint) == (name, 64, 9)
    counts = HAND.counts[:4] if config.multi_scale else HAND.counts[:1]
    assert [tuple(v.shape) for v in output.levels] == [(2, count, 3) for count in counts]
    torch.testing.assert_close(mesh["vertices"], 0.2 * output.levels[0])

    probabilities = {}
    if name.startswith("cmr"):
        probabilities = {f"refined_{key}": logits.sigmoid() for key, logits in output.refined._asdict().items()}
        assert probabilities["refined_heatmaps"].shape == (2, 21, 32, 32)
        assert probabilities["refined_silhouette"].shape == (2, 1, 32, 32)
        assert len(output.priors) == len(config.priors)
        if output.priors:
            last = output.priors[-1]._asdict().items()
            probabilities |= {key: logits.sigmoid() for key, logits in last if logits is not None}
        if name.startswith("cmr_sg"):
            probabilities["silhouette"] = output.priors[0].silhouette.sigmoid()
        if name.startswith("cmr_pg"):
            probabilities["coarse_heatmaps"] = output.priors[0].heatmaps.sigmoid()
    given = prior | mesh
    assert given.keys() == probabilities.keys() | {"features", "vertices"}
    for key, value in probabilities.items():
        torch.testing.assert_close(given[key], value)


@pytest.mark.parametrize(
    ("sub_pose", "recognised"), [("tip+level", "tip+level"), ("level", "level"), ("part", "finger"), ("", "")]
)
def test_other_sub_poses_are_recognised_by_their_number(sub_pose, recognised):
    net = build(paper_config("cmr_g_resnet18", sub_pose=sub_pose, **SMALL), HAND)
    assert recognise(net.state_dict()).sub_pose == recognised


@pytest.mark.parametrize("change", ["attention", "inception", "autoregressive"])
def test_each_part_of_the_decoder_can_be_left_out_and_is_recognised(change):
    config = paper_config("ytbhand_spiral_resnet18", **SMALL, **{change: False})
    net = build(config, HAND).eval()
    assert recognise(net.state_dict()) == replace(config, size=224)
    with torch.inference_mode():
        assert [v.shape[1] for v in net(torch.zeros(1, 3, 32, 32)).levels] == list(HAND.counts[:4])


@pytest.mark.slow
def test_resnet50_is_recognised():
    config = paper_config("cmr_g_resnet50", **SMALL)
    assert recognise(build(config, HAND).state_dict()) == replace(config, size=224)


@pytest.mark.parametrize("size", [32, 96])
def test_a_coarser_prediction_enters_the_finer_one_by_half(size):
    torch.manual_seed(1)
    net = build(paper_config("ytbhand_spiral_resnet18", **SMALL, autoregressive=False), HAND).eval()
    image = torch.randn(1, 3, size, size)
    with torch.inference_mode():
        before = net(image).levels
        net.heads[2].layer.bias += 4.0  # heads are in the order coarsest to finest: level 1
        after = net(image).levels
    moved = [float((b - a).mean()) for a, b in zip(before, after, strict=True)]
    # At level 1 the prediction is averaged with the coarser one; at level 0 it enters by half once more.
    np.testing.assert_allclose(moved, [1.0, 2.0, 0.0, 0.0], atol=1e-5)


@pytest.mark.parametrize("name", ["cmr_pg_resnet18", "cmr_sg_resnet18", "cmr_none_resnet18", "ytbhand_resnet18"])
def test_every_weight_that_matters_gets_a_gradient(name):
    net = build(paper_config(name, **SMALL), HAND)
    output = net(torch.randn(2, 3, 64, 64))
    maps = [m for pair in (output.refined, *output.priors) if pair for m in pair if m is not None]
    sum(t.square().mean() for t in (*output.levels, *maps)).backward()
    without = {key for key, value in net.named_parameters() if value.grad is None}
    codes = {"backbone2.fc.weight", "backbone2.fc.bias"}  # the reference keeps the middle encoder's code, unused
    assert without == (codes if len(net.config.priors) == 2 else set())


@pytest.mark.parametrize("out", [2, 7])
def test_a_spiral_convolution_is_one_layer_on_the_concatenated_spiral(out):
    torch.manual_seed(2)
    spirals = torch.randint(0, 10, (10, 4))
    conv, x = SpiralConv(5, out, spirals), torch.randn(3, 10, 5)
    nn.init.normal_(conv.layer.bias)
    for vertex, walk in enumerate(spirals.tolist()):
        torch.testing.assert_close(conv(x)[:, vertex], conv.layer(torch.cat([x[:, v] for v in walk], 1)))


def test_a_separable_spiral_weighs_positions_per_channel_before_it_mixes_channels():
    torch.manual_seed(3)
    spirals = torch.randint(0, 10, (10, 9))
    conv, x = DSConv(5, 2, spirals), torch.randn(3, 10, 5)
    for vertex, walk in enumerate(spirals.tolist()):
        patch = torch.stack([x[:, v] for v in walk], 2).unflatten(2, (3, 3))
        torch.testing.assert_close(conv(x)[:, vertex], conv.channel_layer(conv.spatial_layer(patch).flatten(1)))
    with pytest.raises(ValueError, match="length 8; need a square"):
        DSConv(5, 2, spirals[:, :8])


def test_constants_of_the_mesh_are_not_in_the_state_dict():
    state = build(paper_config("cmr_pg_resnet18", **SMALL), HAND).state_dict()
    assert not [key for key in state if key.startswith(("up.", "aggregation.")) or "steps" in key]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 100}, "size is 100; need a multiple of 32"),
        ({"channels": (8, 8)}, r"\(2, 4, 4\) channels"),
        ({"priors": ("pose", "silhouette")}, "priors is .* need one of"),
        ({"priors": ("silhouette",)}, "sub_pose 'tip' needs a pose"),
        ({"multi_scale": False}, "autoregressive needs multi_scale"),
    ],
)
def test_contradicting_choices_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        paper_config("cmr_pg_resnet18", **changes)


@pytest.mark.parametrize("name", ["cmr_pg", "cmr_pg_resnet34", "cmr_resnet18", "mobrecon_resnet18", ""])
def test_unknown_names_are_refused_with_the_choices(name):
    with pytest.raises(ValueError, match=r"unknown network .* choose from cmr_none_resnet18, .* mobrecon_ds"):
        paper_config(name)


def test_every_architecture_has_a_name():
    assert {paper_config(name).architecture for name in names()} == set(ARCHITECTURES)


def test_a_network_that_does_not_fit_the_mesh_is_refused():
    three = {"channels": (8, 8, 8), "spiral_lengths": (9, 9, 9), "dilations": (1, 1, 1)}
    with pytest.raises(ValueError, match="3 levels of channels for a mesh of 4"):
        build(PaperConfig("ytbhand", **three), HAND)
    with pytest.raises(ValueError, match="17 joints on a mesh of 21"):
        build(paper_config("cmr_p_resnet18", joints=17, **SMALL), HAND)
    with pytest.raises(ValueError, match="Linear is no network of the paper"):
        staged(nn.Linear(1, 1), HAND, {})
