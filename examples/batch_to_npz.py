# SPDX-License-Identifier: Apache-2.0
"""A folder of images into one NPZ file of arrays, images by hands.

python examples/batch_to_npz.py FOLDER OUT.npz
"""

from __future__ import annotations

import sys

import numpy as np

from cmr_runtime import HandMeshTracker
from cmr_runtime.image_io import read_image
from cmr_runtime.sequence import HandSequence
from cmr_runtime.sources import expand


def main(folder: str, out: str) -> None:
    """Track each image by itself, then read the file again to show what is in it."""
    sequence = HandSequence(vertices=True)
    with HandMeshTracker(mode="image") as tracker:
        for path in expand(folder):
            sequence.add(tracker.track(read_image(path)), source=str(path))
    sequence.save(out)

    with np.load(out) as arrays:
        for name in arrays:
            print(f"{name:<18}{arrays[name].dtype!s:<10}{arrays[name].shape}")
        print("hands found:", int(arrays["found"].sum()))


if __name__ == "__main__":
    main(*sys.argv[1:3])
