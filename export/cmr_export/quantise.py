# SPDX-License-Identifier: Apache-2.0
"""Eight-bit graphs: static quantisation, per channel, of every layer that holds more than a trifle of the weights.

Weights are int8 and the tensors between quantised layers uint8 (with signed ones ONNX Runtime makes only half of the
integer kernels on x86-64), written as pairs of QuantizeLinear and DequantizeLinear, from which ONNX Runtime and its
mobile providers make integer kernels. What stays in float, and why, is `plan`; it is stored in half precision.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from .clean import drop_unused, shorten_names
from .graphs import quietly
from .half import to_half

__all__ = ["FLOAT_WEIGHTS", "plan", "to_int8"]

#: Weights of a stage that stay in float. With the default network these few, nearest to the ends, bring the mean error
#: of the vertices on rendered hands from 4 mm to 1 mm; a third as many to 1.5 mm.
FLOAT_WEIGHTS = 3 << 14

#: Nodes that go on in eight bits where all that they read is in eight bits already; in a float neighbourhood they
#: would only add conversions.
_FOLLOW = {"Add", "AveragePool", "Clip", "Concat", "Gather", "LeakyRelu", "MaxPool", "Relu", "Reshape"}
_FOLLOW |= {"Resize", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}

Feed = dict[str, np.ndarray]


def plan(model: onnx.ModelProto) -> tuple[list[int], list[int]]:
    """Choose which layers are quantised.

    The layers next to the inputs and outputs stay in float, nearest first, until `FLOAT_WEIGHTS` are spent: the first
    ones see the finest detail and the last ones make maps and vertices, and both hold few weights.

    Returns
    -------
    quantised, float : list of int
        Places in ``model.graph.node``; only nodes with weights are in the second.
    """
    nodes = model.graph.node
    constants = {i.name: prod(i.dims) for i in model.graph.initializer}
    weights = {
        place: max(constants.get(name, 0) for name in node.input[:2])
        for place, node in enumerate(nodes)
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")
        and any(constants.get(name, 0) for name in node.input[:2])
    }
    near = _layers_from_ends(model, set(weights))
    left, in_float = FLOAT_WEIGHTS, set()
    for place in sorted(weights, key=lambda k: (near[k], weights[k], k)):
        if weights[place] <= left:
            left -= weights[place]
            in_float.add(place)
    eight_bit: set[str] = set()
    quantised = []
    for place, node in enumerate(nodes):
        read = [name for name in node.input if name and name not in constants]
        follows = node.op_type in _FOLLOW and read and eight_bit.issuperset(read)
        if node.op_type == "Add" and len(read) < 2:
            follows = False  # a constant of eight bits would be too coarse
        if (place in weights and place not in in_float) or follows:
            quantised.append(place)
            eight_bit.update(node.output)
    return quantised, sorted(in_float)


def _layers_from_ends(model: onnx.ModelProto, layers: set[int]) -> dict[int, int]:
    """How many other layers lie between each layer and the nearest input or output of the graph."""
    far = len(layers) + 1

    def walk(nodes: list[tuple[int, onnx.NodeProto]], ends: set[str], forwards: bool) -> dict[int, int]:
        passed = dict.fromkeys(ends, 0)
        found = {}
        for place, node in nodes:
            sources, targets = (node.input, node.output) if forwards else (node.output, node.input)
            distance = min((passed[name] for name in sources if name in passed), default=far)
            found[place] = distance
            for name in targets:
                passed[name] = min(passed.get(name, far), distance + (place in layers))
        return found

    order = list(enumerate(model.graph.node))
    ahead = walk(order, {v.name for v in model.graph.input}, True)
    behind = walk(order[::-1], {v.name for v in model.graph.output}, False)
    return {place: min(ahead[place], behind[place]) for place in layers}


class _Reader(CalibrationDataReader):
    def __init__(self, feeds: list[Feed]) -> None:
        self._feeds: Iterator[Feed] = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


def to_int8(graph: bytes, feeds: list[Feed]) -> bytes:
    """Quantise a graph.

    Parameters
    ----------
    graph : bytes
        ONNX model in float32.
    feeds : list of dict
        Inputs by name, as many as the ranges of the tensors are to be taken from.
    """
    model = onnx.load_from_string(graph)
    for place, node in enumerate(model.graph.node):
        node.name = f"n{place}"
    with tempfile.TemporaryDirectory() as folder, quietly():
        out = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            out,
            _Reader(feeds),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,  # processors without VNNI saturate the sum of two products at full range
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=[f"n{place}" for place in plan(model)[0]],
        )
        model = onnx.load(out)
    _drop_zero_points(model)
    shorten_names(model)
    return to_half(model.SerializeToString())


def _drop_zero_points(model: onnx.ModelProto) -> None:
    """Leave out the zero points of biases: four bytes each for nothing, as int32 has none but zero.

    Those of weights stay: without them ONNX Runtime makes no integer kernel of a Gemm.
    """
    biases = {i.name for i in model.graph.initializer if i.data_type == onnx.TensorProto.INT32}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in biases:
            del node.input[2:]
    drop_unused(model)
