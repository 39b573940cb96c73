# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from cmr_models.hand import load_hand
from cmr_models.network.device_spiral import DeviceSpiral
from cmr_models.network.spiral import SpiralDecoder


@pytest.fixture(scope="module", params=[(8, 12, 16, 20), (12, 16, 20), (16, 20)], ids=len)
def decoder(request: pytest.FixtureRequest) -> SpiralDecoder:
    """Every weight and bias random: at the start some are zero, and would hide that one is forgotten."""
    torch.manual_seed(0)
    decoder = SpiralDecoder(load_hand(), 16, request.param)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.normal_(std=0.3)
    return decoder.eval()


@pytest.mark.parametrize("many", [0, 300, 10_000])
def test_it_is_the_decoder_that_was_trained(decoder: SpiralDecoder, many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmr_models.network.device_spiral._MANY", many)
    hand = load_hand()
    lift = torch.randn(len(hand.level_template(3)), 21)
    tokens = torch.randn(21, 16)
    with torch.no_grad():
        expected = decoder((lift @ tokens)[None])[0][0]
        found = DeviceSpiral(decoder, lift)(tokens)
    assert found.shape == (778, 3)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_vertices_come_relative_to_the_root_and_in_the_unit_wanted(decoder: SpiralDecoder) -> None:
    hand = load_hand()
    root = torch.as_tensor(hand.joint_regressor[9:10]).float()
    lift, tokens = torch.randn(98, 21), torch.randn(21, 16)
    with torch.no_grad():
        plain = DeviceSpiral(decoder, lift)(tokens)
        found = DeviceSpiral(decoder, lift, root, 0.1)(tokens)
    expected = 0.1 * (plain - root @ plain)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_it_keeps_its_weights_when_training_goes_on(decoder: SpiralDecoder) -> None:
    lift, tokens = torch.randn(98, 21), torch.randn(21, 16)
    device = DeviceSpiral(decoder, lift)
    with torch.no_grad():
        before = device(tokens)
        for parameter in decoder.parameters():
            parameter.mul_(2)
        torch.testing.assert_close(device(tokens), before, rtol=0, atol=0)
        for parameter in decoder.parameters():
            parameter.mul_(0.5)


def test_a_hierarchy_that_drops_no_vertices_only_moves_them_is_refused(decoder: SpiralDecoder) -> None:
    up = decoder.up[str(decoder.finest)]
    weight = up.weight.clone()
    up.weight.fill_(1 / 3)  # no fine vertex is a coarse one any more
    try:
        with pytest.raises(ValueError, match="are not among the finer ones"):
            DeviceSpiral(decoder, torch.randn(98, 21))
    finally:
        up.weight.copy_(weight)
