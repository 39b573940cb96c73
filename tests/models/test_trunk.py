# SPDX-License-Identifier: Apache-2.0
"""The trunk: TensorFlow's SAME padding, resolutions, loading of converted weights."""

import numpy as np
import pytest
import torch

from cmr_models.network.hourglass import Decoder
from cmr_models.network.trunk import BLOCKS, DENSE, EXPANDED, LAST, Block, BlockSpec, Conv, Trunk, load_pretrained


def same_convolution(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int, depthwise: bool) -> np.ndarray:
    """Compute TensorFlow's SAME by its definition: out = ceil(n / stride), the odd pixel of padding behind."""
    size, kernel = x.shape[-1], weight.shape[-1]
    out_size = -(-size // stride)
    total = max((out_size - 1) * stride + kernel - size, 0)
    before = total // 2
    out = np.zeros((len(weight), out_size, out_size))
    for i in range(out_size):
        for j in range(out_size):
            for p in range(kernel):
                for q in range(kernel):
                    row, column = stride * i + p - before, stride * j + q - before
                    if 0 <= row < size and 0 <= column < size:
                        pixel = x[:, row, column]
                        out[:, i, j] += weight[:, 0, p, q] * pixel if depthwise else weight[:, :, p, q] @ pixel
    return out + bias[:, None, None]


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_padding_is_tensorflows(kernel, stride, depthwise):
    torch.manual_seed(kernel * 10 + stride)
    conv = Conv(4, 4 if depthwise else 5, kernel, stride, 4 if depthwise else 1, act=False)
    torch.nn.init.normal_(conv.conv.bias)
    x = torch.randn(1, 4, 8, 8)
    weight, bias = (p.detach().numpy() for p in (conv.conv.weight, conv.conv.bias))
    wanted = same_convolution(x[0].numpy(), weight, bias, stride, depthwise)
    clipped = Conv(4, conv.conv.out_channels, kernel, stride, conv.conv.groups)
    clipped.load_state_dict(conv.state_dict())
    with torch.no_grad():
        np.testing.assert_allclose(conv(x)[0], wanted, atol=1e-5)
        np.testing.assert_allclose(clipped(x)[0], np.clip(wanted, 0, 6), atol=1e-5)


def test_a_block_without_effect_passes_its_input_on():
    same, half, wider = (Block(6, BlockSpec(12, 3, stride, out)) for stride, out in ((1, 6), (2, 6), (1, 8)))
    for block in (same, half, wider):
        torch.nn.init.zeros_(block.project.conv.weight)
    x = torch.randn(2, 6, 4, 4)
    torch.testing.assert_close(same(x), x)
    torch.testing.assert_close(half(x), x.unflatten(3, (2, 2)).unflatten(2, (2, 2)).amax((3, 5)))
    assert wider(x).shape == (2, 8, 4, 4)
    assert not wider(x).any()


@pytest.fixture(scope="module")
def trunk() -> Trunk:
    torch.manual_seed(0)
    return Trunk().eval()


def converted(trunk: Trunk) -> dict[str, np.ndarray]:
    """What `convert_mediapipe` would write for a trunk."""
    out = {}
    for k, module in trunk.convolutions():
        out[f"conv_{k}_weight"], out[f"conv_{k}_bias"] = module.weight.detach().numpy(), module.bias.detach().numpy()
    return out


def test_levels_are_the_last_maps_of_each_resolution(trunk):
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        levels, pooled = trunk(image)
    assert [tuple(v.shape[1:]) for v in levels] == [(16, 32, 32), (16, 16, 16), (24, 8, 8), (64, 4, 4), (112, 2, 2)]
    assert pooled.shape == (1, EXPANDED)


@pytest.mark.parametrize("first", [1, 4, 9])
def test_the_rear_part_goes_on_where_the_front_stops(trunk, first):
    rear = Trunk(first)
    load_pretrained(rear, converted(trunk))
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        x = trunk.stem(image)
        for block in trunk.blocks[:first]:
            x = block(x)
        _, pooled = rear(x)
        levels, wanted = trunk(image)
    torch.testing.assert_close(pooled, wanted)
    assert len(rear.blocks) == len(BLOCKS) - first
    assert levels[-1].shape[1] == 112


@pytest.mark.parametrize("still", [0, 3, len(BLOCKS)])
def test_layers_that_do_not_learn_give_the_same_a_few_images_at_a_time(trunk, still):
    torch.manual_seed(1)
    learner = Trunk()
    load_pretrained(learner, converted(trunk))
    for layer in (learner.stem, *learner.blocks[:still]):
        layer.requires_grad_(False)
    images = torch.rand(5, 3, 64, 64)
    wanted = [trunk(image[None]) for image in images]
    levels, pooled = learner(images)
    torch.testing.assert_close(pooled, torch.cat([each for _, each in wanted]))
    for level, *parts in zip(levels, *(each for each, _ in wanted), strict=True):
        torch.testing.assert_close(level, torch.cat(parts))
    pooled.sum().backward()
    learns = [layer for layer in learner.blocks if any(p.grad is not None for p in layer.parameters())]
    assert len(learns) == len(BLOCKS) - still


def test_loading_copies_every_weight(trunk):
    other = Trunk()
    load_pretrained(other, converted(trunk))
    for (name, a), b in zip(other.state_dict().items(), trunk.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert len(converted(trunk)) == 2 * (3 + 3 * len(BLOCKS) + 2)


def test_some_of_the_blocks_take_their_own_weights(trunk):
    some = Trunk(4, (4, 5, 7, 10))
    load_pretrained(some, converted(trunk))
    x = torch.rand(1, 24, 16, 16)
    with torch.no_grad():
        levels, pooled = some(x)
        for k in (4, 5, 7, 10):
            x = trunk.blocks[k](x)
    torch.testing.assert_close(levels[-1], x)
    torch.testing.assert_close(pooled, x.mean((2, 3)))
    assert some.pooled == 112


def test_the_layers_behind_the_blocks_may_stay_where_blocks_go(trunk):
    some = Trunk(0, (0, 1, 2, 3, 4, 7, 10, LAST))
    load_pretrained(some, converted(trunk))
    assert (some.pooled, len(some.blocks)) == (EXPANDED, 7)
    ours, theirs = some.last.state_dict(), trunk.last.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    levels, pooled = some(torch.rand(1, 3, 64, 64))
    assert [level.shape[1] for level in levels] == [16, 16, 24, 64, 112]
    assert pooled.shape == (1, EXPANDED)


def test_a_dense_stem_stands_for_the_first_blocks_too(trunk):
    dense = Trunk(stem=(8, 24))
    load_pretrained(dense, converted(trunk))
    assert dense.chosen == (*range(DENSE, len(BLOCKS)), LAST)
    for place, block in zip(dense.places, dense.blocks, strict=True):
        same = trunk.blocks[place].state_dict()
        assert all(torch.equal(value, same[name]) for name, value in block.state_dict().items()), place
    image = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        levels, pooled = dense(image)
        quarter, eighth = dense.shallow(image, 3)
    assert [tuple(level.shape[1:]) for level in levels] == [(16, 16, 24), (24, 8, 12), (64, 4, 6), (112, 2, 3)]
    assert pooled.shape == (2, EXPANDED)
    torch.testing.assert_close(quarter, levels[0])
    torch.testing.assert_close(eighth, levels[1])
    with pytest.raises(ValueError, match=f"need some of {DENSE} to {LAST} in order"):
        Trunk(0, range(LAST + 1), (8, 24))


@pytest.mark.parametrize("blocks", [(4, 5, 7), (5, 7, 10), (4, 10, 7), (4, 4, 7, 10), (3, 4, 7, 10), (4, 7, 10, 15)])
def test_blocks_that_do_not_follow_one_another_are_refused(blocks):
    with pytest.raises(ValueError, match="in order, and not without"):
        Trunk(4, blocks)


@pytest.mark.parametrize("first", [0, 4])
def test_weights_of_another_architecture_are_refused(trunk, first):
    wrong = converted(trunk)
    wrong["conv_20_weight"] = wrong["conv_20_weight"][:-1]
    with pytest.raises(ValueError, match=r"convolution 20: shape .* this trunk needs"):
        load_pretrained(Trunk(first), wrong)
    lacking = converted(trunk)
    del lacking["conv_46_weight"]
    with pytest.raises(ValueError, match="convolution"):
        load_pretrained(Trunk(first), lacking)
    with pytest.raises(ValueError, match="shape None"):
        load_pretrained(Trunk(first), {})


def test_decoder_keeps_the_resolution_of_each_level():
    decoder = Decoder((4, 6, 8), (10, 12, 14)).eval()
    levels = [torch.randn(2, c, s, s) for c, s in ((4, 16), (6, 8), (8, 4))]
    with torch.no_grad():
        out = decoder(levels)
        assert [tuple(v.shape) for v in out] == [(2, 10, 16, 16), (2, 12, 8, 8), (2, 14, 4, 4)]
        # What a coarser level sees reaches every finer one, and nothing flows back.
        changed = decoder([levels[0], levels[1] + 1, levels[2]])
    assert torch.equal(changed[2], out[2])
    assert not torch.equal(changed[1], out[1])
    assert not torch.equal(changed[0], out[0])
