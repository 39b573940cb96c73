# SPDX-License-Identifier: Apache-2.0
"""Write baked hands as photos with known joints, as `cmr-eval` reads them: figures that anyone may make again.

    python -m cmr_models.synth.bake data/held_out --count 2000 --seed 1000
    python -m cmr_models.synth.as_photos data/held_out held_out_photos --count 500
    cmr-eval joints3d held_out_photos

Every other hand is mirrored to a left one. Backgrounds are drawn.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from cmr_runtime.image_io import write_image

from ..batches import Renderings
from .background import Backgrounds
from .engine import compose

__all__ = ["main", "write_photos"]


def write_photos(baked: Path, out: Path, count: int, seed: int = 7) -> int:
    """Write the first baked hands, at most ``count``, as PNG files and ``annotations.json``; return how many.

    Raises
    ------
    FileNotFoundError
        ``baked`` is no folder of `bake`.
    FileExistsError
        ``out`` holds photos already.
    ValueError
        No hand is baked yet.
    OSError
        A photo cannot be written.
    """
    done = Renderings(baked, last=count).index[:, 1]
    fields = ("rgba", "joints", "root", "focal")
    rgba, joints, root, focal = (np.load(baked / f"{name}.npy", mmap_mode="r") for name in fields)
    if not len(done):
        raise ValueError(f"no hand in {baked} is rendered yet; let the baking go on")
    out.mkdir(parents=True, exist_ok=True)
    if (out / "annotations.json").exists():
        raise FileExistsError(f"{out} holds photos already; give another folder")
    size = rgba.shape[1]
    middle = (size - 1) / 2
    entries = []
    for number, (k, background) in enumerate(zip(done, Backgrounds(None, seed).sample(len(done), size), strict=True)):
        image = compose(torch.from_numpy(rgba[k].copy()), torch.from_numpy(np.ascontiguousarray(background))).numpy()
        points, left = (joints[k] + root[k]).astype(np.float64), number % 2 == 1
        if left:
            image, points = image[:, ::-1], points * [-1, 1, 1]
        name = f"{number:05d}.png"
        write_image(out / name, np.ascontiguousarray(image))
        matrix = [[float(focal[k]), 0, middle], [0, float(focal[k]), middle], [0, 0, 1]]
        side = "left" if left else "right"
        entries.append({"image": name, "handedness": side, "K": matrix, "joints_camera_m": points.round(6).tolist()})
    (out / "annotations.json").write_text(json.dumps(entries) + "\n")
    return len(entries)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the photos."""
    parser = argparse.ArgumentParser(prog="python -m cmr_models.synth.as_photos", description=__doc__.splitlines()[0])
    parser.add_argument("baked", type=Path, help="folder of cmr_models.synth.bake")
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=7, help="of the backgrounds")
    args = parser.parse_args(arguments)
    if args.count < 1 or args.seed < 0:
        parser.error(f"--count {args.count} --seed {args.seed}: give at least 1 and 0")
    try:
        count = write_photos(args.baked, args.out, args.count, args.seed)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f"{count} photos in {args.out}" + (f": {args.baked} has no more" if count < args.count else ""))


if __name__ == "__main__":
    main()
