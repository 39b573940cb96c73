# SPDX-License-Identifier: Apache-2.0
"""`cmr-export`: what it prints, and how it refuses."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from exported import exported

from cmr_export import bundle as bundle_module
from cmr_export.cli import main
from cmr_export.parity import Difference
from cmr_models.paper.config import paper_config
from cmr_models.paper.objective import PaperObjective, PaperRecipe
from cmr_runtime import Bundle


@pytest.fixture
def ready_graphs(monkeypatch):
    """Skip the tracing: the graphs are those of the export that all tests share."""
    graphs = {"prior": exported().bundle.prior, "mesh": exported().bundle.mesh}
    monkeypatch.setattr(bundle_module, "trace", lambda network: dict(graphs))


def refused(capsys, checkpoint, out, *options) -> str:
    """Run the command on what it must refuse; return its one line."""
    out.write_bytes(b"as before")
    assert main(["--ckpt", str(checkpoint), "--out", str(out), *map(str, options)]) == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert out.read_bytes() == b"as before"
    assert [p.name for p in out.parent.iterdir() if "hand.cmr" in p.name] == [out.name]
    assert error.startswith("cmr-export: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error


def test_a_good_checkpoint_becomes_a_bundle_with_a_report(tmp_path, capsys):
    out = tmp_path / "hand.cmr"
    out.write_bytes(b"as before")
    assert main(["--ckpt", str(exported().checkpoint), "--out", str(out)]) == 0
    again = exported().checkpoint.parent / "hand.cmr"
    assert out.read_bytes() == again.read_bytes()  # the same checkpoint gives the same file
    output, error = capsys.readouterr()
    assert error == ""
    for word in ("parity", "mesh.vertices", "prior.heatmaps", "multiply-adds", f"{out.stat().st_size:,} bytes"):
        assert word in output


def test_a_name_of_ones_own(tmp_path, ready_graphs):
    out = tmp_path / "hand.cmr"
    assert main(["--ckpt", str(exported().checkpoint), "--out", str(out), "--name", "mine"]) == 0
    assert Bundle.open(out).name == "mine"


def test_a_missing_checkpoint(tmp_path, capsys):
    assert "absent.pt" in refused(capsys, tmp_path / "absent.pt", tmp_path / "hand.cmr")


def test_a_folder_is_no_checkpoint(tmp_path, capsys):
    (tmp_path / "folder.pt").mkdir()
    assert "folder.pt" in refused(capsys, tmp_path / "folder.pt", tmp_path / "hand.cmr")


def test_a_foreign_checkpoint(tmp_path, capsys):
    torch.save({"state_dict": {"backbone.conv1.weight": torch.zeros(2)}}, tmp_path / "their.pt")
    error = refused(capsys, tmp_path / "their.pt", tmp_path / "hand.cmr")
    assert "their.pt: not a checkpoint of this project's training" in error
    assert "give --assets DIR" in error
    assert "transform.pkl" in error


def paper_checkpoint(path, change=lambda content: None):
    """Write a small network of the paper as the training script does, with random weights."""
    torch.manual_seed(0)
    objective = PaperObjective(paper_config("mobrecon_ds", size=64), PaperRecipe())
    objective.save(path, objective.net, json.dumps({"step": 7, "licence": "MIT", "licence_text": "Free."}))
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    return path


def test_a_network_of_the_paper_trained_here(tmp_path, capsys):
    assert main(["--ckpt", str(paper_checkpoint(tmp_path / "own.pt")), "--out", str(tmp_path / "hand.cmr")]) == 0
    assert "mesh.vertices" in capsys.readouterr().out
    bundle = Bundle.open(tmp_path / "hand.cmr")
    assert (bundle.architecture, bundle.input_size, bundle.licence) == ("mobrecon_ds", 64, "MIT")
    assert bundle.provenance["training_steps"] == "7"
    np.testing.assert_array_equal(bundle.topology.faces, exported().bundle.topology.faces)  # on this project's hand


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda content: content.pop("config"), "config"),
        (lambda content: content["config"].update(wings=2), "wings"),
        (lambda content: content["config"].update(backbone="vit"), "mobrecon_ds' with backbone 'vit'; choose from"),
        (lambda content: content["config"].update(architecture="cmr_x"), "unknown network: architecture 'cmr_x'"),
        (lambda content: content.update(about='{"sources": ["web"]}'), "sources {name: text}"),
        (lambda content: content["model_state_dict"]["decoder3d.upsample"].fill_(torch.nan), "not finite"),
        (lambda content: content["model_state_dict"].pop("decoder3d.upsample"), "missing decoder3d.upsample"),
    ],
    ids=["no configuration", "unknown choice", "backbone", "architecture", "sources", "not finite", "missing weight"],
)
def test_a_network_of_the_paper_that_does_not_fit_itself(tmp_path, capsys, change, word):
    error = refused(capsys, paper_checkpoint(tmp_path / "own.pt", change), tmp_path / "hand.cmr")
    assert "own.pt" in error
    assert word in error


def test_assets_belong_to_foreign_checkpoints(tmp_path, capsys):
    error = refused(capsys, exported().checkpoint, tmp_path / "hand.cmr", "--assets", tmp_path)
    assert "leave out --assets" in error
    for option in ("--size", "--dilation"):
        error = refused(capsys, paper_checkpoint(tmp_path / "own.pt"), tmp_path / "hand.cmr", option, "64")
        assert f"own.pt: states its own mesh, architecture and sizes; leave out {option}" in error


def test_assets_without_the_files(tmp_path, capsys):
    torch.save({"de_layers.0.weight": torch.zeros(2, 2)}, tmp_path / "their.pt")
    error = refused(capsys, tmp_path / "their.pt", tmp_path / "hand.cmr", "--assets", tmp_path / "nowhere")
    assert "their.pt" in error


def test_a_joint_regressor_of_ones_own(tmp_path, ready_graphs):
    own = np.roll(exported().bundle.topology.joint_regressor, 1, axis=1)
    np.save(tmp_path / "joints.npy", own)
    out = tmp_path / "hand.cmr"
    command = ["--ckpt", exported().checkpoint, "--out", out, "--joint-regressor", tmp_path / "joints.npy"]
    assert main([str(part) for part in command]) == 0
    bundle = Bundle.open(out)
    np.testing.assert_array_equal(bundle.topology.joint_regressor, own)
    digest = hashlib.sha256((tmp_path / "joints.npy").read_bytes()).hexdigest()
    assert bundle.provenance["joint_regressor_sha256"] == digest
    assert bundle.provenance["photos"] == "our own"


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (np.zeros((21, 5), np.float32), "shape (21, 5)"),
        (np.full((21, 778), 2 / 778, np.float32), "joints.npy: a row sums to 2.0000"),
        (np.full((21, 778), np.nan, np.float32), "joints.npy: holds values that are not finite"),
        (np.array([Path()], object), "no .npy array"),
        (b"PK\x03\x04 cut short", "no .npy array"),
        (b"\x93NUMPY\x01\x00\x3f\x00{'descr':'<f4','fortran_order':False,'shape':(21,10000000000)}\n", "it holds 0"),
        (None, "No such file"),
    ],
    ids=["shape", "sum", "no number", "pickle", "archive", "huge", "absent"],
)
def test_a_joint_regressor_that_does_not_fit_is_refused_before_any_work(tmp_path, capsys, monkeypatch, content, word):
    monkeypatch.setattr(bundle_module, "trace", lambda network: pytest.fail("traced"))
    if isinstance(content, bytes):
        (tmp_path / "joints.npy").write_bytes(content)
    elif content is not None:
        np.save(tmp_path / "joints.npy", content, allow_pickle=True)
    options = ("--joint-regressor", tmp_path / "joints.npy")
    assert word in refused(capsys, exported().checkpoint, tmp_path / "hand.cmr", *options)


def test_options_that_contradict_each_other(tmp_path, capsys):
    out, checkpoint = tmp_path / "hand.cmr", exported().checkpoint
    assert "widens fp16 weights again" in refused(capsys, checkpoint, out, "--precision", "fp16", "--format", "ort")
    assert "--calibration belongs to" in refused(capsys, checkpoint, out, "--calibration", tmp_path)


def test_a_calibration_folder_without_images(tmp_path, capsys, ready_graphs):
    (tmp_path / "empty").mkdir()
    options = ("--precision", "int8", "--calibration", tmp_path / "empty")
    assert "no folder with images" in refused(capsys, exported().checkpoint, tmp_path / "hand.cmr", *options)


def test_text_and_a_cut_file(tmp_path, capsys):
    (tmp_path / "text.pt").write_text("hello")
    assert "text.pt" in refused(capsys, tmp_path / "text.pt", tmp_path / "hand.cmr")
    (tmp_path / "cut.pt").write_bytes(exported().checkpoint.read_bytes()[:-5000])
    assert "cut.pt" in refused(capsys, tmp_path / "cut.pt", tmp_path / "hand.cmr")


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_pickle_that_would_run_code(tmp_path, capsys):
    torch.save({"format": "cmr-handnet-1", "bomb": Bomb(str(tmp_path / "ran"))}, tmp_path / "bomb.pt")
    assert "bomb.pt" in refused(capsys, tmp_path / "bomb.pt", tmp_path / "hand.cmr")
    assert not (tmp_path / "ran").exists()


def edited(tmp_path, change) -> object:
    content = torch.load(exported().checkpoint, weights_only=True)
    change(content)
    torch.save(content, tmp_path / "edited.pt")
    return tmp_path / "edited.pt"


def test_a_missing_weight(tmp_path, capsys):
    path = edited(tmp_path, lambda content: content["state_dict"].pop("prior.head.bias"))
    assert "prior.head.bias" in refused(capsys, path, tmp_path / "hand.cmr")


def test_a_weight_of_another_shape(tmp_path, capsys):
    path = edited(tmp_path, lambda content: content["state_dict"].update({"prior.head.bias": torch.zeros(5)}))
    assert "prior.head.bias" in refused(capsys, path, tmp_path / "hand.cmr")


@pytest.mark.parametrize("part", ["config", "topology", "state_dict"])
def test_a_missing_part(tmp_path, capsys, part):
    path = edited(tmp_path, lambda content: content.pop(part))
    assert part in refused(capsys, path, tmp_path / "hand.cmr")


def test_a_graph_that_differs(tmp_path, capsys, monkeypatch, ready_graphs):
    monkeypatch.setattr(bundle_module, "parity", lambda *a: {"prior.heatmaps": Difference(0.5, 0.1)})
    assert "differ" in refused(capsys, exported().checkpoint, tmp_path / "hand.cmr")


def test_a_simplification_that_changes_the_result(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("cmr_export.graphs.onnxsim.simplify", lambda model: (model, False))
    assert "simplifying" in refused(capsys, exported().checkpoint, tmp_path / "hand.cmr")


def test_a_folder_that_does_not_exist(tmp_path, capsys, ready_graphs):
    out = tmp_path / "nowhere" / "hand.cmr"
    assert main(["--ckpt", str(exported().checkpoint), "--out", str(out)]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not out.parent.exists()


def test_without_torch_the_command_says_what_to_install(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "cmr_export.bundle", None)
    assert main(["--ckpt", str(tmp_path / "x.pt")]) == 2
    assert "pip install 'cmr-runtime[export]'" in capsys.readouterr().err


def test_the_checkpoint_must_be_named(capsys):
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2
    assert "--ckpt" in capsys.readouterr().err
