# SPDX-License-Identifier: Apache-2.0
"""Checkpoint to bundle: the same function, all that the runtime needs, and nothing written when something fails."""

import hashlib

import numpy as np
import onnx
import pytest
import torch
from exported import ABOUT, CONFIG, exported
from onnx import numpy_helper

from cmr_export import bundle as bundle_module
from cmr_export.bundle import export, sample_images
from cmr_export.graphs import MESH_OUTPUTS, PRIOR_OUTPUTS, MeshStage, PriorStage
from cmr_export.parity import LIMIT, ParityError, compare, parity
from cmr_models.hand import JOINT_PARENTS, ROOT_JOINT, load_hand
from cmr_runtime import Bundle
from cmr_runtime.network import MeshStage as RuntimeMesh
from cmr_runtime.network import PriorStage as RuntimePrior


def images() -> np.ndarray:
    mean, std = (np.float32(v)[:, None, None] for v in (CONFIG.mean, CONFIG.std))
    return ((sample_images(CONFIG.size, 2, seed=5) - mean) / std).astype(np.float32)


def stages():
    return PriorStage(exported().net).eval(), MeshStage(exported().net).eval()


def test_every_output_agrees_within_the_limit():
    differences = exported().differences
    assert set(differences) == {f"prior.{k}" for k in PRIOR_OUTPUTS} | {f"mesh.{k}" for k in MESH_OUTPUTS}
    assert max(differences.values()) <= LIMIT == 1e-4


def test_parity_holds_on_images_that_the_export_has_not_seen():
    bundle = exported().bundle
    assert max(parity(*stages(), bundle.prior, bundle.mesh, images()).values()) <= LIMIT


@pytest.mark.parametrize("stage", ["prior", "mesh"])
def test_a_changed_weight_is_found(stage):
    graphs = {"prior": exported().bundle.prior, "mesh": exported().bundle.mesh}
    model = onnx.load_from_string(graphs[stage])
    # The last layer before the outputs: the bias of the heat maps.
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.shape in ((21,), (22,)):
            tensor.CopyFrom(numpy_helper.from_array(values + np.float32(0.01), tensor.name))
            break
    else:
        pytest.fail("no bias of the heat maps in the graph")
    graphs[stage] = model.SerializeToString()
    with pytest.raises(ParityError, match=rf"0\.0001: .*'{stage}\..*heatmaps'.*nothing was written"):
        parity(*stages(), graphs["prior"], graphs["mesh"], images())


def test_an_output_that_is_no_number_is_no_parity(monkeypatch):
    monkeypatch.setattr("cmr_export.parity.compare", lambda *a: {"heatmaps": float("nan")})
    with pytest.raises(ParityError, match="nan"):
        parity(*stages(), b"", b"", images())


def test_the_worst_image_counts(monkeypatch):
    values = iter([0.0, 0.0, 3e-5, 0.0, 1e-5, 0.0])  # prior and mesh of three images
    monkeypatch.setattr("cmr_export.parity.compare", lambda *a: {"heatmaps": next(values)})
    found = parity(*stages(), b"", b"", np.concatenate([images(), images()[:1]]))
    assert found == {"prior.heatmaps": 3e-5, "mesh.heatmaps": 0.0}


def test_the_difference_is_the_largest_of_all_elements():
    prior, image = stages()[0], images()[:1]

    class Shifted(torch.nn.Module):
        def forward(self, x):
            outputs = list(prior(x))
            outputs[1] = outputs[1].clone()
            outputs[1][0, 0, 3, 4] += 0.25
            return tuple(outputs)

    found = compare(Shifted(), exported().bundle.prior, {"image": image}, PRIOR_OUTPUTS)
    assert found["silhouette"] == pytest.approx(0.25, abs=1e-4)
    assert max(v for k, v in found.items() if k != "silhouette") < LIMIT


def test_the_bundle_holds_what_the_runtime_needs():
    done, hand = exported(), load_hand()
    bundle = Bundle.open(done.checkpoint.parent / "hand.cmr")
    assert bundle.name == "lively"
    assert bundle.input_size == CONFIG.size
    assert bundle.mean == pytest.approx(CONFIG.mean)
    assert bundle.std == pytest.approx(CONFIG.std)
    assert bundle.root_joint == ROOT_JOINT
    assert bundle.provenance["checkpoint_sha256"] == hashlib.sha256(done.checkpoint.read_bytes()).hexdigest()
    assert bundle.provenance["training_steps"] == "12"
    assert (bundle.licence, bundle.licence_text) == (ABOUT["licence"], ABOUT["licence_text"])
    assert bundle.provenance["photos"] == "our own"
    np.testing.assert_array_equal(bundle.topology.template, hand.template)
    np.testing.assert_array_equal(bundle.topology.faces, hand.faces)
    np.testing.assert_array_equal(bundle.topology.joint_regressor, hand.joint_regressor)
    np.testing.assert_array_equal(bundle.topology.joint_parents, JOINT_PARENTS)


def test_terms_that_nobody_stated_are_not_invented(tmp_path):
    content = torch.load(exported().checkpoint, weights_only=True)
    content["about"] = "{}"
    torch.save(content, tmp_path / "silent.pt")
    bundle, _ = export(tmp_path / "silent.pt", tmp_path / "silent.cmr")
    assert bundle.licence == "not stated"
    assert "Apache" not in bundle.licence_text
    assert set(bundle.provenance) == {"checkpoint_sha256", "training_steps"}


def test_a_folder_that_does_not_exist_is_named_before_any_work(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        export(exported().checkpoint, tmp_path / "nowhere" / "hand.cmr")


def test_the_runtime_computes_what_the_network_computes():
    bundle = exported().bundle
    crop = np.random.default_rng(3).integers(0, 256, (CONFIG.size, CONFIG.size, 3)).astype(np.uint8)
    first = RuntimePrior(bundle)
    prior = first(crop)
    mesh = RuntimeMesh(bundle, first)(prior)
    x = ((torch.from_numpy(crop).float() / 255 - torch.tensor(CONFIG.mean)) / torch.tensor(CONFIG.std)).permute(2, 0, 1)
    with torch.no_grad():
        wanted = exported().net(x[None])
    np.testing.assert_allclose(prior.heatmaps, wanted.prior.heatmaps[0].sigmoid(), atol=LIMIT)
    assert prior.presence == pytest.approx(float(wanted.prior.presence.sigmoid()), abs=LIMIT)
    np.testing.assert_allclose(mesh.vertices, wanted.mesh.levels[0][0], atol=LIMIT)
    np.testing.assert_allclose(mesh.heatmaps, wanted.mesh.heatmaps[0].sigmoid(), atol=LIMIT)
    joints = bundle.topology.joint_regressor @ mesh.vertices
    assert np.abs(joints[ROOT_JOINT]).max() < 1e-6


def test_without_parity_nothing_is_written(tmp_path, monkeypatch):
    def broken(*args):
        raise ParityError("differ")

    monkeypatch.setattr(bundle_module, "parity", broken)
    monkeypatch.setattr(bundle_module, "to_onnx", lambda *a: b"")
    out = tmp_path / "hand.cmr"
    with pytest.raises(ParityError):
        export(exported().checkpoint, out)
    assert not list(tmp_path.iterdir())


def test_check_images_are_dark_and_bright_and_repeatable():
    first, second = sample_images(32, 3), sample_images(32, 3)
    np.testing.assert_array_equal(first, second)
    assert first.shape == (3, 3, 32, 32)
    assert first.dtype == np.float32
    assert first.min() == 0
    assert first.max() == 1
    assert not np.array_equal(first, sample_images(32, 3, seed=1))
