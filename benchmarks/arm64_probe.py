# SPDX-License-Identifier: Apache-2.0
"""What one machine makes of the sample, as arrays, to be held against what another makes of it.

`arm64` runs this file on this machine and under emulation, each time with a wheel of the same sources.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys

import numpy as np

from cmr_runtime import Bundle, Camera, HandMeshTracker
from cmr_runtime.bundle import SHIPPED
from cmr_runtime.compiled import core
from cmr_runtime.image_io import read_image
from cmr_runtime.network import MeshStage, PriorStage
from cmr_runtime.precision import in_bits

__all__ = ["BY_THE_CORE", "main"]

#: What is told of the bundle in floats, run in eight bits, where a machine has the instructions.
BY_THE_CORE = "int8 by the core,"

_PACKAGES = ("numpy", "onnxruntime", "opencv-python-headless", "osqp", "scipy")


def main(argv: list[str]) -> None:
    """Write the arrays to a file and print ``{"machine", "python", "libc", "compiled", "versions"}``.

    Parameters
    ----------
    argv : list of str
        The image, the file of its camera, the ``.npz`` file to write.
    """
    image, about, out = argv
    rgb = read_image(image)
    camera = Camera.from_json(about)
    arrays = {"image": rgb, **_stages(rgb), **_hands(rgb, camera)}
    np.savez(out, **arrays)
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    libc = " ".join(platform.libc_ver())
    told = {"machine": platform.machine(), "python": platform.python_version(), "libc": libc}
    print(json.dumps(told | {"compiled": core is not None, "versions": versions}))


def _stages(rgb: np.ndarray) -> dict[str, np.ndarray]:
    """Both networks of each shipped bundle on a crop taken by slices: the same on every machine to the last bit."""
    arrays = {}
    bundles = {precision: Bundle.default(precision) for precision in SHIPPED}
    if eight := in_bits(bundles["fp32"], 8):
        bundles[BY_THE_CORE] = eight
    for precision, bundle in bundles.items():
        prior = PriorStage(bundle)
        mesh = MeshStage(bundle, prior)
        step = min(rgb.shape[:2]) // prior.size
        side = step * prior.size
        top, left = ((length - side) // 2 for length in rgb.shape[:2])
        cues = prior(np.ascontiguousarray(rgb[top : top + side : step, left : left + side : step]))
        output = mesh(cues)
        arrays[f"{precision} heatmaps"] = cues.heatmaps
        arrays[f"{precision} refined heatmaps"] = output.heatmaps
        arrays[f"{precision} silhouette"] = output.silhouette
        arrays[f"{precision} vertices"] = output.vertices
    return arrays


def _hands(rgb: np.ndarray, camera: Camera) -> dict[str, np.ndarray]:
    with HandMeshTracker(mode="image", precision="fp32") as tracker:  # in which every machine can run it
        hands = tracker.track(rgb, camera)
    return {
        "hands right": np.array([hand.handedness == "right" for hand in hands]),
        "hands vertices": np.array([hand.vertices for hand in hands]),
        "hands translation": np.array([hand.translation for hand in hands]),
        "hands keypoints": np.array([hand.keypoints for hand in hands]),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
