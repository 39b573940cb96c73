# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the reference implementation through the command, against what the reference itself computed."""

import json
import runpy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from exported import run_bundle

from cmr_export.checkpoint import load
from cmr_export.cli import main
from cmr_runtime import Bundle

REFERENCE = Path(__file__).parents[2].parent / "shared" / "reference" / "handmesh"
pytestmark = pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference's outputs are not at hand")
MAPS = {"refined_heatmaps": "uv_pred", "refined_silhouette": "mask_pred"}
#: Networks, their names in bundles, and the reference's names for tensors of the bundle beside those of the mesh stage.
NETWORKS = {
    "mobrecon_spconv_freihand": ("mobrecon", {"keypoints": "uv_pred"}),
    "mobrecon_dsconv_freihand": ("mobrecon", {"keypoints": "uv_pred"}),
    "mobrecon_ds_freihand": ("mobrecon_ds", {"keypoints": "joint_img"}),
    "ytbhand_res18_freihand": ("ytbhand_resnet18", {}),
    "cmr_g_freihand": ("cmr_g_resnet18", MAPS | {"heatmaps": "uv_prior"}),
    "cmr_sg_freihand": ("cmr_sg_resnet18", MAPS | {"heatmaps": "uv_prior", "silhouette": "mask_prior"}),
    "cmr_pg_freihand": ("cmr_pg_resnet18", MAPS | {"heatmaps": "uv_prior2", "coarse_heatmaps": "uv_prior"}),
    "cmr_pg_res50_freihand": ("cmr_pg_resnet50", MAPS | {"heatmaps": "uv_prior2", "coarse_heatmaps": "uv_prior"}),
    "cmr_pg_human36m": ("cmr_pg_resnet18", MAPS | {"heatmaps": "uv_prior2", "coarse_heatmaps": "uv_prior"}),
}
FAST = [name for name in NETWORKS if name.startswith("mobrecon")]
each_network = pytest.mark.parametrize(
    "network", [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in NETWORKS]
)


def reference_state(network: str) -> dict[str, torch.Tensor]:
    recipe = runpy.run_path(str(REFERENCE / "recipe.py"))
    shapes = json.loads((REFERENCE / f"keys_{network}.json").read_text())
    return {key: torch.from_numpy(value) for key, value in recipe["fill"](shapes).items()}


def save_as_the_reference_does(path: Path, state: dict[str, torch.Tensor]) -> Path:
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimiser = torch.optim.Adam([parameter])
    parameter.sum().backward()
    optimiser.step()
    rest = {"epoch": 38, "optimizer_state_dict": optimiser.state_dict(), "scheduler_state_dict": {}}
    torch.save({"model_state_dict": state, **rest}, path)
    return path


def command(checkpoint: Path, out: Path, *options: object) -> list[str]:
    return [str(part) for part in ("--ckpt", checkpoint, "--assets", REFERENCE, "--out", out, *options)]


def compare(network: str, bundle: Bundle) -> None:
    """All that the reference kept of its outputs, to 1e-4 in its own units."""
    recipe = runpy.run_path(str(REFERENCE / "recipe.py"))
    found = run_bundle(bundle, recipe["reference_input"](bundle.input_size))
    with np.load(REFERENCE / f"golden_{network}.npz") as golden:
        (vertices,) = (golden[key] for key in ("mesh_pred_0", "mesh_pred", "verts") if key in golden)
        unit = 1.0 if network.endswith("human36m") else 0.2  # metres
        np.testing.assert_allclose(found["vertices"] / unit, vertices, atol=1e-4)
        for name, key in NETWORKS[network][1].items():
            value = found[name][:, :, ::4, ::4] if found[name].ndim == 4 else found[name]
            np.testing.assert_allclose(value.reshape(golden[key].shape), golden[key], atol=1e-4, err_msg=name)


@each_network
def test_a_checkpoint_of_the_reference_simply_works(network, tmp_path, capsys):
    checkpoint = save_as_the_reference_does(tmp_path / "their_model.pt", reference_state(network))
    out = tmp_path / "hand.cmr"
    assert main(command(checkpoint, out)) == 0
    output, error = capsys.readouterr()
    assert error == ""
    assert "mesh.vertices" in output
    bundle = Bundle.open(out)
    assert (bundle.name, bundle.architecture) == ("their_model", NETWORKS[network][0])
    body = network.endswith("human36m")
    assert (bundle.topology.joint_regressor is None) == body == ("give --joint-regressor" in output)
    operators = {n.op_type for graph in (bundle.prior, bundle.mesh) for n in onnx.load_from_string(graph).graph.node}
    waste = {"BatchNormalization", "Cast", "Expand", "Flatten", "GridSample", "Identity", "ReduceSum", "Shape", "Tile"}
    assert not operators & waste
    compare(network, bundle)


def test_the_name_may_be_given(tmp_path):
    checkpoint = tmp_path / "bare.pt"
    torch.save(reference_state("mobrecon_ds_freihand"), checkpoint)
    assert main(command(checkpoint, tmp_path / "hand.cmr", "--arch", "mobrecon_ds", "--name", "mine")) == 0
    bundle = Bundle.open(tmp_path / "hand.cmr")
    assert bundle.name == "mine"
    compare("mobrecon_ds_freihand", bundle)


@each_network
def test_every_network_answers_to_the_name_that_its_bundle_bears(network, tmp_path):
    torch.save(reference_state(network), tmp_path / "bare.pt")
    told = load(tmp_path / "bare.pt", REFERENCE)
    named = load(tmp_path / "bare.pt", REFERENCE, NETWORKS[network][0])
    assert told.architecture == named.architecture == NETWORKS[network][0]
    assert told.size == named.size
    assert told.template.shape == named.template.shape


def changed(state: dict, what: str) -> dict:
    if what == "shape":
        state["decoder3d.head.channel_layer.weight"] = torch.zeros(3, 5)
    elif what == "missing":
        del state["decoder3d.head.channel_layer.weight"]
    elif what == "foreign":
        state = {f"encoder.block{k}.weight": torch.zeros(2) for k in range(3)}
    return state


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("shape", "decoder3d.head.channel_layer.weight (3, 5)"),
        ("missing", "missing decoder3d.head.channel_layer.weight"),
        ("foreign", "belong to no network of the paper"),
        ("truncated", "cannot be read as a checkpoint"),
        ("code", "cannot be read as a checkpoint"),
        ("arch", "unknown network 'mobrecon_xl'"),
        ("other arch", "the weights belong to another network"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(what, words, tmp_path, capsys):
    checkpoint, out = tmp_path / "their.pt", tmp_path / "hand.cmr"
    state = changed(reference_state("mobrecon_ds_freihand"), what)
    save_as_the_reference_does(checkpoint, state)
    if what == "truncated":
        checkpoint.write_bytes(checkpoint.read_bytes()[:-100_000])
    if what == "code":
        torch.save({"model_state_dict": state, "hook": print}, checkpoint)
    options = {"arch": ("--arch", "mobrecon_xl"), "other arch": ("--arch", "mobrecon")}.get(what, ())
    assert main(command(checkpoint, out, *options)) == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert error.startswith("cmr-export: ")
    assert error.count("\n") == 1
    assert words in error
    assert "their.pt" in error
    assert [p.name for p in tmp_path.iterdir()] == ["their.pt"]


def test_the_meshs_pickle_runs_no_code(tmp_path, capsys):
    checkpoint = save_as_the_reference_does(tmp_path / "their.pt", reference_state("mobrecon_ds_freihand"))
    (tmp_path / "transform.pkl").write_bytes(b"cposix\nsystem\n(S'true'\ntR.")
    arguments = ["--ckpt", str(checkpoint), "--assets", str(tmp_path), "--out", str(tmp_path / "hand.cmr")]
    assert main(arguments) == 2
    assert "posix.system" in capsys.readouterr().err
    assert not (tmp_path / "hand.cmr").exists()
