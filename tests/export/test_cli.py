# SPDX-License-Identifier: Apache-2.0
"""`cmr-export`: what it prints, and how it refuses."""

import pytest
import torch
from exported import exported

from cmr_export import bundle as bundle_module
from cmr_export.cli import main
from cmr_export.parity import ParityError
from cmr_runtime import Bundle


@pytest.fixture
def ready_graphs(monkeypatch):
    """Skip the tracing: the graphs are those of the export that all tests share."""
    graphs = {"image": exported().bundle.prior, "features": exported().bundle.mesh}
    monkeypatch.setattr(bundle_module, "to_onnx", lambda stage, inputs, outputs: graphs[next(iter(inputs))])


def refused(capsys, checkpoint, out) -> str:
    """Run the command on what it must refuse; return its one line."""
    out.write_bytes(b"as before")
    assert main(["--ckpt", str(checkpoint), "--out", str(out)]) == 2
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
    assert "their.pt: format None, need 'cmr-handnet-1'" in error


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
    def broken(*args):
        raise ParityError("PyTorch and ONNX Runtime differ")

    monkeypatch.setattr(bundle_module, "parity", broken)
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
