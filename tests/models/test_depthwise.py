# SPDX-License-Identifier: Apache-2.0
"""Depthwise 5×5 convolutions against PyTorch's own, and that the trunk learns by them."""

import pytest
import torch
from torch.nn import functional as F

from cmr_models.network import depthwise, trunk
from cmr_models.network.depthwise import Depthwise5


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 16, 1, 1), (4, 8, 2, 3), (3, 32, 10, 10)])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("stride", "padding"), [(1, 2), (1, 3), (2, 2), (2, 3)])
def test_values_and_gradients_are_those_of_the_usual_convolution(
    shape: tuple[int, ...], last: bool, stride: int, padding: int
) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    x.requires_grad_()
    layer = Depthwise5(shape[1], stride, padding).double()
    given, wanted = layer(x), F.conv2d(x, layer.weight, layer.bias, stride, padding, 1, shape[1])
    upstream = torch.randn_like(wanted)
    torch.testing.assert_close(given, wanted)
    ours = torch.autograd.grad(given, (x, *layer.parameters()), upstream)
    theirs = torch.autograd.grad(wanted, (x, *layer.parameters()), upstream)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_without_padding_and_with_rows_and_columns_that_no_kernel_reaches() -> None:
    torch.manual_seed(0)
    layer, x = Depthwise5(4, 2, 0).double(), torch.randn(2, 4, 13, 10, dtype=torch.float64, requires_grad=True)
    ours = torch.autograd.grad(layer(x).square().sum(), (x, *layer.parameters()))
    usual = F.conv2d(x, layer.weight, layer.bias, 2, 0, 1, 4)
    for one, other in zip(ours, torch.autograd.grad(usual.square().sum(), (x, *layer.parameters())), strict=True):
        torch.testing.assert_close(one, other)


def test_what_does_not_learn_has_no_gradient() -> None:
    layer, x = Depthwise5(2), torch.randn(1, 2, 6, 6)
    layer.bias.requires_grad_(False)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    assert layer.bias.grad is None
    assert x.grad is None


def test_a_block_learns_by_it_on_a_processor_and_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, usual = [], depthwise._Depthwise5.apply
    monkeypatch.setattr(depthwise._Depthwise5, "apply", lambda *args: calls.append(1) or usual(*args))
    torch.manual_seed(0)
    block, x = trunk.Block(24, trunk.BLOCKS[3]), torch.randn(2, 24, 8, 8)
    learning = block(x)
    assert len(calls) == 1
    with torch.no_grad():
        torch.testing.assert_close(block(x), learning.detach())
    assert len(calls) == 1
