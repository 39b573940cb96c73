# SPDX-License-Identifier: Apache-2.0
"""Read the weights of MediaPipe's hand landmark network (Apache-2.0) as a starting point for training.

    pip install tflite    # beside the train extra
    python -m cmr_models.network.convert_mediapipe hand_landmark_lite.tflite trunk_lite.npz

The file is found in the wheel of ``mediapipe`` 0.10.14, an archive, under ``mediapipe/modules/hand_landmark``.
Written are ``conv_<k>_weight`` (out, in / groups, kh, kw) and ``conv_<k>_bias`` in the order in which the graph runs,
and the fully connected heads as ``head_<k>_weight`` / ``_bias``: handedness, presence, landmarks, world landmarks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..tflite_weights import CONV, DEPTHWISE, FULLY_CONNECTED, convert, operators, torch_layout


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Read convolutions and heads of a landmark graph, float32, in PyTorch's layout."""
    out: dict[str, np.ndarray] = {}
    convs = heads = 0
    for kind, constants in operators(path):
        weight, bias = (values.astype(np.float32) for values in constants)
        if kind in (CONV, DEPTHWISE):
            out[f"conv_{convs}_weight"], out[f"conv_{convs}_bias"] = torch_layout(kind, weight), bias
            convs += 1
        elif kind == FULLY_CONNECTED:
            out[f"head_{heads}_weight"], out[f"head_{heads}_bias"] = weight, bias
            heads += 1
    return out


def main() -> None:
    """Convert one file."""
    convert(__doc__.splitlines()[0], read_weights)


if __name__ == "__main__":
    main()
