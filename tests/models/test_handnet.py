# SPDX-License-Identifier: Apache-2.0
"""Both stages as one network: what flows where, and its checkpoint."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_net import CONFIG, SIZE, lively_net, small_net

from cmr_models.hand import ROOT_JOINT, load_hand
from cmr_models.network import load_checkpoint, save_checkpoint
from cmr_models.network.spiral import DepthwiseSpiral, SpiralDecoder, UpSample
from cmr_models.network.staged import load_staged

HAND = load_hand()


def images(count: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def net():
    return lively_net()


# What the stages compute


def test_shapes(net):
    with torch.no_grad():
        prior, mesh = net(images())
    quarter = SIZE // 4
    assert prior.heatmaps.shape == mesh.heatmaps.shape == (2, 21, quarter, quarter)
    assert prior.silhouette.shape == (2, 1, quarter, quarter)
    assert prior.presence.shape == prior.right.shape == (2, 1)
    assert prior.features.shape == (2, 24, SIZE // 8, SIZE // 8)
    assert mesh.silhouette.shape == (2, 1, SIZE // 2, SIZE // 2)
    assert [v.shape for v in mesh.levels] == [(2, len(HAND.level_template(k)), 3) for k in net.mesh.spiral.shown]


def test_images_of_a_batch_do_not_mix(net):
    x = images(3)
    with torch.no_grad():
        together, alone = net(x), net(x[1:2])
    torch.testing.assert_close(together.mesh.levels[0][1:2], alone.mesh.levels[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.mesh.heatmaps[1:2], alone.mesh.heatmaps, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together.prior.presence[1:2], alone.prior.presence, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_root_joint_of_the_mesh_is_the_origin(seed):
    with torch.no_grad():
        vertices = lively_net(seed)(images(seed=seed)).mesh.levels[0]
    joints = torch.as_tensor(HAND.joint_regressor) @ vertices
    assert joints[:, ROOT_JOINT].abs().max() < 1e-6
    assert joints.abs().max() > 0.01  # the others are not


def test_the_prior_alone_decides_presence_and_handedness(net):
    x = images()
    with torch.no_grad():
        both, alone = net(x).prior, net.prior(x)
    for a, b in zip(both, alone, strict=True):
        assert torch.equal(a, b)


def test_the_mesh_stage_takes_probabilities_and_the_shallow_features(net):
    with torch.no_grad():
        prior, mesh = net(images())
        again = net.mesh(prior.features, torch.sigmoid(prior.heatmaps), torch.sigmoid(prior.silhouette))
    assert torch.equal(again.levels[0], mesh.levels[0])
    assert torch.equal(again.heatmaps, mesh.heatmaps)


def trunk_output(mesh, features, heatmaps, silhouette) -> torch.Tensor:
    seen = []
    handle = mesh.trunk.register_forward_hook(lambda module, inputs, output: seen.append(output[1]))
    with torch.no_grad():
        mesh(features, heatmaps, silhouette)
    handle.remove()
    return seen[0]


def test_before_training_the_cues_leave_the_second_encoder_alone():
    features, quarter = torch.rand(1, 24, SIZE // 8, SIZE // 8), SIZE // 4
    empty = torch.zeros(1, 21, quarter, quarter), torch.zeros(1, 1, quarter, quarter)
    full = torch.rand(1, 21, quarter, quarter), torch.rand(1, 1, quarter, quarter)
    fresh, trained = small_net().mesh, lively_net().mesh
    assert torch.equal(trunk_output(fresh, features, *empty), trunk_output(fresh, features, *full))
    with torch.no_grad():
        assert torch.equal(trunk_output(fresh, features, *full), fresh.trunk(features)[1])
    assert not torch.equal(trunk_output(trained, features, *empty), trunk_output(trained, features, *full))


def test_start_from_gives_both_encoders_one_function():
    source, net = small_net(1).prior.trunk, small_net(2)
    weights = {}
    for k, module in source.convolutions():
        weights |= {f"conv_{k}_{name}": p.detach().numpy() for name, p in module.named_parameters()}
    for head, value in ((0, 0.25), (1, -0.5)):
        weights[f"head_{head}_weight"] = np.full((1, 672), value, np.float32)
        weights[f"head_{head}_bias"] = np.full(1, 2 * value, np.float32)
    net.start_from(weights)
    x = images()
    with torch.no_grad():
        levels, pooled = source(x)
        prior = net.prior(x)
        torch.testing.assert_close(net.mesh.trunk(prior.features)[1], pooled)
        torch.testing.assert_close(prior.features, levels[2])
        torch.testing.assert_close(prior.right, 0.25 * pooled.sum(1, keepdim=True) + 0.5)
        torch.testing.assert_close(prior.presence, -0.5 * pooled.sum(1, keepdim=True) - 1)


def test_gradients_reach_every_parameter():
    net = lively_net().train()
    prior, mesh = net(images())
    outputs = [*prior[:4], *mesh.levels, mesh.heatmaps, mesh.silhouette, mesh.presence]
    sum((v * torch.randn_like(v)).sum() for v in outputs).backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


def test_the_projection_that_starts_at_zero_can_learn():
    net = small_net().train()
    net(images()).mesh.heatmaps.square().sum().backward()
    assert not net.mesh.project.weight.any()
    assert net.mesh.project.weight.grad.any()


# Spiral decoder


def test_up_sampling_is_the_sparse_matrix():
    level = len(HAND.up_index) - 1
    index, weight = HAND.up_index[level], HAND.up_weight[level]
    coarse = len(HAND.level_template(level + 1))
    matrix = np.zeros((len(index), coarse), np.float32)
    np.add.at(matrix, (np.arange(len(index))[:, None], index), weight)
    x = torch.randn(2, coarse, 5)
    found = UpSample(torch.as_tensor(index), torch.as_tensor(weight))(x)
    torch.testing.assert_close(found, torch.as_tensor(matrix) @ x)


def test_a_depthwise_spiral_is_a_sum_over_the_walk():
    spirals = torch.tensor([[0, 1, 2], [1, 2, 3], [2, 3, 0], [3, 0, 1]])
    module = DepthwiseSpiral(spirals, 2)
    x = torch.randn(1, 4, 2)
    with torch.no_grad():
        found = module(x)
    for v in range(4):
        for c in range(2):
            weights = module.weight[:, c].tolist()
            wanted = sum(float(x[0, n, c]) * w for n, w in zip(spirals[v].tolist(), weights, strict=True))
            assert float(found[0, v, c]) == pytest.approx(wanted, abs=1e-5)


def test_a_depthwise_spiral_has_the_gradients_of_its_sum():
    torch.manual_seed(0)
    spirals = torch.tensor([[0, 1, 1], [1, 2, 3], [2, 3, 0]])  # a walk may meet a vertex twice
    module = DepthwiseSpiral(spirals, 2).double()
    x = torch.randn(2, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, weight: torch.func.functional_call(module, {"weight": weight}, (x,)), (x, module.weight)
    )


def test_finer_levels_are_averaged_with_the_up_sampled_coarser_one():
    torch.manual_seed(0)
    decoder = SpiralDecoder(HAND, 4, (4, 4, 4, 4))
    with torch.no_grad():
        for level in range(decoder.levels):  # silence all but the coarsest
            decoder.heads[str(level)].weight.zero_()
        decoder.heads[str(decoder.levels)].bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
        levels = decoder(torch.randn(1, len(HAND.level_template(decoder.levels)), 4))
        for k in range(decoder.levels):
            torch.testing.assert_close(levels[k], decoder.up[str(k)](levels[k + 1]) / 2)
    assert levels[-1].abs().min() > 0


@pytest.mark.parametrize(("widths", "shown"), [((8, 8, 8), (0, 1, 2, 3)), ((8, 8), (0, 2, 3))])
def test_levels_without_layers_follow_from_the_finest_that_has_some(widths, shown):
    torch.manual_seed(0)
    whole, decoder = SpiralDecoder(HAND, 4, (8, 8, 8, 8)), SpiralDecoder(HAND, 4, widths)
    assert decoder.shown == shown
    of_decoder = decoder.state_dict()
    decoder.load_state_dict({k: v for k, v in whole.state_dict().items() if k in of_decoder}, strict=False)
    x = torch.randn(2, len(HAND.level_template(decoder.levels)), 4)
    with torch.no_grad():
        of_whole, found = whole(x), decoder(x)
    for level, vertices in zip(shown[1:], found[1:], strict=True):
        torch.testing.assert_close(vertices, of_whole[level])
    index, weight = HAND.surface_index[decoder.finest - 1], torch.as_tensor(HAND.surface_weight[decoder.finest - 1])
    torch.testing.assert_close(found[0], (found[1][:, index] * weight[..., None]).sum(2), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_decoder_of_too_few_or_too_many_levels_is_refused(count):
    with pytest.raises(ValueError, match=f"layers on {count} mesh levels; need 2 to 4"):
        SpiralDecoder(HAND, 4, (8,) * count)


# Checkpoint


def test_a_checkpoint_gives_the_network_back(tmp_path):
    net, path = lively_net(), tmp_path / "net.pt"
    save_checkpoint(path, net, about="{}", step=7)
    again, content = load_checkpoint(path)
    assert not again.training
    assert again.config == CONFIG
    assert content["step"] == 7
    assert not list(tmp_path.glob("*.tmp"))
    with torch.no_grad():
        a, b = net(images()), again(images())
    assert torch.equal(a.mesh.levels[0], b.mesh.levels[0])
    assert torch.equal(a.prior.right, b.prior.right)
    topology = content["topology"]
    np.testing.assert_array_equal(topology["template"], HAND.template)
    np.testing.assert_array_equal(topology["faces"], HAND.faces)
    assert topology["root_joint"] == ROOT_JOINT


def test_a_checkpoint_of_before_has_all_blocks_and_recalls_nothing(tmp_path):
    path, before = tmp_path / "net.pt", lively_net(config=replace(CONFIG, recall=False))
    save_checkpoint(path, before)
    content = torch.load(path, weights_only=True)
    for name in ("prior_blocks", "mesh_blocks", "recall", "stem", "rank", "clipped"):
        del content["config"][name]
    torch.save(content, path)
    again, _ = load_checkpoint(path)
    assert (again.config.prior_blocks, again.config.recall, again.mesh.presence) == (None, False, None)
    assert (again.config.stem, again.config.rank, again.config.clipped) == (None, None, True)
    with torch.no_grad():
        assert torch.equal(before(images()).mesh.levels[0], again(images()).mesh.levels[0])


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path):
    mark, path = tmp_path / "ran", tmp_path / "bomb.pt"
    torch.save({"format": "cmr-handnet-1", "state_dict": Bomb(mark)}, path)
    with pytest.raises(ValueError, match=r"bomb\.pt: cannot be read"):
        load_checkpoint(path)
    assert not mark.exists()
    torch.load(path, weights_only=False)  # it would have run
    assert mark.exists()


def test_files_that_are_no_checkpoint_are_refused(tmp_path):
    whole, cut, text, other = (tmp_path / n for n in ("whole.pt", "cut.pt", "text.pt", "other.pt"))
    save_checkpoint(whole, small_net())
    cut.write_bytes(whole.read_bytes()[:-1000])
    text.write_text("no checkpoint")
    torch.save({"state_dict": {}}, other)
    for path in (cut, text, other, tmp_path / "absent.pt"):
        with pytest.raises(ValueError, match=path.name):
            load_checkpoint(path)
    bare = tmp_path / "bare.pt"
    torch.save(torch.zeros(3), bare)
    with pytest.raises(ValueError, match="format 'Tensor'"):
        load_checkpoint(bare)
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
        archive.writestr("readme", "hello")
    with pytest.raises(ValueError, match=r"zip\.pt"):
        load_checkpoint(tmp_path / "zip.pt")


def edited(tmp_path, change) -> object:
    path = tmp_path / "edited.pt"
    save_checkpoint(path, small_net())
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    return path


def test_missing_and_unexpected_weights_are_named(tmp_path):
    def rename(content):
        content["state_dict"]["prior.tail.weight"] = content["state_dict"].pop("prior.head.weight")

    with pytest.raises(ValueError, match=r"missing \['prior\.head\.weight'\], unexpected \['prior\.tail\.weight'\]"):
        load_checkpoint(edited(tmp_path, rename))


def test_a_weight_of_another_shape_is_refused(tmp_path):
    def cut(content):
        content["state_dict"]["prior.head.weight"] = content["state_dict"]["prior.head.weight"][:-1]

    with pytest.raises(ValueError, match=r"prior\.head\.weight"):
        load_checkpoint(edited(tmp_path, cut))


def test_an_unknown_setting_is_refused(tmp_path):
    with pytest.raises(ValueError, match="colour"):
        load_checkpoint(edited(tmp_path, lambda content: content["config"].update(colour="red")))


DAMAGES = {
    "config is a list": lambda c: c.update(config=[1]),
    "no network can be made of config": lambda c: c["config"].update(size="big"),
    "made of config ": lambda c: c["config"].update(widths=None),
    "of config": lambda c: c["config"].update(mean=(0.0, 0.0)),
    "belong to another network": lambda c: c["config"].update(prior_widths=(10**6,) * 4),  # many terabytes
    "topology is a list": lambda c: c.update(topology=[1]),
    r"topology: missing \['faces'\]": lambda c: c["topology"].pop("faces"),
    r"misshapen \['template'\]": lambda c: c["topology"].update(template="x"),
    r"misshapen \['joint_regressor'\]": lambda c: c["topology"].update(joint_regressor=torch.zeros(21, 5)),
    "root_joint None": lambda c: c["topology"].pop("root_joint"),
    "state_dict is a Tensor": lambda c: c.update(state_dict=torch.zeros(2)),
    r"misshapen \['prior\.head\.bias'\]": lambda c: c["state_dict"].update({"prior.head.bias": "a"}),
    r"unexpected \[5\]": lambda c: c["state_dict"].update({5: torch.zeros(1)}),
    r"about is '\[\]'": lambda c: c.update(about="[]"),
    "about is 'hello'": lambda c: c.update(about="hello"),
    "about is ": lambda c: c.update(about={"step": 3}),
    "about is .*sources": lambda c: c.update(about='{"sources": [1]}'),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "net.pt"
    save_checkpoint(path, small_net(), about="{}")
    return path


@pytest.mark.parametrize("message", DAMAGES)
def test_a_damaged_checkpoint_is_refused_in_one_sentence(sound, tmp_path, message):
    content = torch.load(sound, weights_only=True)
    DAMAGES[message](content)
    torch.save(content, tmp_path / "damaged.pt")
    with pytest.raises(ValueError, match=rf"damaged\.pt: .*{message}"):
        load_staged(tmp_path / "damaged.pt")


@pytest.mark.parametrize("part", ["config", "topology", "state_dict"])
def test_a_checkpoint_without_one_of_its_parts_is_refused(tmp_path, part):
    with pytest.raises(ValueError, match=part):
        load_checkpoint(edited(tmp_path, lambda content: content.pop(part)))
