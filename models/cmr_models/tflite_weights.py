# SPDX-License-Identifier: Apache-2.0
"""Constants of a TFLite graph's operators, read with the package ``tflite``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

__all__ = ["CONV", "DEPTHWISE", "FULLY_CONNECTED", "PRELU", "convert", "operators", "torch_layout"]

#: TFLite's numbers of operators with weights.
CONV, DEPTHWISE, FULLY_CONNECTED, PRELU = 3, 4, 9, 54
_DEQUANTIZE = 6
_NUMPY_TYPE = {0: np.float32, 1: np.float16, 2: np.int32}


def operators(path: Path) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Kind and constants, as they are stored, of each operator with weights, in the order in which the graph runs."""
    from tflite.Model import Model

    model = Model.GetRootAsModel(path.read_bytes(), 0)
    graph = model.Subgraphs(0)
    stored_as: dict[int, int] = {}

    def constant(index: int) -> np.ndarray:
        tensor = graph.Tensors(stored_as.get(index, index))
        values = model.Buffers(tensor.Buffer()).DataAsNumpy()
        return values.view(_NUMPY_TYPE[tensor.Type()]).reshape(tensor.ShapeAsNumpy())

    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        inputs = [int(k) for k in operator.InputsAsNumpy()]
        if kind == _DEQUANTIZE:
            stored_as[int(operator.OutputsAsNumpy()[0])] = inputs[0]
        elif kind in (CONV, DEPTHWISE, FULLY_CONNECTED, PRELU):
            yield kind, [constant(index) for index in inputs[1:]]


def torch_layout(kind: int, weight: np.ndarray) -> np.ndarray:
    """Weight of a convolution: (out, h, w, in), or depthwise (1, h, w, out), to (out, in / groups, h, w)."""
    return np.ascontiguousarray(weight.transpose((0, 3, 1, 2) if kind == CONV else (3, 0, 1, 2)))


def convert(what: str, read: Callable[[Path], dict[str, np.ndarray]]) -> None:
    """Command of a converter: reads a TFLite file and writes what ``read`` makes of it; ``what`` is its description."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("tflite", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    np.savez_compressed(args.out, **read(args.tflite))
