# SPDX-License-Identifier: Apache-2.0
"""Time of our two networks against MediaPipe's hand landmark networks, in turns within one run.

``python -m benchmarks.networks --threads 1 2`` prints one table per number of threads; `README.md` beside this file
says what is in a figure.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from cmr_runtime import Bundle
from cmr_runtime.bench.machine import describe_machine
from cmr_runtime.bench.peer import mend, peer_python
from cmr_runtime.bench.worker import Worker
from cmr_runtime.errors import CmrError
from cmr_runtime.network import MeshStage, PriorStage
from cmr_runtime.options import PRECISION, up_to
from cmr_runtime.precision import CHOICES, open_bundle
from cmr_runtime.recall import Recall, Said
from cmr_runtime.session import MAX_THREADS

__all__ = ["Contestant", "landmark_worker", "main", "measure", "our_networks", "summarise", "table"]

#: Runs so many times and gives, by stage, the time of each in milliseconds.
Contestant = Callable[[int], dict[str, list[float]]]

#: Times by stage, then by round.
_Rounds = dict[str, list[list[float]]]

OURS, RECALLED = "prior + mesh", "recall + mesh"
PEERS = {"MediaPipe full": "full", "MediaPipe lite": "lite"}

#: Untimed invocations at the start of a turn, since the other side has just filled the caches.
LEAD_IN = 3

#: Untimed invocations before the first round.
WARM_UP = 30

#: Seconds between turns, in which the threads of the side that has just run stop spinning.
PAUSE = 0.02


def our_networks(bundle: Bundle, threads: int) -> Contestant:
    """Both stages in alternation, as a frame runs them: a crop in, every output out, normalisation included.

    Of a network that recalls, then what takes their place where a followed hand goes on as expected.
    """
    prior = PriorStage(bundle, threads)
    mesh = MeshStage(bundle, prior, threads)
    recall = None if bundle.shallow is None else Recall(bundle, prior, mesh, threads)
    crop = np.random.default_rng(0).integers(0, 256, (prior.size, prior.size, 3), np.uint8)

    def run(invocations: int) -> dict[str, list[float]]:
        times: dict[str, list[float]] = {"prior": [], "mesh": [], OURS: []} | ({RECALLED: []} if recall else {})
        for _ in range(invocations):
            start = time.perf_counter()
            cues = prior(crop)
            between = time.perf_counter()
            said = mesh(cues)
            end = time.perf_counter()
            seconds = [between - start, end - between, end - start]
            if recall is not None:
                mesh(recall(crop, Said(cues, said)))
                seconds.append(time.perf_counter() - end)
            for stage, each in zip(times, seconds, strict=True):
                times[stage].append(1e3 * each)
        return times

    return run


def measure(contestants: Sequence[Contestant], rounds: int, invocations: int, pause: float = PAUSE) -> _Rounds:
    """Let the contestants run in turns; each round begins with the next of them, so that none always follows another.

    Parameters
    ----------
    contestants : sequence of Contestant
        Each with stages of its own.
    rounds, invocations : int
        So many rounds, in each of which each contestant has one turn of so many timed invocations.
    pause : float
        Seconds before each turn.

    Returns
    -------
    dict of list of list of float
        Milliseconds by stage, round and invocation.
    """
    for run in contestants:
        run(WARM_UP)
    times: _Rounds = defaultdict(list)
    for number in range(rounds):
        for place in range(len(contestants)):
            time.sleep(pause)
            turn = contestants[(number + place) % len(contestants)](LEAD_IN + invocations)
            for stage, values in turn.items():
                times[stage].append(values[LEAD_IN:])
    return dict(times)


def summarise(times: Mapping[str, Sequence[Sequence[float]]], ours: str, peers: Sequence[str]) -> dict[str, Any]:
    """Statistics of what `measure` gave.

    Returns
    -------
    dict
        ``stages``: median and P95 over all invocations, milliseconds. ``ratios``, by peer: that of the medians of
        `ours` and of the peer within one round; its median, quartiles and extremes over the rounds, and in how many
        rounds `ours` was the faster.
    """
    stages = {
        stage: {"median_ms": float(np.median(values)), "p95_ms": float(np.percentile(values, 95))}
        for stage, values in times.items()
    }
    ratios = {}
    for peer in peers:
        ratio = np.median(times[ours], axis=1) / np.median(times[peer], axis=1)
        low, q1, median, q3, high = (float(q) for q in np.percentile(ratio, [0, 25, 50, 75, 100]))
        ratios[peer] = {
            "median": median, "quartiles": [q1, q3], "extremes": [low, high],
            "faster_rounds": int(np.sum(ratio < 1)), "rounds": len(ratio),
        }  # fmt: skip
    return {"stages": stages, "ratios": ratios}


def table(report: Mapping[str, Any]) -> str:
    """Render the report of `compare` as text."""
    machine, settings = report["machine"], report["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, {report['date']}",
        f"load average at the start: {machine['load']}",
        versions,
        f"bundle {report['model']!r} in {report['precision']}, input {report['input_size']} px; "
        f"{settings['rounds']} rounds of {settings['invocations']} invocations in turns, warm-up apart",
    ]
    for run in report["runs"]:
        lines += ["", f"threads: {run['threads']}", f"  {'stage':18s}{'median':>11s}{'P95':>11s}"]
        for stage, values in run["stages"].items():
            lines.append(f"  {stage:18s}{values['median_ms']:8.2f} ms{values['p95_ms']:8.2f} ms")
        for peer, ratio in run["ratios"].items():
            (q1, q3), (low, high) = ratio["quartiles"], ratio["extremes"]
            lines.append(
                f"  {OURS} / {peer}: {ratio['median']:.2f} (quartiles {q1:.2f} to {q3:.2f}, extremes {low:.2f} to "
                f"{high:.2f}), faster in {ratio['faster_rounds']} of {ratio['rounds']} rounds"
            )
    return "\n".join(lines)


def landmark_worker(python: str | None, model: str, threads: int) -> Worker:
    """Worker with MediaPipe's hand landmark network, `model` being ``full`` or ``lite``."""
    script = Path(__file__).with_name("peer_landmarks.py")
    command = [peer_python(python), "-I", str(script), "--model", model, "--threads", str(threads)]
    return Worker(command, f"MediaPipe landmarks {model}", mend=mend(python))


def compare(
    bundle: Bundle, threads: Sequence[int], rounds: int, invocations: int, python: str | None = None
) -> dict[str, Any]:
    """Run the whole comparison; `python` is an interpreter for the peer, None that of its environment.

    Raises
    ------
    PeerError
        The peer's environment is absent, or a worker fails.
    BundleError
        The bundle's graphs do not run.
    """
    report: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "machine": describe_machine(),
        "versions": {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__},
        "model": bundle.name,
        "precision": bundle.run_in,
        "input_size": bundle.input_size,
        "settings": {"rounds": rounds, "invocations": invocations, "lead_in": LEAD_IN, "warm_up": WARM_UP},
        "runs": [],
    }
    for count in threads:
        with ExitStack() as stack:
            contestants = [our_networks(bundle, count)]
            for peer, model in PEERS.items():
                worker = stack.enter_context(landmark_worker(python, model, count))
                contestants.append(lambda n, run=worker.run, peer=peer: {peer: run(n)})
                report["versions"].update(worker.versions)
            times = measure(contestants, rounds, invocations)
        report["runs"].append({"threads": count, **summarise(times, OURS, list(PEERS))})
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks", description=__doc__.splitlines()[0])
    parser.add_argument("--model", metavar="BUNDLE", help="default: the bundle that comes with the package")
    parser.add_argument("--precision", choices=CHOICES, help=PRECISION)
    parser.add_argument("--threads", type=up_to(MAX_THREADS), nargs="+", default=[1], metavar="N")
    parser.add_argument("--rounds", type=up_to(10_000), default=20, metavar="N")
    parser.add_argument("--invocations", type=up_to(10_000), default=20, metavar="N", help="of each stage in a round")
    parser.add_argument("--peer-python", metavar="PATH", help="of an environment with mediapipe and ai-edge-litert")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    args = parser.parse_args(argv)
    try:
        bundle = open_bundle(args.model or None, args.precision)
        report = compare(bundle, args.threads, args.rounds, args.invocations, args.peer_python)
    except CmrError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report, indent=2) if args.json else table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
