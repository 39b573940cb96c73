# SPDX-License-Identifier: Apache-2.0
"""A graph's plan, step by step, to the tables of the compiled core."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from . import convolutions, others
from .layout import Builder, Layout
from .maps import Map
from .steps import Constants, Graph

__all__ = ["lay_out"]

_Step = dict[str, Any]
_STEPS: dict[str, Callable[[Builder, _Step], Map]] = {
    "conv": convolutions.conv,
    "linear": convolutions.linear,
    "depthwise": convolutions.depthwise,
    "block": convolutions.block,
    "pool": others.pool,
    "mean": others.mean,
    "slice": others.slice_,
    "concat": others.concat,
    "reshape": others.reshape,
    "attend": others.attend,
    "rows": others.rows,
    "gather": others.gather,
    "affine": others.affine,
    "enlarge": others.enlarge,
}


def lay_out(graph: Graph, constants: Constants, threads: int = 1, bits: int = 32) -> Layout:
    """Lay a graph out for a number of threads; `bits`: of its products, where fewer than 32 pay.

    Raises
    ------
    ValueError, KeyError, TypeError, IndexError, AttributeError
        A step is unknown or does not fit those before it, or a constant is not there.
    """
    builder, count = Builder(constants, threads, bits), len(graph.inputs)
    readers = _readers(graph)
    planar = _planar(graph, readers)
    for place, (_, shape) in enumerate(graph.inputs):
        builder.slots.append(others.take(builder, place, shape, place in planar))
    for place, step in enumerate(graph.steps, count):
        if step["op"] == "act":
            made = others.act(builder, step, all(reader is None for reader in readers.get(place, ())))
        else:
            made = _STEPS[step["op"]](builder, step)
        builder.slots.append(made)
    for place, (_, slot, shape) in enumerate(graph.outputs, count):
        others.give(builder, place, builder.slots[slot], shape)
    return builder.built()


def _readers(graph: Graph) -> dict[int, list[int | None]]:
    """Slots of the steps that read each slot; None for an output."""
    readers: dict[int, list[int | None]] = {}
    for place, step in enumerate(graph.steps, len(graph.inputs)):
        for slot in _read(step):
            readers.setdefault(slot, []).append(place)
    for _, slot, _ in graph.outputs:
        readers.setdefault(slot, []).append(None)
    return readers


def _read(step: _Step) -> Iterator[int]:
    yield from step["x"] if isinstance(step["x"], list) else [step["x"]]
    yield from (step[key] for key in ("add", "maps") if step.get(key) is not None)


def _planar(graph: Graph, readers: dict[int, list[int | None]]) -> set[int]:
    """Return inputs that may stay channels first: only convolutions read them, or what they are put together to."""
    count = len(graph.inputs)

    def step(place: int | None) -> _Step:
        return {"op": ""} if place is None else graph.steps[place - count]

    def convolved(slot: int) -> bool:
        """Whether only convolutions read a slot, as what they convolve."""
        steps = [step(place) for place in readers.get(slot, ())]
        return all(
            (each["op"] == "conv" or (each["op"] == "block" and each["expand"] is not None)) and each["add"] != slot
            for each in steps
        )

    def joined(slot: int) -> bool:
        """Whether a slot is only put together with other inputs, for convolutions."""
        places = readers.get(slot, [])
        return len(places) == 1 and step(places[0])["op"] == "concat" and _joins(places[0])

    def _joins(place: int | None) -> bool:
        own, parts = step(place), step(place)["x"]
        alone = all(part < count and readers[part] == [place] for part in parts)
        return place is not None and own["axis"] == "channels" and alone and convolved(place)

    return {slot for slot in range(count) if convolved(slot) or joined(slot)}
