# SPDX-License-Identifier: Apache-2.0
"""MobRecon: what the reference computes with the same weights; its parts against PyTorch's own operators."""

import copy
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cmr_models.paper.config import PaperConfig, paper_config
from cmr_models.paper.densestack import DenseStackBackbone, SpaceToDepthConv
from cmr_models.paper.folding import fold_batch_norm
from cmr_models.paper.hierarchy import MeshHierarchy
from cmr_models.paper.mobrecon import MobRecon, sample

REFERENCE = Path(__file__).resolve().parents[2].parent / "shared" / "reference" / "handmesh"
RELEASES = {
    "mobrecon_spconv": (paper_config("mobrecon"), "mesh_pred", "uv_pred"),
    "mobrecon_dsconv": (paper_config("mobrecon", separable=True), "mesh_pred", "uv_pred"),
    "mobrecon_ds": (paper_config("mobrecon_ds"), "verts", "joint_img"),
}
#: Parts of the reference's first stack that its forward pass never calls.
UNUSED = tuple(f"backbone.dense_stack1.{part}." for part in ("senet3", "dense4", "dense5"))


@pytest.fixture(scope="module")
def hierarchy() -> MeshHierarchy:
    return MeshHierarchy.from_hand()


@pytest.fixture(scope="module")
def net(hierarchy: MeshHierarchy) -> MobRecon:
    """A small one whose outputs are about one and whose batch norms do something."""
    torch.manual_seed(0)
    net = MobRecon(paper_config("mobrecon_ds", size=64), hierarchy)
    for weight in net.parameters():
        if weight.ndim > 1:
            nn.init.kaiming_normal_(weight)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            for values in (module.running_mean, module.bias):
                nn.init.normal_(values, std=0.2)
    return net.eval()


def recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("recipe", REFERENCE / "recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="needs the reference's meshes and outputs")
@pytest.mark.parametrize("name", RELEASES)
def test_it_computes_what_the_reference_computes(name):
    config, vertices, keypoints = RELEASES[name]
    shapes = json.loads((REFERENCE / f"keys_{name}_freihand.json").read_text())
    golden = np.load(REFERENCE / f"golden_{name}_freihand.npz")
    net = MobRecon(config, MeshHierarchy.from_assets(REFERENCE)).eval()
    net.load_state_dict({key: torch.as_tensor(value) for key, value in recipe().fill(shapes).items()}, strict=True)
    with torch.no_grad():
        out = net(torch.as_tensor(recipe().reference_input(config.size)))
    # With these weights the mesh spans 0.03 to 0.07 units: the bound is far below what a misplaced part changes.
    np.testing.assert_allclose(out.levels[0].numpy(), golden[vertices], atol=1e-6)
    np.testing.assert_allclose(out.keypoints.numpy(), golden[keypoints], atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (2, 2), (3, 7), (1, 5)])
def test_sampling_by_tents_is_bilinear_sampling(height, width):
    torch.manual_seed(0)
    features = torch.randn(3, 5, height, width, dtype=torch.float64)
    corners = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0.5]], dtype=torch.float64).expand(3, -1, -1)
    points = torch.cat([corners, 1.6 * torch.rand(3, 40, 2, dtype=torch.float64) - 0.3], 1)  # some of them outside
    grid = (2 * points.clamp(0, 1) - 1)[:, :, None]
    expected = F.grid_sample(features, grid, align_corners=True)[:, :, :, 0].transpose(1, 2)
    torch.testing.assert_close(sample(features, points), expected)


def test_space_to_depth_and_a_pointwise_convolution_are_one_convolution():
    torch.manual_seed(0)
    layer, x = SpaceToDepthConv(5, 7), torch.randn(2, 5, 6, 8)
    expected = F.conv2d(F.pixel_unshuffle(x, 2), layer.weight)
    torch.testing.assert_close(layer(x), expected)


def test_hidden_values_behind_linear_layers_stay_between_0_and_4(net):
    torch.manual_seed(0)
    squeeze = net.backbone.dense_stack2.senet1.fc1
    for layer in (squeeze, *net.backbone.uv_reg[:2]):
        out = layer(1000 * torch.randn(8, layer[0].in_features))
        assert (out.min(), out.max()) == (0, 4)


def test_folding_leaves_the_network_and_what_it_computes(net):
    image = torch.randn(2, 3, 64, 64)
    norms = sum(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in net.modules())
    folded = fold_batch_norm(net)
    assert norms > 100
    assert norms == sum(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in net.modules())
    assert not any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in folded.modules())
    with torch.no_grad():
        there, back = net(image), folded(image)
    torch.testing.assert_close(back.levels[0], there.levels[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(back.keypoints, there.keypoints, atol=1e-5, rtol=1e-5)


def test_folding_takes_only_what_is_one_affine_map_in_inference():
    torch.manual_seed(0)
    by_batch = nn.BatchNorm2d(4, track_running_stats=False)
    row = nn.Sequential(nn.Conv2d(3, 4, 1), by_batch, nn.Conv2d(4, 4, 1), nn.ReLU(), nn.BatchNorm2d(4))
    vectors = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 6), nn.BatchNorm1d(6, affine=False))
    for norm in (row[4], vectors[1], vectors[3]):
        nn.init.normal_(norm.running_mean)
    net = nn.Sequential(row, nn.AdaptiveAvgPool2d(1), nn.Flatten(), vectors).train()
    folded = fold_batch_norm(net)
    kinds = [type(module) for module in (*folded[0], *folded[3])]
    untouched = [nn.Conv2d, nn.BatchNorm2d, nn.Conv2d, nn.ReLU, nn.BatchNorm2d]
    assert kinds == [*untouched, nn.Linear, nn.Identity, nn.Linear, nn.BatchNorm1d]
    assert net.training
    assert not folded.training
    image = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(folded(image), net.eval()(image))


def test_every_parameter_that_the_reference_uses_learns(net):
    net = copy.deepcopy(net)
    torch.manual_seed(0)
    out = net(torch.randn(2, 3, 64, 64))
    (out.levels[0] * torch.randn_like(out.levels[0])).sum().add((out.keypoints**2).sum()).backward()
    still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == [name for name, _ in net.named_parameters() if name.startswith(UNUSED)]


def test_the_mesh_teaches_the_keypoints_of_the_other_half(net):
    torch.manual_seed(0)
    features, keypoints = torch.randn(1, 256, 2, 2), torch.rand(1, 21, 2, requires_grad=True)
    weights = torch.randn(1, 778, 3)
    (net.decode(features, keypoints) * weights).sum().backward()
    assert (keypoints.grad.abs().sum(2) > 0).all()


def test_both_halves_make_the_whole(net, hierarchy):
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features, keypoints = net.encode(image)
        out = net(image)
        torch.testing.assert_close(net.decode(features, keypoints), out.levels[0])
    assert features.shape == (2, net.config.channels[-1], 2, 2)
    assert out.keypoints.shape == (2, 21, 2)
    assert [level.shape for level in out.levels] == [(2, len(hierarchy.template), 3)]


@pytest.mark.parametrize("size", [(96, 96), (64, 96), (128, 64)])
def test_an_image_of_another_size_is_refused_with_the_size_that_fits(net, size):
    with pytest.raises(ValueError, match=rf"image of {size[1]} x {size[0]} pixels: .* resize the image to 64 x 64"):
        net(torch.zeros(1, 3, *size))


@pytest.mark.parametrize("size", [0, 48, 100])
def test_a_size_that_cannot_be_halved_five_times_is_refused(size):
    with pytest.raises(ValueError, match=f"image size {size}: .* multiple of 32"):
        DenseStackBackbone(size)


def test_a_mesh_of_other_levels_is_refused(hierarchy):
    config = PaperConfig("mobrecon", "densestack", 64, 21, (32, 64), (9, 9), (1, 1))
    with pytest.raises(ValueError, match="2 levels of channels for a mesh of 4 up-samplings"):
        MobRecon(config, hierarchy)
