# SPDX-License-Identifier: Apache-2.0
"""Each pass over a graph changes its form, never its function."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper, shape_inference

from cmr_export.clean import (
    average_sums,
    clean,
    fold_pads,
    lift_constants,
    narrow_indices,
    reshape_flattened,
    shorten_names,
    turn_depth_to_space,
)


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


def same_function(model: onnx.ModelProto, change) -> object:
    """Infer shapes, run, change, check, and run again; return what the change returned."""
    model.CopyFrom(shape_inference.infer_shapes(model))
    before = run(model)
    result = change(model)
    onnx.checker.check_model(model, full_check=True)
    for a, b in zip(run(model), before, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    return result


def test_constant_nodes_become_constants():
    value = numpy_helper.from_array(np.float32(3), "value")
    nodes = [helper.make_node("Constant", [], ["three"], value=value), helper.make_node("Mul", ["x", "three"], ["y"])]
    model = graph(nodes, {}, {"y": [1, 2, 8, 8]})
    same_function(model, lift_constants)
    assert kinds(model) == ["Mul"]
    assert [i.name for i in model.graph.initializer] == ["three"]


def gathered() -> onnx.ModelProto:
    nodes = [helper.make_node("Gather", ["x", "index"], ["y"], axis=2)]
    return graph(nodes, {"index": np.array([7, 0, 3], np.int64)}, {"y": [1, 2, 3, 8]})


def test_indices_of_a_gather_take_half_the_bytes():
    model = gathered()
    assert same_function(model, narrow_indices) == 1
    assert model.graph.initializer[0].data_type == TensorProto.INT32


def test_indices_that_another_operator_reads_stay():
    model = gathered()
    model.graph.node.append(helper.make_node("Cast", ["index"], ["z"], to=TensorProto.FLOAT))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [3]))
    assert same_function(model, narrow_indices) == 0


@pytest.mark.parametrize(("channels", "turned"), [(4, 1), (8, 0)])
def test_a_pixel_shuffle_to_one_channel_changes_its_mode(channels, turned):
    weight = np.random.default_rng(1).standard_normal((channels, 2, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("DepthToSpace", ["a"], ["y"], blocksize=2, mode="CRD"),
    ]
    model = graph(nodes, {"w": weight}, {"y": [1, channels // 4, 16, 16]})
    assert same_function(model, turn_depth_to_space) == turned


def test_flatten_becomes_reshape():
    nodes = [helper.make_node("Flatten", ["x"], ["a"], axis=2), helper.make_node("Relu", ["a"], ["y"])]
    model = graph(nodes, {}, {"y": [2, 64]})
    assert same_function(model, reshape_flattened) == 1
    assert kinds(model) == ["Reshape", "Relu"]


@pytest.mark.parametrize(
    ("axes", "keepdims", "shape"), [([2], 0, [1, 2, 8]), ([2, 3], 1, [1, 2, 1, 1]), ([-1], 1, [1, 2, 8, 1])]
)
def test_a_weighted_sum_becomes_a_mean_with_larger_weights(axes, keepdims, shape):
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["a"]),
        helper.make_node("ReduceSum", ["a", "axes"], ["y"], keepdims=keepdims),
    ]
    weight = np.random.default_rng(2).standard_normal((8, 8)).astype(np.float32)
    model = graph(nodes, {"w": weight, "axes": np.array(axes, np.int64)}, {"y": shape})
    assert same_function(model, average_sums) == 1
    assert kinds(model) == ["Mul", "ReduceMean"]
    assert len(model.graph.initializer) == 1


def test_a_plain_sum_is_a_mean_times_the_count():
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("ReduceSum", ["a", "axes"], ["y"], keepdims=0)]
    model = graph(nodes, {"axes": np.array([3], np.int64)}, {"y": [1, 2, 8]})
    assert same_function(model, average_sums) == 1
    assert kinds(model) == ["Relu", "ReduceMean", "Mul"]


def test_weights_that_two_sums_share_are_scaled_for_each():
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["a"]),
        helper.make_node("Mul", ["x", "w"], ["b"]),
        helper.make_node("ReduceSum", ["a", "one"], ["y"], keepdims=0),
        helper.make_node("ReduceSum", ["b", "two"], ["z"], keepdims=0),
    ]
    constants = {"w": np.full((1, 1, 1, 8), 0.3, np.float32), "one": np.array([1]), "two": np.array([2, 3])}
    model = graph(nodes, constants, {"y": [1, 8, 8], "z": [1, 2]})
    assert same_function(model, average_sums) == 2
    assert kinds(model) == ["Mul", "Mul", "ReduceMean", "ReduceMean"]


def test_a_product_that_is_read_elsewhere_keeps_its_weights():
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["a"]),
        helper.make_node("ReduceSum", ["a", "axes"], ["y"], keepdims=0),
        helper.make_node("Relu", ["a"], ["z"]),
    ]
    constants = {"w": np.full((8,), 0.3, np.float32), "axes": np.array([3])}
    model = graph(nodes, constants, {"y": [1, 2, 8], "z": [1, 2, 8, 8]})
    assert same_function(model, average_sums) == 1
    assert sorted(kinds(model)) == ["Mul", "Mul", "ReduceMean", "Relu"]


def test_short_names_keep_inputs_outputs_and_function():
    model = padded([0, 0, 0, 0, 0, 0, 1, 1])
    model.graph.node[0].name = "a/long/name/of/a/node"
    same_function(model, shorten_names)
    assert [v.name for v in (*model.graph.input, *model.graph.output)] == ["x", "y"]
    assert max(len(name) for node in model.graph.node for name in (node.name, *node.input, *node.output)) <= 2


def test_a_batch_norm_that_nothing_takes_in_is_refused():
    constants = {name: np.ones(2, np.float32) for name in ("scale", "bias", "mean", "variance")}
    nodes = [helper.make_node("BatchNormalization", ["x", *constants], ["y"], name="lonely")]
    with pytest.raises(RuntimeError, match="1 batch norms are left in the graph, the first is lonely"):
        clean(graph(nodes, constants, {"y": [1, 2, 8, 8]}))
