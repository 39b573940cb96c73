# SPDX-License-Identifier: Apache-2.0
"""What ONNX Runtime did: time and bytes of every operator of an optimised graph, from its own profiler.

Graphs that a plan runs take their turns with the others.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from cmr_runtime.plan.session import PlanSession
from cmr_runtime.plan.steps import Graph
from cmr_runtime.session import CPU, Session, open_session, session_options

from .roofline_counts import group_of
from .roofline_layers import layers
from .roofline_plan import ApartSession
from .roofline_turns import LEAST_S, WARM_UP, Operator, middle, take_turns

__all__ = ["Runs", "read_profile", "run_graphs"]

_Sessions = Mapping[str, onnxruntime.InferenceSession]

#: Operators of the graph on which the profiler itself is measured.
_CHAIN = 200

#: What the profiler puts behind a node's name for the time of the node itself.
_KERNEL = "_kernel_time"


class Runs(NamedTuple):
    """What `run_graphs` saw.

    Attributes
    ----------
    operators : dict of list of Operator
        By graph, in the order in which they ran; of a plan its layers.
    seconds : dict of float
        Time of a whole run by graph, as the runtime runs it: the median.
    profiler, call : float
        Seconds that the profiler adds to the time of an operator, and the most that a call adds to that of a layer;
        they are taken off. 0 where there is no such graph.
    """

    operators: dict[str, list[Operator]]
    seconds: dict[str, float]
    profiler: float
    call: float


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
            seconds=max(LEAST_S, middle([1e-6 * run["dur"] for run in runs[skip:]]) - profiler),
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


def run_graphs(
    graphs: Mapping[str, bytes], threads: int, runs: int, plans: Mapping[str, Graph] = MappingProxyType({})
) -> Runs:
    """Run graphs in turns, as a frame does, so that each finds the caches as the others have left them.

    Parameters
    ----------
    graphs : mapping
        Graph by name. Inputs that are outputs of an earlier graph are taken from there; others are noise.
    threads : int
        Threads inside an operator.
    runs : int
        Runs that count, and as many under the profiler, or layer by layer.
    plans : mapping
        Plans of those graphs that are run by one.
    """
    others = {name: graph for name, graph in graphs.items() if name not in plans}
    planned = {name: PlanSession(plan, graphs[name], name, threads) for name, plan in plans.items()}
    apart = {name: ApartSession(session) for name, session in planned.items()}
    plain: dict[str, Session] = {
        name: planned.get(name) or open_session(graph, name, threads) for name, graph in graphs.items()
    }
    with TemporaryDirectory() as folder:
        profiled = _profiled(others, threads, Path(folder) / "packed")
        unpacked = _profiled(others, threads, Path(folder) / "unpacked", {"session.disable_prepacking": "1"})
        take_turns([unpacked], 1)
        times, _ = take_turns([plain, {name: apart.get(name) or profiled[name] for name in graphs}], WARM_UP + runs)
        cost = _profiler_cost(Path(folder), threads) if others else 0.0
        operators = {
            name: read_profile(_events(profiled[name]), _events(unpacked[name]), cost, WARM_UP) for name in others
        }
    call = 0.0
    for name, session in apart.items():
        members = [layer for layer, _ in layers(plans[name], graphs[name])]
        operators[name], own = session.timed(members, WARM_UP)
        call = max(call, own)
    seconds = {name: float(np.median(spans[WARM_UP:])) for name, spans in times.items()}
    return Runs(operators, seconds, cost, call)


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
    times, _ = take_turns([plain, profiled], 2 * WARM_UP)
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
