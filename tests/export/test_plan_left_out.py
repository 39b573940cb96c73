# SPDX-License-Identifier: Apache-2.0
"""What no plan can express is left out, and it is said why."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from plan_graphs import SCALES, attention, gathering, made, node, normal, upsampling

from cmr_export.plan import obstacles, plan


def flattened(*rest: onnx.NodeProto) -> list[onnx.NodeProto]:
    return [node("Reshape", "x flat", "m"), *rest]


def grouped(inputs: int, outputs: int, groups: int) -> tuple:
    return [node("Conv", "x w", "y", group=groups)], {"w": normal(outputs, inputs, 1, 1)}, [1, outputs, 6, 8]


def turned(*rest: onnx.NodeProto) -> list[onnx.NodeProto]:
    return flattened(node("Transpose", "m", "t"), *rest)


FLAT = {"flat": np.array([4, 48]), "one": np.array([1])}
KERNEL = {"w": normal(4, 4, 3, 3)}
DOUBLE = {"w": normal(4, 4, 1, 1), "scales": SCALES}
POINT = {"w": normal(4, 4, 1, 1)}
LIGHT = {"w": normal(4, 1, 3, 3)}
CHANNELS = np.array([0, 0, 0, 0, 0, 16, 0, 0])
SUM = FLAT | {"b": normal(48, 4)}
LEFT_OUT = {
    "operator Softmax": ([node("Softmax", "x", "y")], {}, [1, 4, 6, 8]),
    "in 2 groups": grouped(2, 6, 2),
    "in 4 groups": grouped(1, 8, 4),
    "dilations": ([node("Conv", "x w", "y", dilations=[2, 2])], KERNEL, [1, 4, 2, 4]),
    "automatic pads": ([node("Conv", "x w", "y", auto_pad="SAME_UPPER")], KERNEL, [1, 4, 6, 8]),
    "two strides": ([node("Conv", "x w", "y", strides=[1, 2])], KERNEL, [1, 4, 4, 3]),
    "rounded down": (
        [upsampling("x scales", "u", nearest_mode="ceil"), node("Conv", "u w", "c"), node("Add", "c u", "y")],
        DOUBLE,
        [1, 4, 12, 16],
    ),
    "twice as large": (
        [upsampling("x scales", "u"), node("Conv", "u w", "c"), node("Add", "c u", "y")],
        {"w": POINT["w"], "scales": np.array([1, 1, 2, 3], np.float32)},
        [1, 4, 12, 24],
    ),
    "a Resize before other": ([upsampling("x scales", "u"), node("Relu", "u", "y")], DOUBLE, [1, 4, 12, 16]),
    "mixes axes": ([node("Reshape", "x flat", "y")], {"flat": np.array([1, 8, 24])}, [1, 8, 24]),
    "neither a map nor in the order": (flattened(), FLAT, {"m": [4, 48]}),
    "does not lie as a map": (
        [node("Transpose", "x", "t", perm=[0, 1, 3, 2]), node("Conv", "t w", "y")],
        POINT,
        [1, 4, 8, 6],
    ),
    "pool of other": ([node("MaxPool", "x", "y", kernel_shape=[3, 3], strides=[2, 2])], {}, [1, 4, 2, 3]),
    "Conv's own result": ([node("Relu", "x", "r"), node("Add", "x r", "y")], {}, [1, 4, 6, 8]),
    "of different shapes": (
        [node("GlobalAveragePool", "x", "g"), node("Conv", "x w", "c"), node("Add", "c g", "y")],
        POINT,
        [1, 4, 6, 8],
    ),
    "addition of a constant": ([node("Add", "x b", "y")], {"b": normal(4, 1, 1)}, [1, 4, 6, 8]),
    "Gemm with factors": (
        flattened(node("Gemm", "m w", "y", alpha=2.0)),
        FLAT | {"w": normal(48, 5)},
        [4, 5],
    ),
    "bias for each row": (
        flattened(node("Gemm", "m w b", "y")),
        FLAT | {"w": normal(48, 5), "b": normal(5)},
        [4, 5],
    ),
    "which is not one number a channel": (
        flattened(node("Transpose", "m", "t"), node("Gemm", "t w b", "y")),
        FLAT | {"w": normal(4, 5), "b": normal(48, 1)},
        [48, 5],
    ),
    "no share of a sum": (
        flattened(node("Transpose", "m", "t"), node("MatMul", "m t", "y")),
        FLAT,
        [4, 4],
    ),
    "along another axis": (
        [node("Slice", "x zero one two", "y")],
        {"zero": np.array([0]), "one": np.array([3]), "two": np.array([2])},
        [1, 4, 3, 8],
    ),
    "in steps": (
        [node("Slice", "x zero end one two", "y")],
        {"zero": np.array([0]), "end": np.array([4]), "one": np.array([1]), "two": np.array([2])},
        [1, 2, 6, 8],
    ),
    "weighted sum": (
        flattened(node("Transpose", "m", "t"), node("Gather", "t rows", "y")),
        FLAT | {"rows": np.array([1, 3], np.int32)},
        [2, 4],
    ),
    "DepthToSpace": ([node("DepthToSpace", "x", "y", blocksize=2, mode="CRD")], {}, [1, 2, 12, 16]),
    "ReduceMean of other than a map": ([node("ReduceMean", "x", "y", axes=[1])], {}, [1, 1, 6, 8]),
    "is computed": ([node("Relu", "w", "k"), node("Conv", "x k", "y")], POINT, [1, 4, 6, 8]),
    "stored as FLOAT, not in raw form": (
        [node("Conv", "x w", "y")],
        {"w": helper.make_tensor("w", TensorProto.FLOAT, [1, 4, 1, 1], [1.0, 2.0, 3.0, 4.0])},
        [1, 1, 6, 8],
    ),
    "3 x 3 or 5 x 5": ([node("Conv", "x w", "y", group=4)], {"w": normal(4, 1, 1, 1)}, [1, 4, 6, 8]),
    "one or two apart": ([node("Conv", "x w", "y", group=4, strides=[3, 3])], LIGHT, [1, 4, 2, 2]),
    "whose pads [1, 2, 1, 1]": ([node("Conv", "x w", "y", group=4, pads=[1, 2, 1, 1])], LIGHT, [1, 4, 6, 9]),
    "whose pads [2, 1, 1, 1]": ([node("Conv", "x w", "y", group=4, pads=[2, 1, 1, 1])], LIGHT, [1, 4, 7, 8]),
    "linear, half_pixel": (
        [upsampling("x scales", "y", mode="linear", coordinate_transformation_mode="align_corners")],
        DOUBLE,
        [1, 4, 12, 16],
    ),
    "zeros behind a map's channels": (
        [node("Pad", "x pads", "y")],
        {"pads": np.array([0, 0, 0, 0, 0, 0, 1, 0])},
        [1, 4, 7, 8],
    ),
    "other than zeros": (
        [node("Pad", "x pads one", "y")],
        {"pads": CHANNELS, "one": np.array(1, np.float32)},
        [1, 20, 6, 8],
    ),
    "no multiple of 16": (
        [node("Pad", "x pads", "p"), node("Conv", "x w", "c"), node("Add", "p c", "y")],
        {"pads": CHANNELS, "w": normal(20, 4, 1, 1)},
        [1, 20, 6, 8],
    ),
    "a Pad before other than": (
        [node("Concat", "x x x x", "c", axis=1), node("Pad", "c pads", "p"), node("Relu", "p", "y")],
        {"pads": CHANNELS},
        [1, 32, 6, 8],
    ),
    "to all of what is no matrix": ([node("Add", "x b", "y")], {"b": normal(4, 6, 8)}, [1, 4, 6, 8]),
    "a Mul of other than a sum": ([node("Mul", "x b", "y")], {"b": np.array(2, np.float32)}, [1, 4, 6, 8]),
    "a Div of other than a sum": (
        turned(node("Add", "t b", "s"), node("Div", "two s", "y")),
        SUM | {"two": np.array(2, np.float32)},
        [48, 4],
    ),
    "a Mul of other than a sum with constants": (
        turned(node("Add", "t b", "s"), node("Mul", "s b", "y")),
        SUM,
        [48, 4],
    ),
    "a Div by 0": (
        turned(node("Add", "t b", "s"), node("Div", "s nought", "y")),
        SUM | {"nought": np.array(0, np.float32)},
        [48, 4],
    ),
    "a Mul by inf": (
        turned(node("Add", "t b", "s"), node("Mul", "s inf", "y")),
        SUM | {"inf": np.array(np.inf, np.float32)},
        [48, 4],
    ),
    "a concat of tensors that lie in different ways": (
        flattened(node("Transpose", "m", "t"), node("Reshape", "t m_shape", "r"), node("Concat", "m r", "y", axis=0)),
        FLAT | {"m_shape": FLAT["flat"]},
        [8, 48],
    ),
    "constant, not a tensor": ([node("Concat", "x z", "y", axis=1)], {"z": normal(1, 2, 6, 8)}, [1, 6, 6, 8]),
}


@pytest.mark.parametrize("reason", LEFT_OUT)
def test_what_cannot_be_expressed_is_left_out_with_a_reason(reason):
    nodes, values, outputs = LEFT_OUT[reason]
    extra = {"size": (1, 8, 6, 8)} if reason == "DepthToSpace" else {}
    graph = made(nodes, values, outputs if isinstance(outputs, dict) else {"y": outputs}, **extra)
    assert plan({"mesh": graph}) is None
    line = obstacles({"mesh": graph})["mesh"]
    assert reason in line
    assert "\n" not in line


@pytest.mark.parametrize(("change", "reason"), [({"count": 47.0}, "the sum along"), ({"axis": 1}, "along the last")])
def test_shares_of_something_else(change, reason):
    assert reason in obstacles({"mesh": attention(**change)})["mesh"]


def test_gathered_rows_of_another_form():
    assert "stored as INT64" in obstacles({"mesh": gathering(normal(3, 4), kind=np.int64)})["mesh"]
    assert "weights [5, 3, 4]" in obstacles({"mesh": gathering(normal(5, 3, 4))})["mesh"]


def test_old_operators_and_inputs_that_are_no_map():
    old = made([node("Relu", "x", "y")], {}, {"y": [1, 4, 6, 8]}, opset=12)
    matrix = made([node("Relu", "x", "y")], {}, {"y": [4, 6]}, size=(4, 6))
    found = obstacles({"prior": old, "mesh": matrix})
    assert "before ONNX's set 13" in found["prior"]
    assert "not that of one map" in found["mesh"]
