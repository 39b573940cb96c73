# SPDX-License-Identifier: Apache-2.0
"""Eight-bit graphs: static quantisation, per channel, of every layer that holds more than a trifle of the weights.

Weights are int8 and the tensors between quantised layers uint8 (with signed ones ONNX Runtime makes only half of the
integer kernels on x86-64), written as pairs of QuantizeLinear and DequantizeLinear, from which ONNX Runtime and its
mobile providers make integer kernels. What `plan` leaves in float is stored in half precision.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from .clean import drop_unused, shorten_names
from .float_layers import plan
from .graphs import quietly
from .half import to_half

__all__ = ["to_int8"]

Feed = dict[str, np.ndarray]


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
