# SPDX-License-Identifier: Apache-2.0
"""What is timed, operators or a plan's layers, and how: graphs run in turns, and the middle of all runs counts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cmr_runtime.session import Session

__all__ = ["LEAST_S", "WARM_UP", "Operator", "middle", "take_turns"]

#: Runs of each graph that come before those that count.
WARM_UP = 20

#: Least time of an operator once what measuring adds is taken off, seconds: about that of a call that does nothing.
LEAST_S = 1e-7


@dataclass(frozen=True)
class Operator:
    """One operator of an optimised graph, or one layer of a plan.

    Attributes
    ----------
    name, kind, group : str
        Name of its node or place of the layer, type, group of `roofline_counts` or `roofline_plan`.
    inputs, outputs : tuple of shapes
    weights, activations : int
        Bytes of its constant inputs, and of its other inputs and its outputs.
    seconds : float
        Time of one run: mean of the middle half of all runs, without what measuring adds.
    """

    name: str
    kind: str
    group: str
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    weights: int
    activations: int
    seconds: float


def middle(values: Sequence[float]) -> float:
    """Mean of the middle half."""
    quarter = len(values) // 4
    return float(np.mean(sorted(values)[quarter : len(values) - quarter]))


def take_turns(sets: Sequence[Mapping[str, Session]], runs: int) -> list[dict[str, list[float]]]:
    """Seconds of each run, by set and graph; the sets alternate, so that drifts of the machine are common to them.

    Inputs that are outputs of an earlier graph of the first set are taken from there; others are noise.
    """
    random = np.random.default_rng(0)
    known: dict[str, npt.NDArray[np.float32]] = {}
    feeds, names = {}, {}
    for name, session in sets[0].items():
        inputs = {node.name: tuple(node.shape) for node in session.get_inputs()}
        feeds[name] = {key: known[key] if key in known else random.random(inputs[key], np.float32) for key in inputs}
        names[name] = [node.name for node in session.get_outputs()]
        known |= zip(names[name], session.run(names[name], feeds[name]), strict=True)
    times: list[dict[str, list[float]]] = [{name: [] for name in feeds} for _ in sets]
    for _ in range(runs):
        for spans, sessions in zip(times, sets, strict=True):
            for name, session in sessions.items():
                start = time.perf_counter()
                session.run(names[name], feeds[name])
                spans[name].append(time.perf_counter() - start)
    return times
