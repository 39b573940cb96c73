# SPDX-License-Identifier: Apache-2.0
"""Checkpoint files: what is wrong with one is said in one sentence; nothing in it is run or believed."""

import json
import pickle
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from small_net import small_net

from cmr_models import train
from cmr_models.checkpoints import read_about, read_content
from cmr_models.network.handnet import load_checkpoint, save_checkpoint

SAVE = r"save the weights alone: torch\.save\(\{'model_state_dict': model\.state_dict\(\)\}, FILE\)"


def refused(path: Path) -> str:
    with pytest.raises(ValueError, match=rf"{path.name}: ") as error:
        read_content(path)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        ({"config": Path("a")}, "pathlib"),
        ({"f": eval}, "eval"),
    ],
    ids=["module", "path", "function"],
)
@pytest.mark.parametrize("archive", [True, False])
def test_what_a_file_names_beside_tensors_is_named(tmp_path, content, name, archive):
    torch.save(content, tmp_path / "net.pt", _use_new_zipfile_serialization=archive)
    with pytest.raises(ValueError, match=rf"it names \S*{name}\S*, which could run code; {SAVE}$"):
        read_content(tmp_path / "net.pt")


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("keep", [0, 0.1, 0.9])
def test_a_cut_file_is_said_to_be_cut(tmp_path, archive, keep):
    path = tmp_path / "net.pt"
    torch.save({"a": torch.zeros(1000)}, path, _use_new_zipfile_serialization=archive)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    assert refused(path).endswith(": it is cut short or damaged; copy it again")


@pytest.mark.filterwarnings("ignore:.*jit.script")
def test_other_files_are_told_apart(tmp_path):
    path = tmp_path / "net.pt"
    assert "No such file" in refused(path)
    path.write_text("hello")
    assert "no file of torch.save" in refused(path)
    path.write_bytes(pickle.dumps({"a": {1, 2}}, protocol=2))
    assert "GLOBAL" not in refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", "{}")
    assert "is a bundle already; give it to cmr-track --model" in refused(path)
    torch.jit.script(torch.nn.Linear(2, 2)).save(path)
    assert "TorchScript archive; save the weights alone" in refused(path)


@pytest.mark.parametrize(
    "wrap", [lambda t: {"a": t}, lambda t: {"state_dict": {"a": t}}, lambda t: {"optimiser": [{"a": t}]}]
)
def test_a_tensor_larger_than_the_file_is_refused(tmp_path, wrap):
    torch.save(wrap(torch.zeros(1).expand(100_000, 100_000)), tmp_path / "net.pt")
    assert "a of shape (100000, 100000) claims 40000000000 bytes and holds 4; " in refused(tmp_path / "net.pt")
    torch.save(wrap(torch.zeros(9, 8)[2:, ::2].T), tmp_path / "net.pt")  # a view of what is there
    read_content(tmp_path / "net.pt")


@pytest.mark.parametrize("value", [torch.zeros(3, 3).to_sparse(), torch.zeros(10**6, device="meta")])
def test_tensors_without_a_plain_store_are_refused(tmp_path, value):
    torch.save({"a": value}, tmp_path / "net.pt")
    assert "a is no plain tensor" in refused(tmp_path / "net.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(tmp_path, value):
    net = small_net()
    with torch.no_grad():
        net.prior.head.bias[3] = value
    save_checkpoint(tmp_path / "net.pt", net)
    with pytest.raises(ValueError, match=r"net\.pt: prior\.head\.bias holds values that are not finite"):
        load_checkpoint(tmp_path / "net.pt")


@pytest.mark.parametrize(
    "text",
    ["[]", "hello", {"step": 3}, '{"sources": ["a"]}', '{"licence": ["MIT"]}', '{"licence_text": 3}', "[" * 100_000],
    ids=["list", "text", "dict", "sources", "licence", "terms", "deep"],
)
def test_what_a_checkpoint_says_of_itself_is_checked(text):
    with pytest.raises(ValueError, match=r"^about\.json: about is .* need the JSON of an object"):
        read_about(Path("about.json"), text)
    good = {"licence": "MIT", "sources": {"photos": "our own"}, "step": 3}
    assert read_about(Path("about.json"), json.dumps(good)) == good


def test_training_reads_what_a_bundle_will_say_before_it_starts(tmp_path, monkeypatch, capsys):
    (tmp_path / "about.json").write_text('{"sources": ["web"]}')
    command = ["train", tmp_path / "run", "--synth", tmp_path, "--about", tmp_path / "about.json"]
    monkeypatch.setattr(sys, "argv", [str(part) for part in command])
    with pytest.raises(SystemExit):
        train.main()
    assert "about.json: cannot be used (" in (error := capsys.readouterr().err)
    assert "need the JSON of an object" in error
    assert not (tmp_path / "run").exists()
