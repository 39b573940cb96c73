# SPDX-License-Identifier: Apache-2.0
"""Half precision, eight bits and ORT format: smaller files, the same network within what each promises."""

import functools
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from exported import CONFIG, WEIGHTS, exported, run_bundle
from onnx import TensorProto, helper, numpy_helper

from cmr_export import bundle as bundle_module
from cmr_export import calibration
from cmr_export.bundle import Exported, export
from cmr_export.calibration import calibration_images, folder_images, normalise, rendered_hands
from cmr_export.float_layers import FLOAT_WEIGHTS, plan
from cmr_export.half import to_half
from cmr_export.report import bundle_costs, table
from cmr_models.hand import load_hand
from cmr_models.network.staged import load_staged
from cmr_runtime import Bundle
from cmr_runtime.image_io import write_image
from cmr_runtime.network import MeshStage, PriorStage


@functools.cache
def made(precision: str = "fp32", form: str = "onnx") -> Exported:
    """Export the shipped weights, calibrated on few images; the folder stays until the end."""
    out = Path(tempfile.mkdtemp(prefix="cmr_export_test_")) / "hand.cmr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "COUNT", 8)
        patch.setattr(bundle_module, "UNSEEN", 8)
        return export(WEIGHTS, out, precision=precision, form=form)


def weights_bytes(done: Exported) -> int:
    return len(done.bundle.prior) + len(done.bundle.mesh)


def images(count: int = 6) -> np.ndarray:
    return normalise(rendered_hands(160, count, seed=3), load_staged(WEIGHTS))


def constants(bundle: Bundle) -> list[onnx.TensorProto]:
    return [t for graph in (bundle.prior, bundle.mesh) for t in onnx.load_from_string(graph).graph.initializer]


def kernels(graph: bytes, folder: Path) -> tuple[Counter, onnx.GraphProto]:
    """What ONNX Runtime makes of a graph when it loads it."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "loaded.onnx")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    loaded = onnx.load(folder / "loaded.onnx").graph
    return Counter(node.op_type for node in loaded.node), loaded


# Half precision


def test_half_precision_halves_the_file():
    half = made("fp16")
    assert half.bundle.precision == "fp16"
    assert weights_bytes(half) < 0.52 * weights_bytes(made())
    wide = [t.name for t in constants(half.bundle) if t.data_type == TensorProto.FLOAT and np.prod(t.dims) >= 64]
    assert not wide


def test_half_precision_is_the_network_with_rounded_weights():
    assert made("fp16").seen == "8 rendered hands"  # which it sees: the maps are not all zero
    differences = made("fp16").differences
    assert max(d.largest for d in differences.values()) < 5e-3  # of probabilities, where maps have slopes
    assert max(d.mean for d in differences.values()) < 1e-3
    assert differences["both.vertices"].largest < 5e-4  # metres


def test_half_precision_costs_nothing_once_loaded(tmp_path):
    found, loaded = kernels(made("fp16").bundle.mesh, tmp_path)
    assert "Cast" not in found
    assert TensorProto.FLOAT16 not in {tensor.data_type for tensor in loaded.initializer}


def test_a_weight_beyond_half_precision_is_refused():
    values = helper.make_tensor_value_info("x", TensorProto.FLOAT, [100])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [100])
    weight = numpy_helper.from_array(np.full(100, 1e6, np.float32), "w")
    model = helper.make_model(
        helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"])], "test", [values], [result], [weight]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    with pytest.raises(ValueError, match=r"weight w holds 1e\+06; float16 ends at 65504"):
        to_half(model.SerializeToString())


# Eight bits


def test_eight_bits_quarter_the_file():
    """A quarter, and what thousands of narrow channels add: scales, biases, and the layers that stay in float."""
    assert made("int8").bundle.precision == "int8"
    assert weights_bytes(made("int8")) < 0.31 * weights_bytes(made())


def test_all_but_a_trifle_of_the_weights_are_eight_bits():
    sizes = Counter()
    for tensor in constants(made("int8").bundle):
        sizes[tensor.data_type] += int(np.prod(tensor.dims))
    fixed = load_hand().surface(2).size  # how the mesh follows from a coarser one
    weights = sum(made().costs[stage].parameters for stage in ("prior", "mesh")) - fixed
    assert (
        sizes[TensorProto.FLOAT16] - fixed <= 2 * 1.15 * FLOAT_WEIGHTS
    )  # the layers next to the ends, and their biases
    assert sizes[TensorProto.INT8] > 0.94 * weights


def test_the_eight_bit_network_sees_the_same_hands():
    """On renderings that neither calibration nor the weights have seen; 1 mm is a pixel of the crop."""
    off, maps = [], []
    for image in images():
        wanted, found = (run_bundle(made(precision).bundle, image[None]) for precision in ("fp32", "int8"))
        off.append(np.linalg.norm(wanted["vertices"] - found["vertices"], axis=2).mean())
        maps.append(np.abs(wanted["refined_heatmaps"] - found["refined_heatmaps"]).mean())
    assert np.mean(off) < 2.5e-3
    assert np.mean(maps) < 1e-3


@pytest.mark.parametrize("stage", ["prior", "mesh"])
def test_every_eight_bit_layer_gets_an_integer_kernel(stage, tmp_path):
    found, loaded = kernels(getattr(made("int8").bundle, stage), tmp_path)
    weights = {t.name for t in loaded.initializer if t.data_type == TensorProto.INT8 and t.dims}
    dequantised = [n for n in loaded.node if n.op_type == "DequantizeLinear" and n.input[0] in weights]
    assert not dequantised  # such a layer would widen its weights for every image
    assert found["QLinearConv"] >= 30  # of the mesh stage exactly so many
    assert "Cast" not in found


def test_the_layers_next_to_the_ends_stay_in_float():
    model = onnx.load_from_string(made().bundle.prior)
    quantised, in_float = plan(model)
    kept = [model.graph.node[k] for k in in_float]
    sizes = {t.name: int(np.prod(t.dims)) for t in model.graph.initializer}
    assert 0.9 * FLOAT_WEIGHTS < sum(sizes[node.input[1]] for node in kept) <= FLOAT_WEIGHTS
    assert any("image" in node.input for node in kept)
    assert not set(quantised) & set(in_float)


def test_the_bundle_says_what_it_was_calibrated_on():
    assert made("int8").bundle.provenance["calibration"] == "8 rendered hands"


def test_a_folder_of_images_calibrates(tmp_path):
    for k in range(3):
        image = np.full((30, 50, 3), 40 * k, np.uint8)
        image[:, 10:40] += 100  # the middle square
        write_image(tmp_path / f"{k}.png", image)
    (tmp_path / "notes.txt").write_text("no image")
    found = folder_images(tmp_path, 16)
    assert found.shape == (3, 3, 16, 16)
    np.testing.assert_allclose(found.mean((1, 2, 3)), [100 / 255, 140 / 255, 180 / 255], atol=1e-6)
    network = exported().staged
    normalised, about = calibration_images(network, tmp_path)
    assert about == f"3 images of {tmp_path.name}"
    first = (100 / 255 - np.float32(CONFIG.mean)) / np.float32(CONFIG.std)
    np.testing.assert_allclose(normalised[0].mean((1, 2)), first, atol=1e-4)


def test_what_cannot_be_rendered_needs_a_folder():
    class Body:
        architecture, size, joint_parents = "cmr_pg_resnet18", 256, np.zeros(17)

    with pytest.raises(ValueError, match=r"17 joints knows no hand.*--calibration FOLDER"):
        calibration_images(Body(), None)


# ORT format


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_ort_format_computes_the_same(precision):
    bundle = made(precision, "ort").bundle
    assert bundle.prior[4:8] == bundle.mesh[4:8] == b"ORTM"
    image = images(1)
    wanted, found = run_bundle(made(precision).bundle, image), run_bundle(bundle, image)
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        limit = 1e-4 if precision == "fp32" else 0.15 if name != "features" else 1.0  # integer kernels round apart
        np.testing.assert_allclose(found[name], value, atol=limit)


def test_the_runtime_opens_ort_format():
    bundle = made("fp32", "ort").bundle
    crop = np.random.default_rng(3).integers(0, 256, (160, 160, 3)).astype(np.uint8)
    prior = PriorStage(bundle)
    assert np.isfinite(MeshStage(bundle, prior)(prior(crop)).vertices).all()


def test_the_operators_that_a_reduced_build_needs_stand_beside(tmp_path, monkeypatch):
    done = made().bundle
    monkeypatch.setattr(bundle_module, "trace", lambda network: {"prior": done.prior, "mesh": done.mesh})
    export(WEIGHTS, tmp_path / "mine.cmr", form="ort")
    lines = (tmp_path / "mine.required_operators.config").read_text().splitlines()
    assert lines[0] == "# Operators of prior.ort, mesh.ort, shallow.ort"
    listed = {(line.split(";")[0], name) for line in lines[1:] for name in line.split(";")[2].split(",")}
    assert {("ai.onnx", "Conv"), ("ai.onnx", "Gather"), ("ai.onnx", "MaxPool")} <= listed
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.cmr", "mine.required_operators.config"]


def test_costs_of_ort_format_are_said_to_be_unknown():
    done = made("fp32", "ort")
    for stage in ("prior", "mesh", "shallow"):
        graph = getattr(done.bundle, stage)
        assert done.costs[stage] == replace(made().costs[stage], bytes=len(graph))  # the rest before the conversion
    text = table(bundle_costs(done.bundle))
    assert text.count("unknown: the graph is in ORT format") == 3
    assert f"{len(done.bundle.prior):,}" in text
