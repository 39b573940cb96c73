# SPDX-License-Identifier: Apache-2.0
"""Worker inside the peer's environment: times MediaPipe's hand landmark network.

`cmr_runtime.bench.worker` has the protocol. It imports nothing of the project, since the project is not installed where
it runs.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

__all__ = ["main", "serve"]


def serve(run: Callable[[], object], requests: TextIO, answers: TextIO, clock: Callable[[], float]) -> None:
    """Answer requests until their end.

    Parameters
    ----------
    run : callable
        One invocation.
    requests, answers : text file
        JSON lines.
    clock : callable
        Seconds.
    """
    for line in requests:
        try:
            count = json.loads(line)["run"]
            if type(count) is not int or not 1 <= count <= 100_000:
                raise ValueError(count)
        except (ValueError, KeyError, TypeError):
            _say(answers, {"error": f'cannot use {line.strip()[:80]!r}; send {{"run": N}}, N from 1 to 100000'})
            continue
        times = []
        for _ in range(count):
            start = clock()
            run()
            times.append(1e3 * (clock() - start))
        _say(answers, {"ms": times})


def _say(answers: TextIO, message: dict[str, object]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def _network(model: str, threads: int) -> Callable[[], object]:
    """One invocation of the network on noise; its input is set once, and no output is copied."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    # Found without an import of mediapipe, which would load far more than its files.
    package = importlib.util.find_spec("mediapipe")
    if package is None:
        raise FileNotFoundError("mediapipe is not installed in the peer environment")
    path = Path(package.submodule_search_locations[0]) / "modules" / "hand_landmark" / f"hand_landmark_{model}.tflite"
    network = Interpreter(model_path=str(path), num_threads=threads)
    network.allocate_tensors()
    _check_delegate(network)
    (image,) = network.get_input_details()
    network.set_tensor(image["index"], np.random.default_rng(0).random(image["shape"], np.float32))
    return network.invoke


def _check_delegate(network: object) -> None:
    """Without XNNPACK the peer would run several times slower and the comparison would flatter us."""
    delegates = [op for op in network._get_ops_details() if op["op_name"] == "DELEGATE"]
    results = {output["index"] for output in network.get_output_details()}
    if len(delegates) != 1 or set(delegates[0]["outputs"].tolist()) != results:
        raise RuntimeError(f"{len(delegates)} delegated parts; XNNPACK must take the whole network")


def main(argv: Sequence[str] | None = None) -> int:
    """Load the network, greet, serve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=["full", "lite"], required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args(argv)
    # Native code that prints must not disturb the protocol: from here on, stdout is stderr.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        run = _network(args.model, args.threads)
        versions = {name: importlib.metadata.version(name) for name in ("mediapipe", "ai-edge-litert")}
    except Exception as error:  # Whatever it is, the other side can only report it.
        _say(answers, {"error": f"{type(error).__name__}: {error}"})
        return 1
    _say(answers, {"ready": True, "versions": {**versions, "peer python": platform.python_version()}})
    serve(run, sys.stdin, answers, time.perf_counter)
    return 0


if __name__ == "__main__":
    sys.exit(main())
