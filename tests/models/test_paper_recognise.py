# SPDX-License-Identifier: Apache-2.0
"""Checkpoints from outside: found in their wrappings, refused in one sentence where they do not fit."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cmr_models.paper.build import build
from cmr_models.paper.config import PaperConfig, paper_config
from cmr_models.paper.hierarchy import MeshHierarchy
from cmr_models.paper.recognise import load_paper_checkpoint, read_state_dict, recognise, untold

HAND = MeshHierarchy.from_hand()
CONFIG = paper_config("ytbhand_spiral_resnet18", channels=(8, 8, 8, 8), spiral_lengths=(9, 9, 9, 9), size=64)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return build(CONFIG, HAND).state_dict()


@pytest.mark.parametrize(
    "wrap",
    [
        dict,
        lambda state: {"model_state_dict": state, "epoch": 7},
        lambda state: {"model": state, "optimizer": {}},
        lambda state: {"net": state},
        *(
            lambda state, prefix=prefix: {"state_dict": {prefix + key: value for key, value in state.items()}}
            for prefix in ("module.", "model.", "_orig_mod.", "module.model.", "model._orig_mod.net.")
        ),
    ],
)
def test_weights_are_found_bare_wrapped_and_behind_any_prefix(tmp_path, state, wrap):
    torch.save(wrap(state), tmp_path / "net.pt")
    net = load_paper_checkpoint(tmp_path / "net.pt", HAND)
    assert not net.training
    assert net.state_dict().keys() == state.keys()
    for key, value in net.state_dict().items():
        torch.testing.assert_close(value, state[key], rtol=0, atol=0)


def test_weights_beside_the_network_are_named_not_dropped(tmp_path, state):
    wrapped = {f"model.{key}": value for key, value in state.items()}
    torch.save({**wrapped, "loss.scale": torch.ones(2)}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"net\.pt: loss\.scale stand outside the network under 'model\.'; save"):
        read_state_dict(tmp_path / "net.pt")
    torch.save({**wrapped, **{f"ema.{key}": value for key, value in state.items()}}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"net\.pt: holds more than one network, under 'ema\.', 'model\.'; save"):
        read_state_dict(tmp_path / "net.pt")


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path, state):
    bad = {**state, "heads.0.layer.bias": torch.tensor([0.0, float("nan"), 0.0])}
    torch.save(bad, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"net\.pt: heads\.0\.layer\.bias holds values that are not finite"):
        read_state_dict(tmp_path / "net.pt")


def test_size_and_dilation_leave_no_trace_and_are_stated(tmp_path, state):
    torch.save(state, tmp_path / "net.pt")
    assert untold(CONFIG) == ("size", "dilation")
    net = load_paper_checkpoint(tmp_path / "net.pt", HAND, size=256, dilation=2)
    assert net.config == replace(CONFIG, size=256, dilations=(2, 2, 2, 2))
    wanted = build(replace(CONFIG, dilations=(2, 2, 2, 2)), HAND).eval()
    wanted.load_state_dict(state)
    code = torch.linspace(-1, 1, 1000)[None]
    with torch.no_grad():
        torch.testing.assert_close(net.decode(code), wanted.decode(code), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"size": 100}, "size is 100; need a multiple of 32"),
        ({"size": 0}, "size is 0; need a multiple of 32"),
        ({"dilation": 0}, "dilation is 0; need at least 1"),
        ({"dilation": 11}, "a spiral of 99 vertices does not fit a mesh of 98; shorten it or lower dilation"),
    ],
)
def test_sizes_and_dilations_that_cannot_be_are_refused(tmp_path, state, stated, message):
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=rf"net\.pt: {message}"):
        load_paper_checkpoint(tmp_path / "net.pt", HAND, **stated)


def test_a_size_that_the_weights_tell_is_not_overruled(tmp_path):
    config = paper_config("mobrecon_ds", size=64)
    torch.save(build(config, HAND).state_dict(), tmp_path / "net.pt")
    assert untold(config) == ("dilation",)
    assert load_paper_checkpoint(tmp_path / "net.pt", HAND, size=64, dilation=2).config.dilations == (2, 2, 2, 2)
    with pytest.raises(ValueError, match=r"size is 128; the weights of mobrecon_ds tell 64: leave it out"):
        load_paper_checkpoint(tmp_path / "net.pt", HAND, size=128)


@pytest.mark.parametrize(("architecture", "backbone"), [("cmr_xl", "resnet18"), ("cmr_pg", "resnet34")])
def test_a_configuration_of_no_network_is_refused(architecture, backbone):
    with pytest.raises(ValueError, match=rf"unknown network: architecture '{architecture}' with backbone '{backbone}'"):
        PaperConfig(architecture, backbone)


@pytest.mark.parametrize("arch", ["ytbhand_spiral_resnet18", CONFIG])
def test_a_network_can_be_named(tmp_path, state, arch):
    torch.save(state, tmp_path / "net.pt")
    found = load_paper_checkpoint(tmp_path / "net.pt", HAND, arch).config
    assert found == (CONFIG if arch is CONFIG else replace(CONFIG, size=224))  # the name leaves channels and spirals


@pytest.mark.parametrize("arch", ["ytbhand_resnet18", "ytbhand_spiral_resnet50", "cmr_pg_resnet18", "mobrecon"])
def test_another_name_is_refused_by_the_weights(tmp_path, state, arch):
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"net\.pt: missing .* the weights belong to another network"):
        load_paper_checkpoint(tmp_path / "net.pt", HAND, arch)


def test_what_does_not_fit_is_listed_in_short(tmp_path, state):
    changed = {key: value for key, value in state.items() if "layer4" not in key}
    changed["backbone.fc.bias"] = torch.zeros(3)
    changed["extra"] = torch.zeros(1)
    torch.save(changed, tmp_path / "net.pt")
    with pytest.raises(
        ValueError, match=r"net\.pt: missing backbone\.layer4.* and \d+ more, unexpected extra"
    ) as error:
        load_paper_checkpoint(tmp_path / "net.pt", HAND)
    assert "misshapen backbone.fc.bias (3,) for (1000,);" in str(error.value)
    assert len(str(error.value)) < 600


def test_another_meshs_weights_are_refused(tmp_path, state):
    torch.save({**state, "de_layers.0.weight": torch.zeros(46 * 8, 1000)}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"de_layers\.0\.weight \(368, 1000\) for \(392, 1000\); .* another mesh"):
        load_paper_checkpoint(tmp_path / "net.pt", HAND)


def test_a_folder_without_the_mesh_is_named(tmp_path, state):
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"transform\.pkl: not found"):
        load_paper_checkpoint(tmp_path / "net.pt", tmp_path)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"conv1.weight": (3, 3)}, "need de_layers or decoder3d, found conv1.weight"),
        ({"de_layers.0.weight": (9, 9)}, "no network of the paper"),
        ({"decoder3d.upsample": (49, 21)}, "no network of the paper"),
    ],
)
def test_other_networks_are_not_recognised(keys, message):
    with pytest.raises(ValueError, match=message):
        recognise({key: torch.zeros(shape) for key, shape in keys.items()})


@pytest.mark.parametrize("key", ["de_layers.1.conv.layer.weight", "heads.0.layer.weight", "attention.gamma", "more"])
def test_a_single_number_for_a_weight_is_named(state, key):
    with pytest.raises(ValueError, match=f"no network of the paper: single numbers for {key}"):
        recognise({**state, key: torch.tensor(1.0)})


class Command:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_that_would_run_code_is_refused_and_runs_nothing(tmp_path):
    torch.save({"model_state_dict": Command(tmp_path / "made")}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"net\.pt: cannot be read as a checkpoint of tensors") as error:
        read_state_dict(tmp_path / "net.pt")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "made").exists()


def test_a_truncated_file_is_refused(tmp_path, state):
    torch.save(state, tmp_path / "net.pt")
    (tmp_path / "net.pt").write_bytes((tmp_path / "net.pt").read_bytes()[:100_000])
    with pytest.raises(ValueError, match=r"net\.pt: cannot be read as a checkpoint of tensors"):
        read_state_dict(tmp_path / "net.pt")


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.zeros(1)], {"model_state_dict": {"a": 1}}])
def test_a_file_without_weights_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(ValueError, match="holds no state dict"):
        read_state_dict(tmp_path / "net.pt")
