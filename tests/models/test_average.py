# SPDX-License-Identifier: Apache-2.0
"""The mean of two networks: of their weights, and where a matrix is two factors, of what these multiply to."""

import json
from dataclasses import replace

import pytest
import torch
from small_net import CONFIG, lively_net

from cmr_models.average import main, mean
from cmr_models.network import load_checkpoint, save_checkpoint

NAME = "mesh.global_features"


def product(net) -> torch.Tensor:
    factors = net.mesh.global_features
    return factors[1].weight @ factors[0].weight


def nets(rank):
    return tuple(lively_net(seed, replace(CONFIG, rank=rank)) for seed in (0, 1))


@pytest.mark.parametrize("rank", [None, 12])
def test_every_weight_is_the_mean(rank):
    first, second = nets(rank)
    ours, theirs = dict(first.named_parameters()), dict(second.named_parameters())
    with torch.no_grad():
        for share in (0.0, 0.25, 1.0):
            for name, value in mean(first, second, share).named_parameters():
                if rank is None or name not in (f"{NAME}.0.weight", f"{NAME}.1.weight"):
                    torch.testing.assert_close(value, (1 - share) * ours[name] + share * theirs[name])


def test_of_two_factors_the_products_are_averaged():
    """A rank of 12 of a sum of two such is the nearest one: what is left are the singular values behind it."""
    first, second = nets(12)
    with torch.no_grad():
        for share, wanted in ((0.0, product(first)), (1.0, product(second))):
            torch.testing.assert_close(product(mean(first, second, share)), wanted, atol=1e-5, rtol=1e-4)
        half = 0.5 * (product(first) + product(second))
        left = torch.linalg.svdvals(half)[12:].square().sum().sqrt()
        off = (product(mean(first, second, 0.5)) - half).norm()
    torch.testing.assert_close(off, left, atol=1e-5, rtol=1e-3)
    # The same function in other factors: the mean is that function still, where factors one by one would be none.
    turned = lively_net(config=first.config)
    turned.load_state_dict(first.state_dict())
    turn = torch.linalg.qr(torch.randn(12, 12))[0]
    with torch.no_grad():
        turned.mesh.global_features[0].weight.copy_(turn @ first.mesh.global_features[0].weight)
        turned.mesh.global_features[1].weight.copy_(first.mesh.global_features[1].weight @ turn.T)
        image = torch.rand(1, 3, CONFIG.size, CONFIG.size)
        wanted = first.eval()(image).mesh.levels[0]
        torch.testing.assert_close(mean(first, turned, 0.5)(image).mesh.levels[0], wanted, atol=1e-6, rtol=1e-3)


def test_the_command_says_of_what_it_is_the_mean(tmp_path, capsys):
    first, second = nets(12)
    save_checkpoint(tmp_path / "a.pt", first, about=json.dumps({"step": 1}))
    save_checkpoint(tmp_path / "b.pt", second, about=json.dumps({"step": 2, "licence": "MIT"}))
    (tmp_path / "about.json").write_text('{"licence": "Apache-2.0", "sources": {"photos": "own"}}')
    paths = [str(tmp_path / name) for name in ("a.pt", "b.pt", "c.pt")]
    main([*paths, "--share", "0.25", "--about", str(tmp_path / "about.json")])
    net, content = load_checkpoint(tmp_path / "c.pt")
    about = json.loads(content["about"])
    assert (about["step"], about["licence"], about["share"], len(set(about["mean_of"]))) == (2, "Apache-2.0", 0.25, 2)
    torch.testing.assert_close(net.state_dict()["mesh.project.bias"], mean(first, second, 0.25).mesh.project.bias)
    save_checkpoint(tmp_path / "b.pt", nets(None)[0])
    for more, word in (((), "need two of one form"), (("--share", "1.5"), "share is 1.5; need 0 to 1")):
        with pytest.raises(SystemExit):
            main([*paths, *more])
        assert word in capsys.readouterr().err
