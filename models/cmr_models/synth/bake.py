# SPDX-License-Identifier: Apache-2.0
"""Render a data set to disk: ``python -m cmr_models.synth.bake OUT_DIR --count 40000 --size 160 --seed 1``.

OUT_DIR holds one memory-mappable ``.npy`` per field of `engine.Batch` (N first), ``done.npy`` (one flag per chunk of
`CHUNK` samples) and ``about.json``. A run that was stopped goes on where it was; chunks depend on seed and number
only, so the result does not depend on the number of workers. Samples whose chunk is not done are zero.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from pathlib import Path

import numpy as np
import torch

from ..hand import load_hand
from .engine import Engine
from .view import SIDE

__all__ = ["CHUNK", "DTYPES", "bake", "main"]

CHUNK = 32
DTYPES = {
    "rgba": np.uint8,
    "silhouette": np.uint8,
    "vertices": np.float16,
    "joints": np.float32,
    "root": np.float32,
    "keypoints": np.float32,
    "visible": np.uint8,
    "focal": np.float32,
    "angles": np.float32,
    "shape": np.float32,
}


def _layout(size: int, vertices: int, shape: int) -> dict[str, tuple[int, ...]]:
    return {
        "rgba": (size, size, 4),
        "silhouette": (size, size),
        "vertices": (vertices, 3),
        "joints": (21, 3),
        "root": (3,),
        "keypoints": (21, 2),
        "visible": (21,),
        "focal": (),
        "angles": (16, 3),
        "shape": (shape,),
    }


def prepare(folder: Path, count: int, size: int, seed: int, sides: tuple[float, float] = SIDE) -> None:
    """Create the files, or check that those present were made with the same settings."""
    hand = load_hand()
    about = {"count": count, "size": size, "seed": seed, "chunk": CHUNK, "units": "m, px", "hand": "right"}
    about["sides"] = list(sides)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "about.json").exists():
        known = {"sides": list(SIDE)} | json.loads((folder / "about.json").read_text())  # which older ones do not state
        if known != about:
            raise SystemExit(f"{folder} was begun with {known}; asked for {about}: choose another folder")
        return
    for name, shape in _layout(size, len(hand.vertex_index), len(hand.shape_directions)).items():
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", DTYPES[name], (count, *shape)).flush()
    np.lib.format.open_memmap(folder / "done.npy", "w+", np.uint8, (-(-count // CHUNK),)).flush()
    (folder / "about.json").write_text(json.dumps(about))


def render_chunks(
    folder: Path,
    count: int,
    size: int,
    seed: int,
    worker: int,
    workers: int,
    device: str,
    sides: tuple[float, float],
) -> None:
    """Render every ``workers``-th chunk that is not done."""
    if device == "cpu":
        torch.set_num_threads(1)
    engine = Engine(load_hand(), size, device=device, sides=sides)
    files = {name: np.load(folder / f"{name}.npy", mmap_mode="r+") for name in DTYPES}
    done = np.load(folder / "done.npy", mmap_mode="r+")
    start, made = time.perf_counter(), 0
    for chunk in range(worker, len(done), workers):
        if done[chunk]:
            continue
        first = chunk * CHUNK
        engine.restart(seed, chunk)
        batch = engine.render(CHUNK)
        for name, file in files.items():
            values = getattr(batch, name).cpu().numpy()[: count - first]
            file[first : first + len(values)] = values.astype(file.dtype)
        done[chunk] = 1
        made += CHUNK
        if worker == 0 and made % (32 * CHUNK) == 0:
            rate = made / (time.perf_counter() - start) * workers
            print(f"{int(done.sum()) * CHUNK}/{count} samples, {rate:.0f} per second", flush=True)


def bake(
    folder: Path,
    count: int,
    size: int = 160,
    seed: int = 1,
    workers: int = 1,
    device: str = "cpu",
    sides: tuple[float, float] = SIDE,
) -> None:
    """Render ``count`` samples into ``folder``; see the module's text for the files."""
    prepare(folder, count, size, seed, sides)
    settings = [(folder, count, size, seed, k, workers, device, sides) for k in range(workers)]
    if workers == 1:
        render_chunks(*settings[0])
        return
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=render_chunks, args=s) for s in settings]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit("a worker failed; run the same command again to go on")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m cmr_models.synth.bake", description=__doc__.split(":")[0])
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--count", type=int, default=40000, help="hands (default: %(default)s)")
    parser.add_argument("--size", type=int, default=160, help="side of an image, pixels (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--sides",
        type=float,
        nargs=2,
        default=SIDE,
        metavar=("FROM", "TO"),
        help="of an image in sides of the joints' box (default: %(default)s); wide ones can be cut again anywhere",
    )
    args = parser.parse_args()
    bake(args.out_dir, args.count, args.size, args.seed, args.workers, args.device, tuple(args.sides))


if __name__ == "__main__":
    main()
