# SPDX-License-Identifier: Apache-2.0
"""Graphs as a few fused layers over channels-last maps, for a small engine to run: the bundle's `plan.json`.

From its outputs backwards a graph is covered by steps, as a compiler chooses instructions: `plan_patterns` says which
nodes one step takes. Forwards, each step gets a slot, and it is kept of each tensor how it lies in its slot: what only
turns or regroups axes costs no step.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from cmr_runtime.bundle import Bundle
from cmr_runtime.manifest import GRAPHS, graph_part
from cmr_runtime.plan.steps import VERSION

from .plan_graph import Step, UnknownError, reshaped
from .plan_patterns import Patterns, reads

__all__ = ["obstacles", "onnx_graphs", "plan", "written"]

#: How the last axes of a tensor run over height, width and channels (0, 1, 2) of its slot; any before them are 1 long.
FORMS = {"map": ((), (2,), (0,), (1,)), "matrix": ((0, 1), (2,)), "columns": ((2,), (0, 1))}


def plan(graphs: Mapping[str, bytes]) -> dict[str, Any] | None:
    """Express graphs as plans.

    Parameters
    ----------
    graphs : mapping
        ONNX models by kind, as they are stored in the bundle.

    Returns
    -------
    dict or None
        To be written as JSON: the plans of those graphs that can be expressed; None if there are none.
    """
    found = {kind: result for kind, result in _results(graphs).items() if isinstance(result, dict)}
    return {"version": VERSION, "graphs": found} if found else None


def written(plan: Mapping[str, Any]) -> bytes:
    """Return a plan as the bundle's part."""
    return json.dumps(plan, separators=(",", ":")).encode("ascii")


def onnx_graphs(bundle: Bundle) -> dict[str, bytes]:
    """Return the graphs of a bundle by kind, but for those in ONNX Runtime's own format, of which no plan is made."""
    graphs = {kind: getattr(bundle, kind) for kind in GRAPHS}
    return {kind: graph for kind, graph in graphs.items() if graph and graph_part(kind, graph).endswith(".onnx")}


def obstacles(graphs: Mapping[str, bytes]) -> dict[str, str]:
    """Return why graphs are left out of the plan, a line each."""
    return {kind: result for kind, result in _results(graphs).items() if isinstance(result, str)}


def _results(graphs: Mapping[str, bytes]) -> dict[str, dict[str, Any] | str]:
    """Plan of each graph, or why there is none."""
    results: dict[str, dict[str, Any] | str] = {}
    for kind, graph in graphs.items():
        try:
            results[kind] = _Plan(graph).made()
        except UnknownError as error:
            results[kind] = str(error)
    return results


@dataclass(frozen=True)
class _View:
    """How a tensor lies in a slot.

    Attributes
    ----------
    slot : int
        Where its values are.
    sizes : tuple of int
        Height, width and channels of the slot; in its place those and 2, 2 before the channels if they make blocks.
    axes : tuple of tuple of int
        Over which of these each axis of the tensor runs, the slowest first; those 1 long are left out.
    """

    slot: int
    sizes: tuple[int, ...]
    axes: tuple[tuple[int, ...], ...]

    @property
    def flat(self) -> list[int]:
        """The slot's axes in the order of the tensor's values."""
        return [a for axis in self.axes for a in axis]

    def has(self, form: str) -> bool:
        """Whether the tensor lies in a certain form."""
        last = FORMS[form]
        before = len(self.axes) - len(last)
        return len(self.sizes) == 3 and before >= 0 and self.axes == _long(((),) * before + last, self.sizes)


def _long(axes: Iterable[tuple[int, ...]], sizes: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(a for a in axis if sizes[a] > 1) for axis in axes)


def _view(slot: int, form: str, shape: tuple[int, ...]) -> _View:
    """Return the view of a step's result of this shape."""
    before = ((),) * (len(shape) - len(FORMS[form]))
    if form == "map":
        sizes = (*shape[2:], shape[1])
    else:
        sizes = (shape[-2], 1, shape[-1]) if form == "matrix" else (shape[-1], 1, shape[-2])
    return _View(slot, sizes, _long(before + FORMS[form], sizes))


def _regrouped(flat: list[int], sizes: Sequence[int], shape: Iterable[int]) -> tuple[tuple[int, ...], ...] | None:
    """Distribute a slot's axes in their order to those of a shape; None if one would have to be split."""
    axes, left = [], [a for a in flat if sizes[a] > 1]
    for size in shape:
        axis: list[int] = []
        while prod(sizes[a] for a in axis) < size and left:
            axis.append(left.pop(0))
        if prod(sizes[a] for a in axis) != size:
            return None
        axes.append(tuple(axis))
    return tuple(axes)


class _Plan:
    """One graph's plan."""

    def __init__(self, data: bytes) -> None:
        self.graph = Patterns(data)
        self.views: dict[str, _View] = {}
        self.steps: list[Step] = []

    def made(self) -> dict[str, Any]:
        graph = self.graph
        for slot, name in enumerate(graph.inputs):
            shape = graph.shape(name)
            if len(shape) != 4 or shape[0] != 1:
                raise UnknownError(f"input {name}: shape {shape} is not that of one map")
            self.views[name] = _view(slot, "map", shape)
        # Backwards, so that what a step has taken is not wanted any more. No node has to be marked or undone.
        wanted, found, name = set(graph.outputs), {}, ""
        try:
            for node in reversed(graph.nodes):
                for name in (n for n in node.output if n in wanted):
                    found[name] = graph.step(name)
                    wanted.update(reads(found[name]))
            for name, step in reversed(found.items()):
                self._place(name, step)
        except UnknownError as error:
            raise UnknownError(f"{name}: {error}") from error
        return {
            "sha256": hashlib.sha256(self.graph.data).hexdigest(),
            "inputs": [[name, list(graph.shape(name))] for name in graph.inputs],
            "steps": self.steps,
            "outputs": [self._output(name) for name in graph.outputs],
        }

    def _output(self, name: str) -> list[Any]:
        view, shape = self._seen(name), self.graph.shape(name)
        blocks = len(view.sizes) == 5 and view.axes == _long(((), (4,), (0, 2), (1, 3)), view.sizes)
        in_order = len(view.sizes) == 3 and view.flat == sorted(view.flat)
        if not (view.has("map") or blocks if len(shape) == 4 else in_order):
            raise UnknownError(f"output {name} is neither a map nor in the order of its slot")
        slot = view.slot
        if len(shape) < 4 and shape[-1:] != view.sizes[-1:]:
            slot = self._step(op="reshape", x=slot, shape=[prod(shape[:-1]), 1, *shape[-1:]])
        return [name, slot, list(shape)]

    # Slots

    def _seen(self, name: str) -> _View:
        if name not in self.views:
            raise UnknownError(f"{name} is a constant, not a tensor")
        return self.views[name]

    def _map(self, name: str) -> int:
        """Slot of a tensor that must be a map."""
        view = self._seen(name)
        if not view.has("map"):
            raise UnknownError(f"{name} does not lie as a map")
        return view.slot

    def _rows(self, view: _View) -> int:
        """Slot of a matrix or its transpose; a map's cells are laid into one column."""
        height, width, channels = view.sizes
        return view.slot if width == 1 else self._step(op="reshape", x=view.slot, shape=[height * width, 1, channels])

    def _step(self, **step: Any) -> int:
        self.steps.append(step)
        return len(self.graph.inputs) + len(self.steps) - 1

    # Steps

    def _place(self, name: str, step: Step) -> None:
        """Make a step that reads slots of one that reads tensors."""
        shape = self.graph.shape(name)
        own = {key: value for key, value in step.items() if key not in ("op", "x")}
        match step["op"]:
            case "resize" | "pad":
                raise UnknownError(f"a {step['op'].capitalize()} before other than an addition to a Conv's own result")
            case "view":
                view = self._reshaped(self._seen(step["x"]), shape, step["perm"])
            case "shuffle":
                view = _blocks(self._map(step["x"]), shape)
            case "act":
                before = self._seen(step["x"])
                view = replace(before, slot=self._step(op="act", x=before.slot, act=step["act"]))
            case "conv" | "depthwise" | "block" | "pool" | "enlarge":
                if own.get("add") is not None:
                    own["add"] = self._map(own["add"])
                view = _view(self._step(op=step["op"], x=self._map(step["x"]), **own), "map", shape)
            case "mean":
                slot = self._step(op="mean", x=self._map(step["x"]))
                channels = self.graph.shape(step["x"])[1]
                view = _View(slot, (1, 1, channels), _regrouped([2], (1, 1, channels), shape) or ())
            case "slice" | "concat":
                view = self._parts(step, shape)
            case "affine":
                x = self._seen(step["x"])
                if not x.has("matrix"):
                    raise UnknownError("an addition of a constant to all of what is no matrix")
                own["offset"] = reshaped(step["offset"], (x.sizes[0] * x.sizes[1], x.sizes[2]))
                view = _view(self._step(op="affine", x=self._rows(x), **own), "matrix", shape)
            case "product":
                view = self._product(step, shape)
            case "gather":
                x = self._seen(step["x"])
                if not x.has("matrix"):
                    raise UnknownError("a Gather of other than rows")
                view = _view(self._step(op="gather", x=self._rows(x), **own), "matrix", shape)
            case "attend":
                maps, x = self._seen(step["maps"]), self._seen(step["x"])
                if not maps.has("columns") or not x.has("matrix") or maps.sizes[:2] != x.sizes[:2]:
                    raise UnknownError("a product of tensors that are no maps of one size")
                slot = self._step(op="attend", maps=maps.slot, x=x.slot, eps=step["eps"])
                view = _view(slot, "matrix", shape)
        self.views[name] = view

    def _reshaped(self, view: _View, shape: tuple[int, ...], perm: list[int] | None) -> _View:
        if perm is not None:
            return replace(view, axes=tuple(view.axes[a] for a in perm))
        axes = _regrouped(view.flat, view.sizes, shape)
        if axes is not None:
            return replace(view, axes=axes)
        long = [size for size in shape if size > 1]
        if view.flat != sorted(view.flat) or len(long) > 3:
            raise UnknownError(f"a reshape to {shape} that mixes axes")
        sizes = [*long[:-1], *[1] * (3 - len(long)), *long[-1:]]
        slot = self._step(op="reshape", x=view.slot, shape=sizes)
        return _View(slot, tuple(sizes), _regrouped([0, 1, 2], sizes, shape) or ())

    def _parts(self, step: Step, shape: tuple[int, ...]) -> _View:
        """Slices and concatenations, along channels or rows."""
        views = [self._seen(name) for name in (step["x"] if step["op"] == "concat" else [step["x"]])]
        form = next((form for form in FORMS if all(view.has(form) for view in views)), None)
        if form is None and step["op"] == "concat":
            return self._joined(step, shape, views)
        if form is None:
            raise UnknownError("a slice of a tensor that is neither a map nor a matrix")
        slots = [view.slot if form == "map" else self._rows(view) for view in views]
        place = step["axis"] - len(shape) + len(FORMS[form])
        along = FORMS[form][place] if place >= 0 else ()
        if along == (2,) and step["op"] == "slice":
            slot = self._step(op="slice", x=slots[0], **{key: step[key] for key in ("from", "to")})
        elif along in ((2,), (0,), (0, 1)) and step["op"] == "concat":
            slot = self._step(op="concat", x=slots, axis="channels" if along == (2,) else "rows")
        else:
            raise UnknownError(f"a {step['op']} along another axis than channels")
        return _view(slot, form, shape)

    def _joined(self, step: Step, shape: tuple[int, ...], views: list[_View]) -> _View:
        """Concatenation of what lies in its slots' order, along the first axis longer than 1: of rows, or vectors."""
        axis, last = step["axis"], step["axis"] == len(shape) - 1
        if prod(shape[:axis]) > 1 or any(view.flat != sorted(view.flat) or len(view.sizes) > 3 for view in views):
            raise UnknownError("a concat of tensors that lie in different ways")
        lengths, width = [self.graph.shape(name)[axis] for name in step["x"]], prod(shape[axis + 1 :])
        sizes = [(1, 1, length) if last else (length, 1, width) for length in lengths]
        slots = [
            view.slot if view.sizes == size else self._step(op="reshape", x=view.slot, shape=list(size))
            for view, size in zip(views, sizes, strict=True)
        ]
        slot = self._step(op="concat", x=slots, axis="channels" if last else "rows")
        whole = (1, 1, sum(lengths)) if last else (sum(lengths), 1, width)
        return _View(slot, whole, _regrouped([0, 1, 2], whole, shape) or ())

    def _product(self, step: Step, shape: tuple[int, ...]) -> _View:
        """Sum over channels or rows, by which of them lies along the axis that the product takes."""
        x = self._seen(step["x"])
        form = next((form for form in ("matrix", "columns") if x.has(form)), None)
        if form is None:
            raise UnknownError("a product with other than a matrix")
        linear = (form == "matrix") != step["first"]
        if step["bias"] is not None and form == "columns":
            raise UnknownError("a product with a bias for each row")
        order = "io" if step["turned"] == step["first"] else "oi"
        own = {"weight": step["weight"], "order": order, "bias": step["bias"], "act": step["act"]}
        return _view(self._step(op="linear" if linear else "rows", x=self._rows(x), **own), form, shape)


def _blocks(slot: int, shape: tuple[int, ...]) -> _View:
    """Return the view of a slot whose channels are blocks of 2 x 2 cells."""
    _, channels, height, width = shape
    sizes = (height // 2, width // 2, 2, 2, channels)
    return _View(slot, sizes, _long(((), (4,), (0, 2), (1, 3)), sizes))
