# SPDX-License-Identifier: Apache-2.0
"""Where the time of a frame goes, and how far each part is from what this processor can do.

``python -m benchmarks.roofline`` prints the tables of `ROOFLINE.md`, which says how to read them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from cmr_runtime import Bundle, Camera, HandMeshTracker
from cmr_runtime.bench.machine import describe_machine
from cmr_runtime.errors import CmrError
from cmr_runtime.image_io import read_image
from cmr_runtime.plan.session import kernels
from cmr_runtime.precision import open_bundle

from .roofline_counts import largest_layer, multiply_adds
from .roofline_layers import layers, layers_multiply_adds
from .roofline_limits import Limits, measure_limits
from .roofline_plan import plans_in_use
from .roofline_profile import run_graphs
from .roofline_tables import columns, markdown, update
from .roofline_turns import Operator

__all__ = ["frame_times", "main", "measure", "stage_report"]

SAMPLE = Path(__file__).resolve().parents[1] / "examples" / "data" / "sample.jpg"

#: Frames of the video that come before those that count.
WARM_UP = 20

#: Operators or layers of each stage that are listed by themselves: those that take longest.
SLOWEST = 5


def stage_report(
    counts: Mapping[str, int], operators: Sequence[Operator], limits: Limits, seconds: float
) -> dict[str, Any]:
    """Work, time and bound of one graph by group.

    Parameters
    ----------
    counts : mapping
        Multiply-adds by group, in the order of the tables.
    operators : sequence of Operator
        What ran: operators, or a plan's layers.
    limits : Limits
        Of the processor.
    seconds : float
        Time of a whole run, as the runtime runs it.

    Returns
    -------
    dict
        ``groups``: those that have operators. ``bound_ms`` is the least time of a group, the larger of that of its
        multiply-adds and that of its bytes, and ``share`` what part of its time that is. ``sum``: the same of the whole
        graph, whose groups run one after the other. ``measured_ms``, ``outside_ms``: time of a whole run, and what of
        it passes outside operators or layers. ``slowest``: those that take longest.
    """
    groups = []
    for group in counts:
        members = [each for each in operators if each.group == group]
        if not members:
            continue
        weights, activations = sum(each.weights for each in members), sum(each.activations for each in members)
        compute, memory = limits.seconds(counts[group], weights, activations)
        spent = sum(each.seconds for each in members)
        groups.append(_row(group, len(members), counts[group], weights, activations, spent, max(compute, memory)))
        groups[-1]["bound_by"] = "compute" if compute > memory else "memory"
    keys = ("operators", "multiply_adds", "weight_bytes", "activation_bytes", "ms", "bound_ms")
    number, adds, weights, activations, ms, bound = (sum(group[key] for group in groups) for key in keys)
    slowest = sorted(operators, key=lambda each: -each.seconds)[:SLOWEST]
    return {
        "groups": groups,
        "sum": _row("sum", number, adds, weights, activations, 1e-3 * ms, 1e-3 * bound),
        "measured_ms": 1e3 * seconds,
        "outside_ms": 1e3 * seconds - ms,
        "slowest": [dataclasses.asdict(each) for each in slowest],
    }


def _row(
    group: str, operators: int, adds: int, weights: int, activations: int, seconds: float, bound: float
) -> dict[str, Any]:
    return {
        "group": group,
        "operators": operators,
        "multiply_adds": adds,
        "weight_bytes": weights,
        "activation_bytes": activations,
        "ms": 1e3 * seconds,
        "gmac_s": 1e-9 * adds / seconds,
        "gb_s": 1e-9 * (weights + activations) / seconds,
        "bound_ms": 1e3 * bound,
        "share": bound / seconds,
    }


def frame_times(bundle: Bundle, threads: int, frames: int) -> dict[str, float]:
    """Median milliseconds of each stage of a followed frame, of the rest of `track`, and of the whole call.

    The video is the sample image again and again.

    Raises
    ------
    CmrError
        The bundle finds no hand in the sample, or loses it.
    """
    rgb = read_image(SAMPLE)
    camera = Camera.from_json(SAMPLE.with_suffix(".json"))
    rows = []
    with HandMeshTracker(bundle, mode="video", threads=threads) as tracker:
        for _ in range(WARM_UP + frames):
            start = time.perf_counter()
            hands = tracker.track(rgb, camera)
            whole = 1e3 * (time.perf_counter() - start)
            if not hands:
                raise CmrError(f"bundle {bundle.name!r} finds no hand in {SAMPLE.name}; take one that does")
            stages = dataclasses.asdict(hands[0].times)
            rows.append({**stages, "the rest of track()": whole - sum(stages.values()), "whole frame": whole})
    return {key: float(np.median([row[key] for row in rows[WARM_UP:]])) for key in rows[0]}


def measure(bundle: Bundle, threads: int, runs: int, frames: int) -> dict[str, Any]:
    """Measure processor, graphs and frame.

    Raises
    ------
    CmrError
        A graph is in ORT format or does not run, or no hand is found in the sample.
    """
    parts = {"prior": bundle.prior, "mesh": bundle.mesh, "shallow": bundle.shallow, "detector": bundle.detector}
    graphs = {name: graph for name, graph in parts.items() if graph is not None}
    report: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "machine": describe_machine(),
        "versions": {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__},
        "model": bundle.name,
        "precision": bundle.precision,
        "input_size": bundle.input_size,
        "settings": {"threads": threads, "runs": runs, "frames": frames},
    }
    plans = plans_in_use(bundle, threads)
    counts = {name: multiply_adds(graph, name) for name, graph in graphs.items()}
    counts |= {name: layers_multiply_adds(layers(plan, graphs[name])) for name, plan in plans.items()}
    layer = largest_layer([bundle.prior, bundle.mesh])
    operators, seconds, report["profiler_s"], report["call_s"] = run_graphs(graphs, threads, runs, plans)
    # The first layers alone are the prior's.
    everything = [each for name, members in operators.items() if name != "shallow" for each in members]
    limits = measure_limits(threads, sum(each.weights for each in everything), layer)
    report["limits"] = dataclasses.asdict(limits)
    report["plans"] = {"graphs": list(plans), "kernels": kernels()[0] if plans else None}
    report["stages"] = {name: stage_report(counts[name], operators[name], limits, seconds[name]) for name in graphs}
    report["frame_ms"] = frame_times(bundle, threads, frames)
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return 0, or 2 with one line on standard error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.roofline", description=__doc__.splitlines()[0])
    parser.add_argument("--model", metavar="BUNDLE", help="default: the bundle that comes with the package")
    for option, default, what in (
        ("--threads", 1, "threads inside an operator"),
        ("--runs", 300, "of each graph, and as many under the profiler or layer by layer"),
        ("--frames", 200, "of the video whose stages are timed"),
    ):
        parser.add_argument(option, type=int, default=default, metavar="N", help=f"{what} (default {default})")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    form.add_argument("--markdown", action="store_true", help="print the tables as the page holds them")
    parser.add_argument("--update", type=Path, metavar="PAGE", help="put the tables between the marks of a page")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the roofline, with a point per group")
    args = parser.parse_args(argv)
    for option in ("threads", "runs", "frames"):
        if getattr(args, option) < 1:
            parser.error(f"--{option} is {getattr(args, option)}; give a whole number from 1")
    try:
        bundle = open_bundle(args.model or None, None if args.model else "fp32")  # bounds are of floats
        report = measure(bundle, args.threads, args.runs, args.frames)
        if args.update:
            update(args.update, markdown(report))
        if args.plot:
            from .roofline_plot import draw

            draw(report, args.plot)
    except CmrError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report, indent=2) if args.json else markdown(report) if args.markdown else columns(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
