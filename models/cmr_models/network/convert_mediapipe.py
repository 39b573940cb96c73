# SPDX-License-Identifier: Apache-2.0
"""Read the weights of MediaPipe's hand landmark network (Apache-2.0) as a starting point for training.

    pip install mediapipe==0.10.14 tflite        # in an environment of their own
    python -m cmr_models.network.convert_mediapipe hand_landmark_lite.tflite trunk_lite.npz

The file is found in the package ``mediapipe`` under ``modules/hand_landmark``. Written are ``conv_<k>_weight`` (out, in
/ groups, kh, kw) and ``conv_<k>_bias`` in the order in which the graph runs, and the fully connected heads as
``head_<k>_weight`` / ``_bias``: handedness, presence, landmarks, world landmarks.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

_NUMPY_TYPE = {0: np.float32, 1: np.float16, 2: np.int32}
_CONV, _DEPTHWISE, _FULLY_CONNECTED, _DEQUANTIZE = 3, 4, 9, 6


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Read convolutions and heads of a landmark graph, float32, in PyTorch's layout."""
    from tflite.Model import Model

    model = Model.GetRootAsModel(path.read_bytes(), 0)
    graph = model.Subgraphs(0)
    stored_as: dict[int, int] = {}

    def constant(index: int) -> np.ndarray:
        tensor = graph.Tensors(stored_as.get(index, index))
        values = model.Buffers(tensor.Buffer()).DataAsNumpy()
        return values.view(_NUMPY_TYPE[tensor.Type()]).reshape(tensor.ShapeAsNumpy()).astype(np.float32)

    out: dict[str, np.ndarray] = {}
    convs = heads = 0
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        inputs = [int(k) for k in operator.InputsAsNumpy()]
        if kind == _DEQUANTIZE:
            stored_as[int(operator.OutputsAsNumpy()[0])] = inputs[0]
        elif kind in (_CONV, _DEPTHWISE):
            weight = constant(inputs[1])
            # TFLite: (out, h, w, in), depthwise (1, h, w, out); PyTorch: (out, in / groups, h, w).
            order = (0, 3, 1, 2) if kind == _CONV else (3, 0, 1, 2)
            out[f"conv_{convs}_weight"] = np.ascontiguousarray(weight.transpose(order))
            out[f"conv_{convs}_bias"] = constant(inputs[2])
            convs += 1
        elif kind == _FULLY_CONNECTED:
            out[f"head_{heads}_weight"], out[f"head_{heads}_bias"] = constant(inputs[1]), constant(inputs[2])
            heads += 1
    return out


def main() -> None:
    """Convert one file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tflite", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    np.savez_compressed(args.out, **read_weights(args.tflite))


if __name__ == "__main__":
    main()
