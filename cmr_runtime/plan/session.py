# SPDX-License-Identifier: Apache-2.0
"""A graph that the compiled core runs, in place of a session of ONNX Runtime."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..compiled import core
from ..errors import BundleError
from .compile import lay_out
from .layout import Layout
from .steps import Constants, Graph

__all__ = ["PlanSession", "kernels"]

_Array = npt.NDArray[np.float32]


#: As `PLAN_MOST_THREADS` in core/plan.h.
_MOST_THREADS = 16


def kernels(bits: int = 32) -> list[str]:
    """Names of the kernels that this processor can run, the quickest first; none without the compiled core.

    `bits`: those that make products of so many. 32 are floats; 8 and 16 are whole numbers, for which a processor needs
    instructions of its own.
    """
    return [] if core is None else list(core.plan_kernels(bits))


class Node(NamedTuple):
    """An input or output, as ONNX Runtime describes one."""

    name: str
    shape: tuple[int, ...]
    type: str = "tensor(float)"


class PlanSession:
    """Runs the plan of a graph.

    Parameters
    ----------
    graph : Graph
        What to do.
    part : bytes
        The graph's file, which holds the constants.
    name : str
        What messages call it.
    threads : int
        Threads that share a layer.
    kernel : str, optional
        One of `kernels`; default: the quickest.
    bits : {8, 16, 32}
        Of products, where fewer than 32 pay: weights are rounded here, once, with a scale for each column; what they
        are multiplied with when it is there, with a scale for the limits of an activation or for some hundred cells.

    Raises
    ------
    BundleError
        The plan does not fit itself or the graph's file.
    """

    def __init__(
        self,
        graph: Graph,
        part: bytes,
        name: str,
        threads: int = 1,
        kernel: str | None = None,
        bits: int = 32,
    ) -> None:
        self._threads = min(threads, _MOST_THREADS)
        try:
            layout = lay_out(graph, Constants(part), self._threads, bits)
        except (
            LookupError,
            ValueError,
            TypeError,
            AttributeError,
            ArithmeticError,
            MemoryError,
            RecursionError,
        ) as error:
            raise BundleError(f"the plan of {name} does not fit: {error!r}; export it again") from error
        self._kernel = kernels(bits)[0] if kernel is None else kernel
        self._inputs, self._outputs = dict(graph.inputs), {name: shape for name, _, shape in graph.outputs}
        self._places = {name: place for place, name in enumerate(self._outputs)}
        self._tables = _tables(layout)
        self._lock = threading.Lock()  # for the memory, which runs share
        _sessions.add(self)
        self._sizes = tuple(int(np.prod(shape)) for shape in (*self._inputs.values(), *self._outputs.values()))

    def get_inputs(self) -> list[Node]:
        """Return the graph's inputs."""
        return [Node(*each) for each in self._inputs.items()]

    def get_outputs(self) -> list[Node]:
        """Return the graph's outputs."""
        return [Node(*each) for each in self._outputs.items()]

    def run(self, names: Sequence[str], feeds: Mapping[str, _Array]) -> list[_Array]:
        """Run on inputs by name, float32 of the graph's shapes; returns the named outputs."""
        assert core is not None
        arrays, made = self._arrays(feeds)
        with self._lock:
            core.run_plan(self._kernel, self._threads, *self._tables, arrays, self._sizes)
        return [made[self._places[name]] for name in names]

    def run_apart(self, feeds: Mapping[str, _Array]) -> tuple[list[float], float]:
        """Run layer by layer, each in a call of its own; returns the seconds of each, and of a call without a layer."""
        assert core is not None
        layers, numbers, *rest = self._tables
        (arrays, _), count, seconds = self._arrays(feeds), len(layers), []
        with self._lock:
            for place in range(count + 1):  # the last call has none
                own = layers[place : place + 1], numbers[place : place + 1]
                start = time.perf_counter()
                core.run_plan(self._kernel, self._threads, *own, *rest, arrays, self._sizes)
                seconds.append(time.perf_counter() - start)
        return seconds[:count], seconds[count]

    def _arrays(self, feeds: Mapping[str, _Array]) -> tuple[tuple[_Array, ...], list[_Array]]:
        """Return what the core reads and writes, and the latter alone."""
        made = [np.empty(shape, np.float32) for shape in self._outputs.values()]
        return (*[np.ascontiguousarray(feeds[name], np.float32) for name in self._inputs], *made), made


def _tables(layout: Layout) -> tuple[Any, ...]:
    """Return what the core takes; memory and weights begin where a line of the cache does."""
    memory, weights = _line(layout.memory), _line(layout.weights.size)
    memory[:] = 0.0
    weights[:] = layout.weights
    return layout.layers, layout.numbers, memory, layout.scratch, layout.room, weights, layout.whole


def _line(count: int) -> _Array:
    room = np.empty(count + 16, np.float32)
    first = -room.ctypes.data % 64 // 4
    return room[first : first + count]


#: In a forked process a lock that another thread held is never opened.
_sessions: weakref.WeakSet[PlanSession] = weakref.WeakSet()


def _renew_locks() -> None:
    for session in _sessions:
        session._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
