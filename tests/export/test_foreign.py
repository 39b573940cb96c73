# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that say nothing of themselves: what is assumed is said, and the bundle says what it was made of."""

import hashlib
from pathlib import Path

import exported  # noqa: F401  (the tests of the models share their helpers)
import numpy as np
import pytest
import torch
from paper_assets import write_transform

from cmr_export.checkpoint import load
from cmr_export.cli import main
from cmr_models.paper.assets import FROM_MANO
from cmr_models.paper.build import build
from cmr_models.paper.config import paper_config
from cmr_models.paper.hierarchy import MeshHierarchy
from cmr_runtime import Bundle

HAND = MeshHierarchy.from_hand()
SMALL = {"channels": (8, 8, 8, 8), "spiral_lengths": (9, 9, 9, 9)}


@pytest.fixture(scope="module")
def assets(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("assets")
    write_transform(folder, HAND)
    mano = np.empty_like(HAND.joint_regressor)
    mano[list(FROM_MANO)] = HAND.joint_regressor
    np.save(folder / "j_reg.npy", mano)
    return folder


@pytest.fixture(scope="module")
def theirs(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("theirs") / "their.pt"
    torch.manual_seed(0)
    torch.save(build(paper_config("ytbhand_spiral_resnet18", **SMALL), HAND).state_dict(), path)
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_was_assumed_and_what_it_was_made_of_goes_into_report_and_bundle(assets, theirs, tmp_path, capsys):
    out = tmp_path / "hand.cmr"
    assert main([*map(str, ("--ckpt", theirs, "--assets", assets, "--out", out, "--size", 64))]) == 0
    output, bundle = capsys.readouterr().out, Bundle.open(out)
    assert bundle.input_size == 64
    assert "assumed, as the weights do not tell: dilation 1 (--dilation)\n" in output
    assert bundle.provenance["assumed"] == "dilation 1 (--dilation)"
    assert bundle.provenance["checkpoint_sha256"] == digest(theirs)
    assert bundle.provenance["transform_sha256"] == digest(assets / "transform.pkl")
    assert bundle.provenance["joint_regressor_sha256"] == digest(assets / "j_reg.npy")
    assert bundle.licence == "not stated"
    for words in ("states no terms", "transform.pkl, j_reg.npy", "MANO (hand) or SMPL (body)", "non-commercial"):
        assert words in bundle.licence_text


def test_nothing_is_assumed_where_all_is_stated(assets, theirs):
    told = load(theirs, assets)
    assert told.size == 224
    assert told.about["sources"]["assumed"] == "input 224 px (--size), dilation 1 (--dilation)"
    stated = load(theirs, assets, size=256, dilation=2)
    assert stated.size == 256
    assert "assumed" not in stated.about["sources"]
    code = torch.linspace(-1, 1, 1000)[None]
    with torch.no_grad():
        assert not torch.allclose(told.mesh(code)[0], stated.mesh(code)[0])


def test_the_regressor_in_use_is_the_one_that_is_named(assets, theirs, tmp_path):
    np.save(tmp_path / "own.npy", HAND.joint_regressor[::-1])
    about = load(theirs, assets, joint_regressor=tmp_path / "own.npy").about
    assert about["sources"]["joint_regressor_sha256"] == digest(tmp_path / "own.npy")
    assert "own.npy" in about["licence_text"]
    assert "j_reg.npy" not in about["licence_text"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--size", "100"), "size is 100; need a multiple of 32"),
        (("--dilation", "0"), "dilation is 0; need at least 1"),
        (("--arch", "handnet"), "unknown network 'handnet'; choose from"),
        (("--arch", "mobrecon"), "the weights belong to another network"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(assets, theirs, tmp_path, capsys, options, message):
    arguments = ["--ckpt", str(theirs), "--assets", str(assets), "--out", str(tmp_path / "hand.cmr"), *options]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"cmr-export: {theirs}: ")
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
