# SPDX-License-Identifier: Apache-2.0
"""Worker inside the peer's environment: MediaPipe's landmark network on crops.

`cmr_runtime.bench.worker` has the protocol. To ``{"crop": "..."}`` (base64 of 224 × 224 × 3 bytes, RGB) it answers
``{"landmarks": [...], "world": [...], "presence": p}``: 21 × 3 numbers in pixels of the crop, 21 × 3 in metres, a
probability. It imports nothing of the project.
"""

from __future__ import annotations

import argparse
import base64
import importlib.metadata
import importlib.util
import json
import os
import sys
from pathlib import Path

__all__ = ["main"]

SIDE = 224


def main() -> int:
    """Load the network, greet, serve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=["full", "lite"], required=True)
    args = parser.parse_args()
    # Native code that prints must not disturb the protocol: from here on, stdout is stderr.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(message: dict[str, object]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        import numpy as np
        from ai_edge_litert.interpreter import Interpreter

        # Found without an import of mediapipe, which would load far more than its files.
        package = importlib.util.find_spec("mediapipe")
        folder = Path(package.submodule_search_locations[0]) / "modules" / "hand_landmark"
        network = Interpreter(model_path=str(folder / f"hand_landmark_{args.model}.tflite"), num_threads=1)
        network.allocate_tensors()
        source = network.get_input_details()[0]["index"]
        outputs = {output["name"]: output["index"] for output in network.get_output_details()}
        versions = {name: importlib.metadata.version(name) for name in ("mediapipe", "ai-edge-litert")}
    except Exception as error:  # Whatever it is, the other side can only report it.
        say({"error": f"{type(error).__name__}: {error}"})
        return 1
    say({"ready": True, "versions": versions})
    for line in sys.stdin:
        try:
            pixels = np.frombuffer(base64.b64decode(json.loads(line)["crop"]), np.uint8).reshape(1, SIDE, SIDE, 3)
        except (ValueError, KeyError, TypeError) as error:
            say({"error": f"cannot use a request: {error}"})
            continue
        network.set_tensor(source, pixels.astype(np.float32) / 255)
        network.invoke()
        landmarks, presence, _, world = (
            network.get_tensor(outputs[f"Identity{n}"]).ravel() for n in ("", "_1", "_2", "_3")
        )
        say({"landmarks": landmarks.tolist(), "world": world.tolist(), "presence": float(presence[0])})
    return 0


if __name__ == "__main__":
    sys.exit(main())
