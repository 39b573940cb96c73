# SPDX-License-Identifier: Apache-2.0
"""Checkpoints from outside: found in their wrappings, refused in one sentence where they do not fit."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cmr_models.paper.build import build
from cmr_models.paper.config import paper_config
from cmr_models.paper.hierarchy import MeshHierarchy
from cmr_models.paper.recognise import load_paper_checkpoint, read_state_dict, recognise

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
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
    ],
    ids=["bare", "model_state_dict", "parallel"],
)
def test_weights_are_found_bare_wrapped_and_with_the_prefix_of_parallel_training(tmp_path, state, wrap):
    torch.save(wrap(state), tmp_path / "net.pt")
    net = load_paper_checkpoint(tmp_path / "net.pt", HAND)
    assert not net.training
    assert net.state_dict().keys() == state.keys()
    for key, value in net.state_dict().items():
        torch.testing.assert_close(value, state[key], rtol=0, atol=0)


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
