# SPDX-License-Identifier: Apache-2.0
"""Where weak labels place their joints, measured on rendered hands, whose joints are known.

    python -m cmr_models.synth.bake baked --count 2000 --size 256 --seed 9
    python -m cmr_models.synth.as_photos baked rendered --count 2000
    python -m cmr_models.pseudo_label rendered labels.json
    python -m cmr_models.photos.joint_offsets rendered labels.json

prints what :data:`.joints.OFFSETS` is to be. The third needs MediaPipe.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmr_runtime.errors import CmrError
from cmr_runtime.samples import Sample, read_samples

from .joints import joint_frames, mirrored, pixels_per_palm, to_model

__all__ = ["main", "measure"]

#: Largest distance of a label from the truth, in sides of the joints' box, at which it is taken for that hand's.
NEAR = 0.06
#: Residual, in sizes of the palm, up to which hands count alike; beyond it by its inverse. Rounds of that weighting.
FLOOR, ROUNDS = 0.02, 20
#: Hands that are needed, three unknowns a joint.
LEAST = 100


def measure(keypoints: np.ndarray, world: np.ndarray, right: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Offsets that bring labels nearest to true keypoints (N, 21, 2), in the sense of the sum of distances.

    No label's `pixels_per_palm` may be 0. The other parameters and the result are as in `to_model`. Least squares,
    weighted again by the distances (Weiszfeld, 1937): a finger that the labels take for its neighbour does not count
    for more than its distance.
    """
    world = mirrored(np.asarray(world, np.float64), right)
    off = mirrored(np.asarray(keypoints, np.float64) - truth, right)
    off /= pixels_per_palm(mirrored(np.asarray(keypoints, np.float64), right), world)[:, None, None]
    axes = joint_frames(world)[:, :, :2]
    weight = np.ones(off.shape[:2])
    for _ in range(ROUNDS):
        normal = np.einsum("nj,njxk,njxl->jkl", weight, axes, axes)
        offsets = np.linalg.solve(normal, np.einsum("nj,njxk,njx->jk", weight, axes, off)[..., None])[..., 0]
        residual = np.linalg.norm(off - np.einsum("njxk,jk->njx", axes, offsets), axis=-1)
        weight = 1 / np.maximum(residual, FLOOR)
    return offsets


def fitting(label: dict[str, Any], samples: dict[str, Sample]) -> tuple[np.ndarray, ...] | None:
    """Keypoints, world joints and side of a label, and the true keypoints; None if it is not of that hand.

    Raises
    ------
    ValueError
        No sample is of this image, or it has no joints.
    """
    sample = samples.get(label["image"])
    if sample is None or sample.joints is None:
        raise ValueError(f"no joints are known of {label['image']}: give photos with joints, and their labels")
    pixels = sample.joints @ sample.matrix.T
    true, seen, world = pixels[:, :2] / pixels[:, 2:], np.array(label["keypoints"]), np.array(label["world"])
    far = np.linalg.norm(seen - true, axis=1).mean() / np.ptp(true, axis=0).max()
    opposed = pixels_per_palm(seen[None], world[None])[0] <= 0  # its 2D and 3D joints contradict each other
    if label["handedness"] != sample.handedness or far >= NEAR or opposed:
        return None
    return seen, world, np.array(sample.handedness == "right"), true


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and say what it brings."""
    parser = argparse.ArgumentParser(
        prog="python -m cmr_models.photos.joint_offsets", description=__doc__.splitlines()[0]
    )
    parser.add_argument("photos", type=Path, help="folder of cmr_models.synth.as_photos")
    parser.add_argument("labels", type=Path, help="what cmr_models.pseudo_label said about it")
    args = parser.parse_args(arguments)
    try:
        samples = {sample.path.name: sample for sample in read_samples(args.photos)}
        rows = [row for label in json.loads(args.labels.read_text())["labels"] if (row := fitting(label, samples))]
    except (CmrError, OSError, ValueError, KeyError, TypeError) as error:
        parser.error(f"{args.photos}, {args.labels}: cannot be used ({error!r})")
    if len(rows) < LEAST:
        parser.error(f"{args.labels}: {len(rows)} labels fit the hands of {args.photos}; need {LEAST}")
    seen, world, right, truth = (np.array(column) for column in zip(*rows, strict=True))
    offsets = measure(seen, world, right, truth)
    print("[" + ",\n ".join(str([round(float(v), 3) for v in row]) for row in offsets) + "]")
    box = np.ptp(truth, axis=1).max(1)
    even = np.arange(len(rows)) % 2 == 0
    before, after = [], []
    for chosen in (even, ~even):  # what one half says, seen on the other
        half = measure(seen[chosen], world[chosen], right[chosen], truth[chosen])
        moved = to_model(seen[~chosen], world[~chosen], right[~chosen], half)
        before.append((np.linalg.norm(seen - truth, axis=-1).mean(1) / box)[~chosen].mean())
        after.append((np.linalg.norm(moved - truth[~chosen], axis=-1).mean(1) / box[~chosen]).mean())
    print(
        f"{len(rows)} hands; distance to the model's joints in % of the box: {100 * np.mean(before):.2f} as labelled, "
        f"{100 * np.mean(after):.2f} moved as the other half of the hands says"
    )


if __name__ == "__main__":
    main()
