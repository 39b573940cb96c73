# SPDX-License-Identifier: Apache-2.0
"""What ONNX Runtime did: time and bytes of every operator of an optimised graph, from its own profiler."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnx import TensorProto, helper

from cmr_runtime.errors import CmrError
from cmr_runtime.session import CPU, open_session, session_options

from .roofline_counts import POINTWISE, group_of, weight_index

__all__ = ["Operator", "Runs", "largest_layer", "read_profile", "run_graphs"]

_Tensors = dict[str, npt.NDArray[np.float32]]
_Sessions = Mapping[str, onnxruntime.InferenceSession]

#: Runs of each graph that come before those that count.
WARM_UP = 20

#: Least time of an operator once the profiler's share is taken off, seconds: about that of a call that does nothing.
_LEAST_S = 1e-7

#: Operators of the graph on which the profiler itself is measured.
_CHAIN = 200

#: What the profiler puts behind a node's name for the time of the node itself.
_KERNEL = "_kernel_time"


@dataclass(frozen=True)
class Operator:
    """One operator of an optimised graph.

    Attributes
    ----------
    name, kind, group : str
        Name of its node, type of the operator, group of `roofline_counts`.
    inputs, outputs : tuple of shapes
    weights, activations : int
        Bytes of its constant inputs, and of its other inputs and its outputs.
    seconds : float
        Time of one run: mean of the middle half of all runs, without what the profiler adds.
    """

    name: str
    kind: str
    group: str
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    weights: int
    activations: int
    seconds: float


class Runs(NamedTuple):
    """What `run_graphs` saw.

    Attributes
    ----------
    operators : dict of list of Operator
        By graph, in the order in which they ran.
    seconds : dict of float
        Time of a whole run by graph, without the profiler: the median.
    profiler : float
        Seconds that the profiler adds to the time of an operator, and which are taken off.
    """

    operators: dict[str, list[Operator]]
    seconds: dict[str, float]
    profiler: float


def read_profile(
    events: Iterable[Mapping[str, Any]], unpacked: Iterable[Mapping[str, Any]], profiler: float = 0.0, skip: int = 0
) -> list[Operator]:
    """Operators in the order in which they ran.

    Parameters
    ----------
    events : iterable of mapping
        A profile, for the times; its first `skip` runs do not count.
    unpacked : iterable of mapping
        A profile of the same graph without prepacking, for shapes and bytes: weights that are packed beforehand are no
        inputs any more.
    profiler : float
        Seconds that it adds to each operator.
    """
    described = _by_node(unpacked)
    operators = []
    for node, runs in _by_node(events).items():
        args = described[node][0]["args"]
        kind, inputs = args["op_name"], _shapes(args["input_type_shape"])
        operator = Operator(
            name=runs[0]["name"].removesuffix(_KERNEL),
            kind=kind,
            group=group_of(kind, inputs),
            inputs=inputs,
            outputs=_shapes(args["output_type_shape"]),
            weights=int(args["parameter_size"]),
            activations=int(args["activation_size"]) + int(args["output_size"]),
            seconds=max(_LEAST_S, _middle([1e-6 * run["dur"] for run in runs[skip:]]) - profiler),
        )
        operators.append(operator)
    return operators


def _by_node(events: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Group the times of kernels by node."""
    runs: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            runs[event["args"]["node_index"]].append(event)
    return runs


def _shapes(typed: Iterable[Mapping[str, list[int]]]) -> tuple[tuple[int, ...], ...]:
    """Shapes of tensors that the profile gives as ``{type: shape}``."""
    return tuple(tuple(shape) for each in typed for shape in each.values())


def _middle(values: list[float]) -> float:
    quarter = len(values) // 4
    return float(np.mean(sorted(values)[quarter : len(values) - quarter]))


def largest_layer(operators: Iterable[Operator]) -> tuple[int, int, int]:
    """m, k, n of the 1×1 convolution with the most multiply-adds, as a product of (m, k) and (k, n).

    Raises
    ------
    CmrError
        There is none.
    """
    layers = []
    for each in operators:
        if each.group == POINTWISE:
            n, k = each.inputs[weight_index(each.kind) or 0][:2]
            layers.append((int(np.prod(each.outputs[0])) // n, k, n))  # channels first or last
    if not layers:
        raise CmrError("no graph has a 1×1 convolution to take a layer's shape from; take another bundle")
    return max(layers, key=lambda shape: shape[0] * shape[1] * shape[2])


def run_graphs(graphs: Mapping[str, bytes], threads: int, runs: int) -> Runs:
    """Run graphs in turns, as a frame does, so that each finds the caches as the others have left them.

    Parameters
    ----------
    graphs : mapping
        Graph by name. Inputs that are outputs of an earlier graph are taken from there; others are noise.
    threads : int
        Threads inside an operator.
    runs : int
        Runs that count, and as many under the profiler.
    """
    plain = {name: open_session(graph, name, threads) for name, graph in graphs.items()}
    with TemporaryDirectory() as folder:
        profiled = _profiled(graphs, threads, Path(folder) / "packed")
        unpacked = _profiled(graphs, threads, Path(folder) / "unpacked", {"session.disable_prepacking": "1"})
        _take_turns([unpacked], 1)
        times, _ = _take_turns([plain, profiled], WARM_UP + runs)
        cost = _profiler_cost(Path(folder), threads)
        operators = {
            name: read_profile(_events(profiled[name]), _events(unpacked[name]), cost, WARM_UP) for name in graphs
        }
    return Runs(operators, {name: float(np.median(spans[WARM_UP:])) for name, spans in times.items()}, cost)


def _profiler_cost(folder: Path, threads: int) -> float:
    """Seconds that the profiler adds to the time of an operator, seen on a chain of operators that do almost nothing.

    It writes down shapes before its clock stops, and cuts times off to whole microseconds.
    """
    names = ["x", *(f"between.{i}" for i in range(_CHAIN - 1)), "y"]
    nodes = [helper.make_node("Max", [a, "x"], [b], name=f"/chain/{b}") for a, b in pairwise(names)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 2, 4]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    graphs = {"chain": model.SerializeToString()}
    plain = {name: open_session(graph, name, threads) for name, graph in graphs.items()}
    profiled = _profiled(graphs, threads, folder / "chain")
    times, _ = _take_turns([plain, profiled], 2 * WARM_UP)
    events = _events(profiled["chain"])
    spans = [operator.seconds for operator in read_profile(events, events, skip=WARM_UP)]
    return max(0.0, float(np.median(spans) - np.median(times["chain"][WARM_UP:]) / len(spans)))


def _profiled(
    graphs: Mapping[str, bytes], threads: int, prefix: Path, config: Mapping[str, str] = MappingProxyType({})
) -> _Sessions:
    """Sessions whose profilers write to files of a prefix."""
    sessions = {}
    for name, graph in graphs.items():
        options = session_options(threads)
        options.enable_profiling, options.profile_file_prefix = True, f"{prefix}-{name}"
        for key, text in config.items():
            options.add_session_config_entry(key, text)
        sessions[name] = onnxruntime.InferenceSession(graph, options, providers=CPU)
    return sessions


def _events(session: onnxruntime.InferenceSession) -> list[Any]:
    events: list[Any] = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    return events


def _take_turns(sets: Sequence[_Sessions], runs: int) -> list[dict[str, list[float]]]:
    """Seconds of each run, by set and graph; the sets alternate, so that drifts of the machine are common to them."""
    random = np.random.default_rng(0)
    known: _Tensors = {}
    feeds: dict[str, _Tensors] = {}
    for name, session in sets[0].items():
        inputs = {node.name: node.shape for node in session.get_inputs()}
        feeds[name] = {key: known[key] if key in known else random.random(inputs[key], np.float32) for key in inputs}
        known |= zip([node.name for node in session.get_outputs()], session.run(None, feeds[name]), strict=True)
    times: list[dict[str, list[float]]] = [{name: [] for name in feeds} for _ in sets]
    for _ in range(runs):
        for spans, sessions in zip(times, sets, strict=True):
            for name, session in sessions.items():
                start = time.perf_counter()
                session.run(None, feeds[name])
                spans[name].append(time.perf_counter() - start)
    return times
