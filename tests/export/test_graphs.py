# SPDX-License-Identifier: Apache-2.0
"""The graphs: pads folded where that is right, static shapes, operators that mobile providers take."""

from functools import partial

import numpy as np
import onnx
import onnxruntime as ort
import onnxsim
import pytest
import torch
from exported import CONFIG, exported
from onnx import TensorProto, helper, numpy_helper

from cmr_export.graphs import MESH_INPUTS, MESH_OUTPUTS, PRIOR_OUTPUTS, fold_pads, to_onnx
from cmr_models.network.trunk import Conv


def graph(nodes, constants: dict[str, np.ndarray], outputs: dict[str, list[int]], size=(1, 2, 8, 8)) -> onnx.ModelProto:
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "test",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, size)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((1, 2, 8, 8)).astype(np.float32)
    return session.run(None, {"x": x})


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


WEIGHT = np.random.default_rng(1).standard_normal((3, 2, 3, 3)).astype(np.float32)


def padded(amounts, value=None, mode="constant", pads=None, stride=2, out=4) -> onnx.ModelProto:
    constants = {"w": WEIGHT, "amounts": np.array(amounts, np.int64)}
    inputs = ["x", "amounts"]
    if value is not None:
        constants["value"] = np.array(value, np.float32)
        inputs.append("value")
    own = {} if pads is None else {"pads": pads}
    nodes = [
        helper.make_node("Pad", inputs, ["padded"], mode=mode),
        helper.make_node("Conv", ["padded", "w"], ["y"], strides=[stride, stride], **own),
    ]
    return graph(nodes, constants, {"y": [1, 3, out, out]})


@pytest.mark.parametrize(
    "model",
    [
        padded([0, 0, 0, 0, 0, 0, 1, 1]),
        padded([0, 0, 0, 0, 0, 0, 1, 1], value=0.0),
        padded([0, 0, 1, 2, 0, 0, 1, 0]),
        padded([0, 0, 1, 0, 0, 0, 0, 1], pads=[0, 1, 1, 0]),
        padded([0, 0, 2, 2, 0, 0, 2, 2], stride=1, out=10),
    ],
    ids=["behind", "explicit zero", "each side its own", "added to own pads", "symmetric"],
)
def test_a_zero_pad_moves_into_its_convolution(model):
    before = run(model)
    assert fold_pads(model) == 1
    onnx.checker.check_model(model, full_check=True)
    assert kinds(model) == ["Conv"]
    assert [i.name for i in model.graph.initializer] == ["w"]
    np.testing.assert_allclose(run(model)[0], before[0], atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        padded([0, 0, 1, 0, 0, 0, 0, 1], mode="reflect"),
        padded([0, 0, 1, 0, 0, 0, 0, 1], mode="edge"),
        padded([0, 0, 1, 0, 0, 0, 0, 1], value=0.5),
        padded([0, 0, -1, 0, 0, 0, 2, 1]),
    ],
    ids=["reflect", "edge", "another value", "a crop"],
)
def test_a_pad_that_a_convolution_cannot_do_stays(model):
    before = model.SerializeToString()
    assert fold_pads(model) == 0
    assert model.SerializeToString() == before


def test_a_pad_of_channels_stays():
    constants = {"w": np.ones((3, 3, 3, 3), np.float32), "amounts": np.array([0, 1, 0, 0, 0, 0, 0, 0], np.int64)}
    nodes = [helper.make_node("Pad", ["x", "amounts"], ["padded"]), helper.make_node("Conv", ["padded", "w"], ["y"])]
    model = graph(nodes, constants, {"y": [1, 3, 6, 6]})
    assert fold_pads(model) == 0
    assert kinds(model) == ["Pad", "Conv"]


def two_users(second: onnx.NodeProto | None, outputs: dict[str, list[int]]) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Pad", ["x", "amounts"], ["padded"]),
        helper.make_node("Conv", ["padded", "w"], ["y"], strides=[2, 2]),
        *([second] if second else []),
    ]
    return graph(nodes, {"w": WEIGHT, "amounts": np.array([0, 0, 0, 0, 0, 0, 1, 1], np.int64)}, outputs)


def test_two_convolutions_share_a_folded_pad():
    model = two_users(helper.make_node("Conv", ["padded", "w"], ["z"]), {"y": [1, 3, 4, 4], "z": [1, 3, 7, 7]})
    before = run(model)
    assert fold_pads(model) == 1
    assert kinds(model) == ["Conv", "Conv"]
    for a, b in zip(run(model), before, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_pad_with_another_user_stays():
    model = two_users(helper.make_node("Relu", ["padded"], ["z"]), {"y": [1, 3, 4, 4], "z": [1, 2, 9, 9]})
    assert fold_pads(model) == 0
    assert kinds(model) == ["Pad", "Conv", "Relu"]


def test_a_pad_that_is_an_output_of_the_graph_stays():
    model = two_users(None, {"y": [1, 3, 4, 4], "padded": [1, 2, 9, 9]})
    before = run(model)
    assert fold_pads(model) == 0
    assert np.array_equal(run(model)[1], before[1])


@pytest.mark.parametrize("simplifier_folds", [True, False])
def test_same_padding_leaves_no_pad_behind(simplifier_folds, monkeypatch):
    """Whether or not onnxsim has the pass that does the same."""
    if not simplifier_folds:
        without = partial(onnxsim.simplify, skipped_optimizers=["fuse_pad_into_conv"])
        monkeypatch.setattr(onnxsim, "simplify", without)
    torch.manual_seed(0)
    module = torch.nn.Sequential(Conv(2, 4, 3, 2), Conv(4, 4, 5, 2, 4), Conv(4, 3)).eval()
    x = torch.randn(1, 2, 16, 16)
    data = to_onnx(module, {"x": x}, ("y",))
    model = onnx.load_from_string(data)
    assert "Pad" not in kinds(model)
    (found,) = ort.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"x": x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, module(x), atol=1e-5)


# The default network's graphs


@pytest.mark.parametrize("stage", ["prior", "mesh"])
def test_graphs_are_static_and_plain(stage):
    model = onnx.load_from_string(getattr(exported().bundle, stage))
    onnx.checker.check_model(model, full_check=True)
    values = [*model.graph.input, *model.graph.output]
    for value in values:
        sizes = [d.dim_value for d in value.type.tensor_type.shape.dim]
        assert sizes, value.name
        assert min(sizes) > 0, value.name
        assert sizes[0] == 1, value.name
    found = set(kinds(model))
    assert "Conv" in found
    dynamic = {"Pad", "GridSample", "Loop", "If", "Scan", "NonZero", "Shape", "BatchNormalization", "ScatterND"}
    assert not found & dynamic
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")] == [17]


def test_inputs_and_outputs_are_those_of_the_bundle_format():
    shape = lambda value: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)  # noqa: E731
    prior, mesh = (onnx.load_from_string(g).graph for g in (exported().bundle.prior, exported().bundle.mesh))
    size, vertices = CONFIG.size, len(exported().bundle.topology.template)
    assert {v.name: shape(v) for v in prior.input} == {"image": (1, 3, size, size)}
    maps = (1, 21, size // 4, size // 4)
    given = {v.name: shape(v) for v in prior.output}
    assert list(given) == list(PRIOR_OUTPUTS)
    assert given["heatmaps"] == maps
    assert given["silhouette"] == (1, 1, size // 4, size // 4)
    assert given["presence"] == given["right"] == (1, 1)
    taken = {v.name: shape(v) for v in mesh.input}
    assert taken == {name: given[name] for name in MESH_INPUTS}
    made = {v.name: shape(v) for v in mesh.output}
    assert list(made) == list(MESH_OUTPUTS)
    assert made == {
        "vertices": (1, vertices, 3),
        "refined_heatmaps": maps,
        "refined_silhouette": (1, 1, size // 2, size // 2),
    }


def test_all_but_features_and_vertices_are_probabilities():
    bundle = exported().bundle
    run_graph = lambda data, feed: ort.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, feed)  # noqa: E731
    image = np.random.default_rng(0).standard_normal((1, 3, CONFIG.size, CONFIG.size)).astype(np.float32)
    prior = dict(zip(PRIOR_OUTPUTS, run_graph(bundle.prior, {"image": image}), strict=True))
    mesh = dict(zip(MESH_OUTPUTS, run_graph(bundle.mesh, {k: prior[k] for k in MESH_INPUTS}), strict=True))
    for name, value in {**prior, **mesh}.items():
        if name not in ("features", "vertices"):
            assert value.min() >= 0, name
            assert value.max() <= 1, name
    assert np.ptp(prior["heatmaps"]) > 0.1
    assert prior["features"].min() < 0
    assert np.abs(mesh["vertices"]).max() > 0.01
