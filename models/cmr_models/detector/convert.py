# SPDX-License-Identifier: Apache-2.0
"""Read the weights of MediaPipe's palm detector (Apache-2.0).

    pip install tflite    # beside the train extra
    python -m cmr_models.detector.convert palm_detection_lite.tflite palm.npz

The file is found in the wheel of ``mediapipe`` 0.10.14, an archive, under ``mediapipe/modules/palm_detection``.
Written are ``conv_<k>_weight`` (out, in / groups, kh, kw), ``conv_<k>_bias`` and the slopes ``prelu_<k>`` in the order
in which the graph runs, in half precision as the file has them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..tflite_weights import CONV, DEPTHWISE, PRELU, convert, operators, torch_layout

__all__ = ["main", "read_weights"]


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Read convolutions and slopes of a palm detection graph in PyTorch's layout."""
    out: dict[str, np.ndarray] = {}
    convs = slopes = 0
    for kind, constants in operators(path):
        if kind in (CONV, DEPTHWISE):
            weight, bias = constants
            out[f"conv_{convs}_weight"] = torch_layout(kind, weight)
            out[f"conv_{convs}_bias"] = bias
            convs += 1
        elif kind == PRELU:
            out[f"prelu_{slopes}"] = constants[0].reshape(-1)
            slopes += 1
    return out


def main() -> None:
    """Convert one file."""
    convert(__doc__.splitlines()[0], read_weights)


if __name__ == "__main__":
    main()
