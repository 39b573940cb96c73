# SPDX-License-Identifier: Apache-2.0
"""What a graph costs for one image: multiply-adds, parameters, bytes, operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import onnx
from onnx import TensorProto, shape_inference

__all__ = ["NodeCost", "StageCost", "measure", "node_costs"]


@dataclass(frozen=True)
class StageCost:
    """Cost of one graph for one image; None is unknown, as it is of a graph in ORT format."""

    multiply_adds: int | None
    parameters: int | None
    bytes: int
    operators: dict[str, int] | None


@dataclass(frozen=True)
class NodeCost:
    """Multiply-adds of one node, its type, and the shapes of its inputs."""

    operator: str
    inputs: tuple[tuple[int, ...], ...]
    multiply_adds: int


def node_costs(graph: bytes) -> Iterator[NodeCost]:
    """Count each node: convolutions, matrix products, and the weighted sums of spirals and barycentric weights."""
    model = shape_inference.infer_shapes(onnx.load_from_string(graph))
    shapes = _shapes(model.graph)
    products = {name for node in model.graph.node if node.op_type == "Mul" for name in node.output}
    for node in model.graph.node:
        inputs = tuple(shapes.get(name, ()) for name in node.input)
        out, count = shapes.get(node.output[0], ()), 0
        if node.op_type == "Conv":
            count = prod(out) * prod(inputs[1][1:])
        elif node.op_type == "ConvTranspose":  # its weights: (input channels, output channels of a group, kernel)
            count = prod(inputs[0]) * prod(inputs[1][1:])
        elif node.op_type in ("MatMul", "Gemm"):
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            count = prod(out) * (inputs[0][0] if transposed else inputs[0][-1])
        elif node.op_type in ("ReduceSum", "ReduceMean") and node.input[0] in products:
            count = prod(inputs[0])
        yield NodeCost(node.op_type, inputs, count)


def measure(graph: bytes) -> StageCost:
    """Count one graph."""
    nodes = list(node_costs(graph))
    operators = dict(Counter(node.operator for node in nodes))
    total = sum(node.multiply_adds for node in nodes)
    return StageCost(total, _parameters(onnx.load_from_string(graph)), len(graph), operators)


def _shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    known = {i.name: tuple(i.dims) for i in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        known[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    return known


def _parameters(model: onnx.ModelProto) -> int:
    """Count weights in any precision; quantisation's scales and the settings of operators are none."""
    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    scales = {name for node in pairs for name in node.input[1:]}
    scales |= {
        name for node in model.graph.node if node.op_type in ("Clip", "Pad", "Resize") for name in node.input[1:]
    }
    eight_bit = {node.input[0] for node in pairs}
    return sum(
        prod(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.dims and tensor.name not in scales
        if tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16) or tensor.name in eight_bit
    )
