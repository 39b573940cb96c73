# SPDX-License-Identifier: Apache-2.0
"""Worker inside the peer's environment: MediaPipe Hands in image mode, on photos.

`worker` has the protocol. To ``{"photo": PATH}`` it answers ``{"hand": null}``, or the hand as MediaPipe tells it:
``{"hand": {"landmarks": 21 × 2, "world": 21 × 3, "handedness": "Left"}}``, in parts of the photo's width and height
from its corner; in metres, around the hand's middle; as if the photo were a mirror image. It is started by its path and
imports nothing of the project.

Our tracker takes the photo for the box of a hand; MediaPipe looks for palms in pictures with room around them. So it is
given room, and a lower threshold. Of the 292 photos of `joints3d` its full model then finds 291 in place of 287, with a
mean error in camera space of 24.9 in place of 26.3 mm; its lite model 289 in place of 292, with 29.1 in place of 31.4.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TextIO

__all__ = ["main", "network", "serve"]

#: Part of the photo's width and height that is added on each side, its edge drawn out.
MARGIN = 0.5
#: Least probability of a palm; MediaPipe's own is 0.5.
MIN_DETECTION = 0.3

_Look = Callable[[str], "dict[str, Any] | None"]


def network(model: str) -> _Look:
    """Return what looks for one hand in the photo at a path; its model is lite or full."""
    cv2, np = importlib.import_module("cv2"), importlib.import_module("numpy")
    hands = importlib.import_module("mediapipe").solutions.hands.Hands(
        static_image_mode=True,
        max_num_hands=1,
        model_complexity=int(model == "full"),
        min_detection_confidence=MIN_DETECTION,
    )

    def look(path: str) -> dict[str, Any] | None:
        # Not `imread`, which does not take every name on Windows. Both turn a photo as its EXIF orientation says.
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError(f"{path} is no image that its OpenCV reads")
        height, width = image.shape[:2]
        x, y = int(MARGIN * width), int(MARGIN * height)
        image = cv2.copyMakeBorder(image, y, y, x, x, cv2.BORDER_REPLICATE)
        found = hands.process(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        if not found.multi_hand_landmarks:
            return None
        return {
            "landmarks": [
                [p.x * (1 + 2 * x / width) - x / width, p.y * (1 + 2 * y / height) - y / height]
                for p in found.multi_hand_landmarks[0].landmark
            ],
            "world": [[p.x, p.y, p.z] for p in found.multi_hand_world_landmarks[0].landmark],
            "handedness": found.multi_handedness[0].classification[0].label,
        }

    return look


def serve(look: _Look, requests: Iterable[str], answers: TextIO) -> None:
    """Answer requests, JSON lines, until their end."""
    for line in requests:
        try:
            answer: dict[str, Any] = {"hand": look(json.loads(line)["photo"])}
        except Exception as error:  # Whatever it is, the other side can only report it.
            answer = {"error": f"{type(error).__name__}: {error}"}
        _say(answers, answer)


def _say(answers: TextIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Load MediaPipe, greet, serve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=["lite", "full"], required=True)
    options = parser.parse_args(argv)
    # Native code that prints must not disturb the protocol: from here on, stdout is stderr.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        look = network(options.model)
        versions = {"mediapipe": importlib.metadata.version("mediapipe"), "peer python": platform.python_version()}
    except Exception as error:  # As in `serve`.
        _say(answers, {"error": f"{type(error).__name__}: {error}"})
        return 1
    _say(answers, {"ready": True, "versions": versions})
    serve(look, sys.stdin, answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
