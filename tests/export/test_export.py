# SPDX-License-Identifier: Apache-2.0
"""Checkpoint to bundle: the same function, all that the runtime needs, and nothing written when something fails."""

import dataclasses
import hashlib

import numpy as np
import onnx
import pytest
import torch
from exported import ABOUT, CONFIG, WEIGHTS, exported
from onnx import numpy_helper

from cmr_export import bundle as bundle_module
from cmr_export import parity as parity_module
from cmr_export.bundle import export
from cmr_export.calibration import blobs, normalise, unseen_images
from cmr_export.parity import Difference, ParityError, check, limit, parity
from cmr_models.hand import JOINT_PARENTS, ROOT_JOINT, load_hand
from cmr_models.network import HandNet, save_checkpoint
from cmr_models.network.staged import PriorStage, load_staged
from cmr_runtime import Bundle
from cmr_runtime.network import MeshStage as RuntimeMesh
from cmr_runtime.network import PriorStage as RuntimePrior
from cmr_runtime.plan.session import kernels
from cmr_runtime.recall import Recall, Said

#: Outputs of the graphs that have plans, which are compared too where there is a compiled core.
PLANNED = {
    "plan of prior.heatmaps",
    "plan of prior.silhouette",
    "plan of prior.presence",
    "plan of prior.right",
    "plan of prior.features",
    "plan of mesh.vertices",
    "plan of mesh.refined_heatmaps",
    "plan of mesh.refined_silhouette",
    "plan of mesh.refined_presence",
    "plan of shallow.features",
}
LIMIT = 1e-4  # of probabilities in fp32; vertices, in metres, are held to a tenth of it


def images() -> np.ndarray:
    return normalise(blobs(CONFIG.size, 2, seed=5), exported().staged)


def graphs() -> dict[str, bytes]:
    return {"prior": exported().bundle.prior, "mesh": exported().bundle.mesh}


def test_every_output_agrees_within_the_limit():
    differences = exported().differences
    ends = {f"{tag}.{k}" for tag in ("mesh", "both") for k in exported().staged.mesh.outputs}
    planned = {*PLANNED} if kernels() else set()
    assert set(differences) == {f"prior.{k}" for k in PriorStage.outputs} | ends | {"shallow.features"} | planned
    assert max(d.largest for d in differences.values()) <= LIMIT == limit("prior.heatmaps", "fp32")
    assert differences["both.vertices"].largest <= limit("both.vertices", "fp32") == 1e-5


def test_shipped_weights_are_compared_on_hands_that_they_see():
    """On pictures without a hand maps are nearly zero, where a sigmoid is flat."""
    network = load_staged(WEIGHTS)
    images, seen = unseen_images(network, 3)
    assert (images.shape, seen) == ((3, 3, 160, 160), "3 rendered hands")
    with torch.no_grad():
        peaks = [
            network.prior(torch.from_numpy(kind))[0].amax((1, 2, 3))
            for kind in (images, normalise(blobs(160), network))
        ]
    assert (peaks[0] > 0.3).all()
    assert peaks[1].max() < peaks[0].min()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_first_layers_alone_give_what_the_prior_gives(precision, tmp_path):
    done = export(exported().checkpoint, tmp_path / "hand.cmr", precision=precision)
    crop = np.random.default_rng(0).integers(0, 256, (CONFIG.size, CONFIG.size, 3), dtype=np.uint8)
    prior = RuntimePrior(done.bundle)
    mesh = RuntimeMesh(done.bundle, prior)
    seen = prior(crop)
    found = Recall(done.bundle, prior, mesh)(crop, Said(seen, mesh(seen)))
    np.testing.assert_allclose(found.features, seen.features, atol=1e-5 * np.abs(seen.features).max())
    assert len(done.bundle.shallow) < 0.2 * len(done.bundle.prior)


def test_a_network_that_does_not_recall_has_no_first_layers_alone(tmp_path):
    path = tmp_path / "net.pt"
    save_checkpoint(path, HandNet(dataclasses.replace(CONFIG, recall=False), load_hand()))
    assert export(path, tmp_path / "hand.cmr").bundle.shallow is None


def test_a_body_is_compared_on_generated_images():
    body = dataclasses.replace(exported().staged, joint_parents=np.zeros(17, np.int32))
    images, seen = unseen_images(body, 3)
    np.testing.assert_array_equal(images, normalise(blobs(CONFIG.size), body))
    assert seen == "generated images"


@pytest.mark.parametrize(
    ("name", "precision", "allowed", "refused"),
    [
        ("both.vertices", "fp32", 0.9e-5, 1.1e-5),
        ("both.vertices", "fp16", 0.9e-3, 1.1e-3),
        ("prior.heatmaps", "fp16", 0.9e-2, 1.1e-2),
        ("prior.keypoints", "fp32", 0.9e-4, 1.1e-4),
        ("prior.features", "fp32", 0.9e-4, 1.1e-4),
        ("detector.boxes", "fp32", 0.9e-4, 1.1e-4),
    ],
)
def test_each_kind_of_output_has_its_limit(name, precision, allowed, refused):
    check({name: Difference(allowed, 0.0)}, precision)
    with pytest.raises(ParityError, match=f"{name} {refused:.1e} .* at most; nothing was written"):
        check({name: Difference(refused, 0.0)}, precision)


def test_parity_holds_on_images_that_the_export_has_not_seen():
    check(parity(exported().staged, graphs(), images()), "fp32")


@pytest.mark.parametrize("stage", ["prior", "mesh"])
def test_a_changed_weight_is_found(stage):
    changed = graphs()
    model = onnx.load_from_string(changed[stage])
    # The last layer before the outputs: the bias of the heat maps.
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.shape in ((21,), (22,)):
            tensor.CopyFrom(numpy_helper.from_array(values + np.float32(0.01), tensor.name))
            break
    else:
        pytest.fail("no bias of the heat maps in the graph")
    changed[stage] = model.SerializeToString()
    with pytest.raises(ParityError, match=rf"{stage}\.\S*heatmaps \S+ probability, need 0\.0001 at most.*nothing was"):
        check(parity(exported().staged, changed, images()), "fp32")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_output_that_is_no_number_is_no_parity(precision):
    with pytest.raises(ParityError, match="nan"):
        check({"prior.heatmaps": Difference(float("nan"), 0.0)}, precision)


def test_eight_bits_are_not_held_to_a_limit():
    check({"prior.heatmaps": Difference(0.3, 0.1), "both.vertices": Difference(0.3, 0.1)}, "int8")


def test_the_largest_of_all_elements_and_images_counts_and_the_mean_of_their_means():
    staged = exported().staged

    class Shifted(PriorStage):
        def forward(self, x):
            outputs = list(super().forward(x))
            outputs[1] = outputs[1].clone()
            outputs[1][0, 0, 3, 4] -= 0.25 * (x[0, 0, 0, 0] == images()[0, 0, 0, 0])  # in the first image only
            return tuple(outputs)

    found = parity(dataclasses.replace(staged, prior=Shifted(exported().net)), graphs(), images())
    assert found["prior.silhouette"].largest == pytest.approx(0.25, abs=1e-4)
    assert found["prior.silhouette"].mean == pytest.approx(0.25 / 40**2 / 2, rel=0.01)
    assert found["prior.heatmaps"].largest < LIMIT


def test_numbers_beyond_one_are_measured_against_the_largest():
    assert Difference.between(np.float32([0.5, 0.2]), np.float32([0.5, 0.3])).largest == pytest.approx(0.1)
    found = Difference.between(np.float32([-20.0, 1.0]), np.float32([-20.0, 2.0]))
    assert (found.largest, found.mean) == pytest.approx((0.05, 0.025))


def test_each_graph_is_opened_once(monkeypatch):
    opened = []
    real = parity_module.open_graph
    monkeypatch.setattr(parity_module, "open_graph", lambda graph: opened.append(graph) or real(graph))
    parity(exported().staged, graphs(), images())
    assert opened == list(graphs().values())


def test_the_bundle_holds_what_the_runtime_needs():
    done, hand = exported(), load_hand()
    bundle = Bundle.open(done.checkpoint.parent / "hand.cmr")
    assert bundle.name == "lively"
    assert (bundle.architecture, bundle.precision, bundle.cell_centre) == ("handnet", "fp32", 0.5)
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
    bundle = export(tmp_path / "silent.pt", tmp_path / "silent.cmr").bundle
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
    monkeypatch.setattr(bundle_module, "trace", lambda network: graphs())
    monkeypatch.setattr(bundle_module, "parity", lambda *a: {"prior.heatmaps": Difference(1.0, 1.0)})
    with pytest.raises(ParityError):
        export(exported().checkpoint, tmp_path / "hand.cmr")
    assert not list(tmp_path.iterdir())


def test_check_images_are_dark_and_bright_and_repeatable():
    first, second = blobs(32, 3), blobs(32, 3)
    np.testing.assert_array_equal(first, second)
    assert first.shape == (3, 3, 32, 32)
    assert first.dtype == np.float32
    assert first.min() == 0
    assert first.max() == 1
    assert not np.array_equal(first, blobs(32, 3, seed=1))


def test_the_default_network_takes_images_of_another_size(tmp_path):
    """No weight depends on the size: the same layers as its own, and the same function there as the network's."""
    size = CONFIG.size + 32
    done = export(exported().checkpoint, tmp_path / "larger.cmr", size=size)
    assert (done.bundle.input_size, exported().bundle.input_size) == (size, CONFIG.size)
    staged = load_staged(exported().checkpoint, size)
    shown = normalise(blobs(size, 2, seed=5), staged)
    check(parity(staged, {"prior": done.bundle.prior, "mesh": done.bundle.mesh}, shown), "fp32")
    assert RuntimePrior(done.bundle).shapes["heatmaps"][2:] == (size // 4, size // 4)
    for stage in ("prior", "mesh"):
        ours, own = (onnx.load_from_string(getattr(b, stage)).graph for b in (done.bundle, exported().bundle))
        assert [node.op_type for node in ours.node] == [node.op_type for node in own.node]
    with pytest.raises(ValueError, match="size is 100; need a multiple of 32"):
        export(exported().checkpoint, tmp_path / "odd.cmr", size=100)
    assert not (tmp_path / "odd.cmr").exists()
