# SPDX-License-Identifier: Apache-2.0
"""Small graphs made by hand, and whether their plans compute what they do."""

from __future__ import annotations

import functools
import json

import numpy as np
import onnx
from exported import run_graph
from onnx import TensorProto, helper, numpy_helper
from plan_numpy import run_plan

from cmr_export.plan import obstacles, plan

__all__ = ["RNG", "SCALES", "attention", "gathering", "kinds", "made", "node", "normal", "same", "upsampling"]

RNG = np.random.default_rng(7)
SCALES = np.array([1, 1, 2, 2], np.float32)


def kinds(steps: list[dict]) -> list[str]:
    return [step["op"] for step in steps]


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def node(operator: str, inputs: str, output: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), [output], **attributes)


def upsampling(inputs: str, output: str, **attributes) -> onnx.NodeProto:
    x, scales = inputs.split()
    own = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
    return helper.make_node("Resize", [x, "", scales], [output], **(own | attributes))


def made(nodes, values: dict, outputs: dict[str, list[int]], size=(1, 4, 6, 8), opset=17) -> bytes:
    """Serialise a graph of x, of this size, and of constants."""
    constants = [v if isinstance(v, onnx.TensorProto) else numpy_helper.from_array(v, k) for k, v in values.items()]
    info = functools.partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT)
    graph = helper.make_graph(
        nodes, "test", [info("x", shape=size)], [info(name, shape=shape) for name, shape in outputs.items()], constants
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def same(graph: bytes) -> list[dict]:
    """Check that the plan computes what the graph does; return its steps."""
    assert obstacles({"mesh": graph}) == {}
    stated = json.loads(json.dumps(plan({"mesh": graph})))["graphs"]["mesh"]
    feed = {name: normal(*shape) for name, shape in stated["inputs"]}
    expected, found = run_graph(graph, feed), run_plan(stated, graph, feed)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
    return stated["steps"]


def gathering(weight: np.ndarray, reduction: str = "ReduceMean", kind: type = np.int32) -> bytes:
    """Make 5 sums of 3 rows each."""
    axes = {"axes": [1]} if reduction == "ReduceMean" else {}
    nodes = [
        node("Reshape", "x flat", "f"),
        node("Transpose", "f", "t"),
        node("Gather", "t index", "g"),
        node("Reshape", "g split", "s"),
        node("Mul", "s w", "p"),
        node(reduction, "p" if axes else "p one", "r", keepdims=0, **axes),
        node("Add", "r b", "a"),
        node("Relu", "a", "y"),
    ]
    values = {"flat": np.array([4, 48]), "split": np.array([5, -1, 4]), "w": weight, "b": normal(4)}
    values |= {"index": RNG.integers(0, 48, 15).astype(kind), "one": np.array([1])}
    return made(nodes, values, {"y": [5, 4]})


def attention(count: float = 48.0, axis: int = 2) -> bytes:
    nodes = [
        node("Conv", "x k", "c"),
        node("Sigmoid", "c", "p"),
        node("Reshape", "p flat", "m"),
        node("ReduceMean", "m", "a", axes=[axis]),
        node("Mul", "a count", "n"),
        node("Add", "n eps", "d"),
        node("Div", "m d", "s"),
        node("Reshape", "x flat", "f"),
        node("Transpose", "f", "t", perm=[0, 2, 1]),
        node("MatMul", "s t", "y"),
    ]
    values = {"k": normal(4, 4, 1, 1), "flat": np.array([1, 4, 48])}
    values |= {"count": np.array(count, np.float32), "eps": np.array(0.5, np.float32)}
    return made(nodes, values, {"y": [1, 4, 4]})
