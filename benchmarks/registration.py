# SPDX-License-Identifier: Apache-2.0
"""Time and error of the registration beside other solvers, on exact ground truth.

``python -m benchmarks.registration`` prints a table over joint noise, outlying joints, silhouette, mesh error and
distance, then what the project promises with the figures seen; `README.md` beside this file says what is in a figure.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from cmr_runtime.bench.machine import describe_machine
from cmr_runtime.options import up_to

from .registration_bars import bars
from .registration_plot import draw
from .registration_scenes import DISTANCES, MESHES, SILHOUETTES, Condition, Frame, make_frames, make_scenes
from .registration_solvers import Solver, make_solvers
from .registration_trust import hand_length, size_alone, trust

__all__ = ["cells", "main", "measure", "run", "table"]

FloatArray = npt.NDArray[np.float64]

BANDS = ((0.25, 0.4), (0.4, 0.6), (0.6, 0.9), (0.9, 1.2), (1.2, 1.5))
"""Distances in metres that get a cell each; all other cells are drawn over all of them."""


def cells(quick: bool = False) -> Iterator[tuple[str, Condition]]:
    """Yield the conditions of the table with the part of it that they belong to.

    Noise, outliers and silhouette are crossed; wrong meshes are crossed with noise and silhouette.
    """
    noises = (0.0, 1.0, 2.0, 4.0)
    if quick:
        noises = (0.0, 2.0)
    for outliers in (0, 6) if quick else (0, 3, 6):
        for noise in noises:
            for silhouette in SILHOUETTES:
                yield f"{outliers} outlying joints", Condition(noise, outliers, silhouette)
    for mesh in MESHES[1:]:
        for noise in noises[::2]:
            for silhouette in SILHOUETTES[: 1 if quick else None]:
                yield f"mesh error {mesh}", Condition(noise, 0, silhouette, mesh)
    for band in BANDS[: 1 if quick else None]:
        yield "distance", Condition(2.0, 0, "clean", "exact", band)


def measure(solver: Solver, frames: Sequence[Frame]) -> tuple[FloatArray, FloatArray]:
    """Milliseconds and root error in millimetres, each (len(frames),)."""
    times, errors = np.zeros(len(frames)), np.zeros(len(frames))
    for k, frame in enumerate(frames):
        start = time.perf_counter()
        translation = solver(frame)
        times[k] = 1e3 * (time.perf_counter() - start)
        errors[k] = 1e3 * np.linalg.norm(translation - frame.translation)
    return times, np.where(np.isfinite(errors), errors, 1e4)


def run(count: int = 200, seed: int = 0, quick: bool = False) -> dict[str, Any]:
    """Run the whole benchmark on one thread."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    report: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "machine": describe_machine(),
        "count": count,
        "seed": seed,
        "cells": [],
    }
    solvers = make_solvers()
    scenes = {DISTANCES: make_scenes(count, DISTANCES, seed)}
    every: dict[str, list[FloatArray]] = {name: [] for name in solvers}
    for part, condition in cells(quick):
        if condition.distance not in scenes:
            scenes[condition.distance] = make_scenes(count, condition.distance, seed)
        frames = make_frames(scenes[condition.distance], condition, seed)
        figures = {}
        for name, solver in solvers.items():
            measure(solver, frames[:5])  # warms caches
            times, errors = measure(solver, frames)
            every[name].append(times)
            figures[name] = {
                "median": float(np.median(errors)),
                "mean": float(errors.mean()),
                "p95": float(np.percentile(errors, 95)),
                "median_ms": float(np.median(times)),
            }
        report["cells"].append({"part": part, "condition": condition._asdict(), "solvers": figures})
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    report["times"] = {
        name: {"median": float(np.median(times)), "p95": float(np.percentile(times, 95))}
        for name, times in ((name, np.concatenate(parts)) for name, parts in every.items())
    }
    report["trust"] = trust(count, BANDS[: 1 if quick else None], seed)
    report["hand_length"] = hand_length(scenes[DISTANCES], seed)
    report["size_alone"] = size_alone(scenes[DISTANCES], seed)
    report["bars"] = bars(report)
    return report


def table(report: Mapping[str, Any]) -> str:
    """Render the report of `run` as text."""
    machine = report["machine"]
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, {report['date']}",
        f"load average at the start: {machine['load']}; {report['count']} hands a cell, seed {report['seed']}",
        "",
        f"{'time of a frame':24s}{'median':>10s}{'P95':>10s}",
    ]
    for name, times in report["times"].items():
        lines.append(f"{name:24s}{times['median']:7.3f} ms{times['p95']:7.3f} ms")
    names = list(report["times"])
    lines += ["", "root error in mm: median / mean / P95 over the hands of a cell"]
    part = None
    for cell in report["cells"]:
        if cell["part"] != part:
            part = cell["part"]
            lines += ["", f"{part:34s}" + "".join(f"{name:>21s}" for name in names)]
        figures = (
            "/".join(f"{cell['solvers'][name][key]:.{1 if cell['solvers'][name][key] < 100 else 0}f}" for key in KEYS)
            for name in names
        )
        lines.append(f"  {_label(cell['condition']):32s}" + "".join(f"{text:>21s}" for text in figures))
    lines += ["", "depth within its 90 % interval, by distance, over all silhouettes and noise of 1, 2 and 4 px:"]
    for row in report["trust"]:
        near, far = row["distance"]
        shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in row["covered"].items())
        lines.append(f"  {near:.2f} to {far:.2f} m: {shares}")
    length = report["hand_length"]
    lines += [
        "",
        f"hands 10 % larger than the mesh: mean depth error {length['without']:.1f} mm, with hand_length measured "
        f"{length['with']:.1f} mm",
        "a wrong mesh's size by itself costs, whatever the solver: "
        + ", ".join(f"{cost:.1f} mm (mesh error {mesh})" for mesh, cost in report["size_alone"].items()),
        "",
    ]
    for bar in report["bars"]:
        lines.append(f"{'yes' if bar['met'] else 'NO ':3s}  {bar['what']}: {bar['seen']}")
    return "\n".join(lines)


KEYS = ("median", "mean", "p95")


def _label(condition: Mapping[str, Any]) -> str:
    near, far = condition["distance"]
    place = "" if (near, far) == DISTANCES else f", {near:.2f} to {far:.2f} m"
    return f"{condition['noise']:g} px, {condition['silhouette']}{place}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.registration", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=up_to(10**9), default=200, metavar="N", help="hands a cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="few cells, 10 hands each unless --count says otherwise")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the mean errors")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    args = parser.parse_args(argv)
    count = 10 if args.quick and args.count == parser.get_default("count") else args.count
    report = run(count, args.seed, args.quick)
    if args.plot:
        draw(report, args.plot)
    print(json.dumps(report, indent=2) if args.json else table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
