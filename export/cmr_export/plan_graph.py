# SPDX-License-Identifier: Apache-2.0
"""A graph as plans are made of it: who makes and reads a tensor, shapes, and where constants lie in the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

__all__ = ["Graph", "Step", "UnknownError", "attributes", "automatic", "reshaped", "stripped"]

#: A step of a plan, but with names of tensors where the plan has slots.
Step = dict[str, Any]


class UnknownError(Exception):
    """A graph holds what no plan can express; says what."""


class Graph:
    """A graph with its constants, among them those that it stores in half precision and casts.

    Parameters
    ----------
    data : bytes
        The graph as it is stored; constants are named by their place in it.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        model = shape_inference.infer_shapes(onnx.load_from_string(data))
        graph = model.graph
        if any(o.domain in ("", "ai.onnx") and o.version < 13 for o in model.opset_import):
            raise UnknownError("operators as they were before ONNX's set 13")
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        casts = [node for node in graph.node if node.op_type == "Cast" and self._widens(node)]
        self.halves = {node.output[0] for node in casts}
        self.constants |= {node.output[0]: self.constants[node.input[0]] for node in casts}
        self.nodes = [node for node in graph.node if node.output[0] not in self.halves]
        self.inputs = [value.name for value in graph.input if value.name not in self.constants]
        self.outputs = [value.name for value in graph.output]
        self.makers = {node.output[0]: node for node in self.nodes}
        self.places = {node.output[0]: k for k, node in enumerate(self.nodes)}
        self.readers = Counter(name for node in self.nodes for name in node.input)
        self.readers.update(self.outputs)
        values = [*graph.input, *graph.value_info, *graph.output]
        self.shapes = {value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim) for value in values}
        self.shapes |= {name: tuple(tensor.dims) for name, tensor in self.constants.items()}

    def _widens(self, node: onnx.NodeProto) -> bool:
        """Whether a Cast gives a half-precision constant as float32."""
        tensor = self.constants.get(node.input[0])
        half = tensor is not None and tensor.data_type == TensorProto.FLOAT16
        return half and attributes(node)["to"] == TensorProto.FLOAT

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        shape = self.shapes.get(name, (0,))
        if 0 in shape:
            raise UnknownError(f"{name} has no shape of its own")
        return shape

    def constant(self, name: str, kind: int = TensorProto.FLOAT) -> list[Any]:
        """Where a constant lies, its shape, and "half" if half of what float32 would be lies there."""
        tensor = self.constants.get(name)
        if tensor is None:
            raise UnknownError(f"{name} is computed, a constant is wanted")
        half = kind == TensorProto.FLOAT and name in self.halves
        if tensor.data_type != (TensorProto.FLOAT16 if half else kind) or not tensor.raw_data:
            stored = TensorProto.DataType.Name(tensor.data_type) + ("" if tensor.raw_data else ", not in raw form")
            raise UnknownError(f"constant {name} is stored as {stored}")
        return [self.data.find(tensor.raw_data), list(tensor.dims), *(["half"] if half else [])]

    def numbers(self, name: str) -> np.ndarray:
        """Values of a small constant, which the plan holds itself."""
        if name not in self.constants:
            raise UnknownError(f"{name} is computed, a constant is wanted")
        return numpy_helper.to_array(self.constants[name])

    def beside(self, node: onnx.NodeProto | None, operator: str) -> tuple[str, float] | None:
        """Tensor and number of a node of this type."""
        if node is None or node.op_type != operator:
            return None
        number = next((n for n in node.input if n in self.constants and np.prod(self.shape(n)) == 1), None)
        other = next((n for n in node.input if n not in self.constants), None)
        return None if number is None or other is None else (other, float(self.numbers(number).item()))


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Return what a node says of itself, by name."""
    values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


def automatic(own: dict[str, Any]) -> bool:
    """Whether pads or sizes follow from more than the numbers in a node's attributes."""
    return own.get("auto_pad", "NOTSET") != "NOTSET" or bool(own.get("ceil_mode", 0))


def reshaped(constant: Sequence[Any], shape: Sequence[int]) -> list[Any]:
    """Return a constant seen in another shape."""
    return [constant[0], list(shape), *constant[2:]]


def stripped(shape: Sequence[int]) -> tuple[int, ...]:
    """Without leading ones, which broadcasting adds anyway."""
    first = next((k for k, size in enumerate(shape) if size != 1), len(shape))
    return tuple(shape[first:])
