# SPDX-License-Identifier: Apache-2.0
"""Read the weights of MediaPipe's palm detector (Apache-2.0).

    pip install mediapipe==0.10.14 tflite        # in an environment of their own
    python -m cmr_models.detector.convert palm_detection_lite.tflite palm.npz

The file is found in the package ``mediapipe`` under ``modules/palm_detection``. Written are ``conv_<k>_weight`` (out,
in / groups, kh, kw), ``conv_<k>_bias`` and the slopes ``prelu_<k>`` in the order in which the graph runs, in half
precision as the file has them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

__all__ = ["main", "read_weights"]

_NUMPY_TYPE = {0: np.float32, 1: np.float16, 2: np.int32}
_CONV, _DEPTHWISE, _DEQUANTIZE, _PRELU = 3, 4, 6, 54


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Read convolutions and slopes of a palm detection graph in PyTorch's layout."""
    out: dict[str, np.ndarray] = {}
    convs = slopes = 0
    for kind, constants in _operators(path):
        if kind in (_CONV, _DEPTHWISE):
            weight, bias = constants
            # TFLite: (out, h, w, in), depthwise (1, h, w, out); PyTorch: (out, in / groups, h, w).
            order = (0, 3, 1, 2) if kind == _CONV else (3, 0, 1, 2)
            out[f"conv_{convs}_weight"] = np.ascontiguousarray(weight.transpose(order))
            out[f"conv_{convs}_bias"] = bias
            convs += 1
        else:
            out[f"prelu_{slopes}"] = constants[0].reshape(-1)
            slopes += 1
    return out


def _operators(path: Path) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Kind and constants of each operator that has weights."""
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
        elif kind in (_CONV, _DEPTHWISE, _PRELU):
            yield kind, [constant(index) for index in inputs[1:]]


def main() -> None:
    """Convert one file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tflite", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    np.savez_compressed(args.out, **read_weights(args.tflite))


if __name__ == "__main__":
    main()
