# SPDX-License-Identifier: Apache-2.0
"""Weights stored in half precision: half the file, the same graph once loaded.

Each large float32 constant becomes a float16 constant and a Cast back. ONNX Runtime computes the Cast once, when it
loads the graph; all else is computed in float32.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["to_half"]

#: Constants with fewer values stay: a node costs more bytes than it saves.
SMALLEST = 64
#: Beyond the largest finite half.
LARGEST = float(np.finfo(np.float16).max)


def to_half(graph: bytes) -> bytes:
    """Store the weights of a graph as float16.

    Raises
    ------
    ValueError
        If a weight does not fit into float16.
    """
    model = onnx.load_from_string(graph)
    casts = []
    # Scales and zero points of eight-bit graphs must be plain constants for integer kernels to be made.
    scales = {
        name
        for node in model.graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
        for name in node.input[1:]
    }
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < SMALLEST or tensor.name in scales:
            continue
        if (largest := float(np.abs(values).max())) > LARGEST:
            raise ValueError(f"weight {tensor.name} holds {largest:g}; float16 ends at {LARGEST:g}: export in fp32")
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()
