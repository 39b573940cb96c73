# SPDX-License-Identifier: Apache-2.0
"""What a plan says: the steps of each graph, and the constants that they name."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BundleError

__all__ = ["VERSION", "Constants", "Graph", "number", "read_plan", "sizes_of"]

#: Version of the form of plans that is read.
VERSION = 1
#: Most inputs and outputs together (`MOST_ARRAYS` in core/plan_python.c).
MOST_ARRAYS = 10
_MAX_PLAN = 1 << 22
_MAX_STEPS, _MAX_VALUES = 4096, 1 << 26


@dataclass(frozen=True)
class Graph:
    """The plan of one graph.

    Attributes
    ----------
    inputs : list of (name, shape)
        (1, C, H, W) each.
    steps : list of dict
        ARCHITECTURE.md lists what they say. Step i fills slot ``len(inputs) + i``.
    outputs : list of (name, slot, shape)
    sha256 : str or None
        Of the graph's file that it was made of.
    """

    inputs: list[tuple[str, tuple[int, ...]]]
    steps: list[dict[str, Any]]
    outputs: list[tuple[str, int, tuple[int, ...]]]
    sha256: str | None = None


class Constants:
    """Constants by the place at which their values lie in a graph's file."""

    def __init__(self, part: bytes) -> None:
        self._part = part

    def __call__(self, entry: Any, rank: int | None = None) -> npt.NDArray[np.float32]:
        """Return the constant of an entry ``[offset, shape]`` or, of half precision, ``[offset, shape, "half"]``.

        Raises
        ------
        ValueError
            No values lie there, or they have another number of axes.
        """
        offset, shape, *kind = entry
        if kind not in ([], ["half"]):
            raise ValueError(f"constants of kind {kind}")
        found = self._read(offset, shape, np.dtype("<f2" if kind else "<f4")).astype(np.float32)
        if rank is not None and found.ndim != rank:
            raise ValueError(f"a constant of shape {list(found.shape)}")
        return found

    def whole(self, entry: Any) -> npt.NDArray[np.int32]:
        """Return whole numbers, int32."""
        offset, shape = entry
        return self._read(offset, shape, np.dtype("<i4")).astype(np.int32)

    def _read(self, offset: Any, shape: Any, kind: np.dtype[Any]) -> npt.NDArray[Any]:
        sizes = sizes_of(shape)
        count, at = math.prod(sizes), number(offset, 0, sys.maxsize)
        if at + count * kind.itemsize > len(self._part):
            raise ValueError(f"values at {at} of {len(self._part)} bytes, shape {list(sizes)}")
        return np.frombuffer(self._part, kind, count, at).reshape(sizes)


def number(value: Any, low: int, high: int) -> int:
    """Return a whole number within limits, of JSON; raises `ValueError` for what is none."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{value!r} in place of a whole number from {low} to {high}")
    return value


def sizes_of(shape: Any) -> tuple[int, ...]:
    """Return a shape, of JSON; raises `ValueError` for what is none."""
    if not isinstance(shape, list) or not shape:
        raise ValueError(f"{shape!r} in place of a shape")
    sizes = tuple(number(size, 1, _MAX_VALUES) for size in shape)
    if math.prod(sizes) > _MAX_VALUES:
        raise ValueError(f"shape {shape}")
    return sizes


def read_plan(content: bytes, source: str) -> dict[str, Graph]:
    """Return the plan of each graph that has one, by its kind: none of a later version, whose graphs run without.

    Raises `BundleError` if the content is no plan.
    """
    try:
        if len(content) > _MAX_PLAN:
            raise ValueError(f"it has {len(content)} bytes, at most {_MAX_PLAN} are read")
        table = json.loads(content)
        if number(table["version"], 1, _MAX_VALUES) != VERSION:
            return {}
        return {str(kind): _graph(each) for kind, each in table["graphs"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BundleError(f"plan.json of {source} is no plan: {error}; export it again") from error


def _graph(table: dict[str, Any]) -> Graph:
    inputs = [(str(name), sizes_of(shape)) for name, shape in table["inputs"]]
    steps = [dict(step) for step in table["steps"]]
    if len(steps) > _MAX_STEPS:
        raise ValueError(f"it has {len(steps)} steps, at most {_MAX_STEPS} are read")
    last = len(inputs) + len(steps) - 1
    outputs = [(str(name), number(slot, 0, last), sizes_of(shape)) for name, slot, shape in table["outputs"]]
    for names in ([name for name, _ in inputs], [name for name, *_ in outputs]):
        if len(set(names)) != len(names):
            raise ValueError(f"{names}, of which two are alike")
    if len(inputs) + len(outputs) > MOST_ARRAYS:
        raise ValueError(f"it has {len(inputs) + len(outputs)} inputs and outputs, at most {MOST_ARRAYS} are taken")
    return Graph(inputs, steps, outputs, table.get("sha256"))
