# SPDX-License-Identifier: Apache-2.0
"""What a plan has to do: its layers in a few groups, with the multiply-adds and bytes of each.

Multiply-adds are those of the channels that there are. Bytes are those of whole panels of 16 channels, since that is
what moves: a panel is a line of most caches. A layer's maps and weights count once, however often it comes back to
them, and what it keeps for itself, as a block does the rows of its expanded map, counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod

from cmr_runtime.plan.compile import lay_out
from cmr_runtime.plan.layout import FIELDS, KINDS
from cmr_runtime.plan.maps import PANEL, filled
from cmr_runtime.plan.steps import Constants, Graph

from .roofline_turns import Operator

__all__ = [
    "BARE",
    "BLOCK",
    "DENSE",
    "EACH",
    "GROUP_OF",
    "LAYOUT",
    "PLAN_GROUPS",
    "TAKEN",
    "Layer",
    "layers",
    "layers_multiply_adds",
]

BLOCK, BARE, DENSE = "block", "block without expansion", "convolution, product"
TAKEN, EACH, LAYOUT = "gather, attention", "element-wise, pool", "layout"

#: In the order of the tables.
PLAN_GROUPS = (BLOCK, BARE, DENSE, TAKEN, EACH, LAYOUT)

#: Kinds of layers by group; blocks are told apart by whether they expand.
_GROUPS = {
    DENSE: {"conv", "rows", "few_rows"},
    TAKEN: {"gather", "attend"},
    EACH: {"limit", "sigmoid", "sigmoid_array", "affine", "max_pool", "mean_pool", "mean", "enlarge"},
    LAYOUT: {"take", "take_planes", "copy", "reshape", "give", "give_planes", "give_blocks"},
}
GROUP_OF = {kind: group for group, kinds in _GROUPS.items() for kind in kinds}

#: Bytes of a value.
_FLOAT = 4

#: A layer, and its multiply-adds.
Layer = tuple[Operator, int]
_Shape = tuple[int, ...]
_Fields = Mapping[str, int]


def layers(graph: Graph, part: bytes) -> list[Layer]:
    """Layers in the order in which they run, not yet timed, each with its multiply-adds; `part` is the graph's file."""
    layout, channels = lay_out(graph, Constants(part)), _channels(graph)
    arrays = [shape for _, shape in graph.inputs] + [shape for *_, shape in graph.outputs]
    found = []
    for place, row in enumerate(layout.layers):
        fields = dict(zip(FIELDS, map(int, row), strict=True))
        kind = KINDS[fields["kind"]]
        given = next(channels) if kind in ("conv", "block") else 0
        group = (BLOCK if fields["k"] else BARE) if kind == "block" else GROUP_OF[kind]
        inputs, outputs = _shapes(kind, fields, given, arrays)
        weights, activations = _FLOAT * _constants(kind, fields), _FLOAT * _moved(kind, fields, arrays)
        layer = Operator(str(place), kind, group, inputs, outputs, weights, activations, seconds=0.0)
        found.append((layer, _multiply_adds(kind, fields, given)))
    return found


def layers_multiply_adds(layers: Sequence[Layer]) -> dict[str, int]:
    """Multiply-adds of a plan's layers by group."""
    counts = dict.fromkeys(PLAN_GROUPS, 0)
    for layer, count in layers:
        counts[layer.group] += count
    return counts


def _channels(graph: Graph) -> Iterator[int]:
    """Channels that convolutions, products and blocks give, each a layer of its own; the tables know only panels."""
    for step in graph.steps:
        if step["op"] in ("conv", "depthwise"):
            yield step["weight"][1][0]
        elif step["op"] == "linear":
            yield step["weight"][1][step["order"] == "io"]
        elif step["op"] == "block":
            yield step["project"]["weight"][1][0]


def _multiply_adds(kind: str, f: _Fields, channels: int) -> int:
    out = f["out_h"] * f["out_w"]
    if kind == "conv":
        return out * f["k"] * channels
    if kind == "block":
        project = channels if f["p_panels"] else 0
        return f["mid_c"] * (f["mid_h"] * f["mid_w"] * f["k"] + out * (f["d_kernel"] ** 2 + project))
    if kind in ("rows", "few_rows"):
        return out * f["h"] * f["c"]
    if kind == "gather":
        return out * f["taps"] * f["c"]
    return f["taps"] * f["h"] * f["w"] * f["c"] if kind == "attend" else 0


def _constants(kind: str, f: _Fields) -> int:
    """Values of weights, biases, slopes and the rows to gather."""
    panels, bias = PANEL * f["panels"], f["bias"] >= 0
    slopes = (f["slope"] >= 0) + (f["then_slope"] >= 0)
    if kind == "conv":
        return (f["k"] + bias + slopes) * panels
    if kind == "block":
        middle_, project = filled(f["mid_c"]), PANEL * f["p_panels"]
        expand, deep = (f["k"] + bias) * panels, (f["d_kernel"] ** 2 + 1) * middle_
        return expand + deep + (f["mid_c"] + (f["p_bias"] >= 0) + slopes) * project
    if kind == "rows":
        return f["out_h"] * f["h"] + bias * panels
    if kind == "few_rows":
        return f["h"] * panels + bias * filled(f["c"])
    if kind == "gather":
        rows = f["out_h"] * f["taps"]
        return rows + (rows if f["each"] else f["taps"] * panels) + bias * panels
    if kind == "affine":
        return f["h"] * f["w"] * f["c"]
    return slopes * filled(f["c"])


def _moved(kind: str, f: _Fields, arrays: Sequence[_Shape]) -> int:
    """Values of maps that are read and written."""
    cells, out, wide = f["h"] * f["w"], f["out_h"] * f["out_w"], filled(f["c"])
    if kind in ("sigmoid_array", "take_planes"):
        return 2 * f["count"]
    if kind == "copy":
        return 2 * cells * filled(f["count"])
    if kind in ("give", "give_planes", "give_blocks"):
        return cells * wide + prod(arrays[f["array"]])
    read = cells * (f["c"] if f["planar"] else wide)
    if kind == "conv":
        return read + out * PANEL * f["panels"] + _added(f)
    if kind == "block":
        given = PANEL * f["p_panels"] or filled(f["mid_c"])
        return read + out * given + _added(f)
    if kind == "reshape":
        return read + out * filled(f["count"])
    return read + out * wide + _added(f) + (cells * filled(f["taps"]) if kind == "attend" else 0)


def _added(f: _Fields) -> int:
    """Values that are added to a layer's map."""
    return (f["out_h"] >> f["half"]) * (f["out_w"] >> f["half"]) * PANEL * f["add_panels"] if f["add"] >= 0 else 0


def _shapes(
    kind: str, f: _Fields, channels: int, arrays: Sequence[_Shape]
) -> tuple[tuple[_Shape, ...], tuple[_Shape, ...]]:
    """Shapes of what a layer reads, maps (h, w, c) and weights, and of what it writes."""
    x, out = (f["h"], f["w"], f["c"]), (f["out_h"], f["out_w"], f["count"] if kind == "reshape" else channels or f["c"])
    if kind == "sigmoid_array":
        return (arrays[f["array"]],), (arrays[f["array"]],)
    if kind.startswith("give"):
        return (x,), (arrays[f["array"]],)
    inputs: list[_Shape] = [x]
    if f["k"]:
        into, area = (f["mid_c"] if kind == "block" else channels), f["k"] // f["c"]
        inputs.append((into, f["c"], f["kernel_h"], area // f["kernel_h"]))
    if kind == "block":
        inputs.append((f["mid_c"], 1, f["d_kernel"], f["d_kernel"]))
        inputs += [(channels, f["mid_c"], 1, 1)] if f["p_panels"] else []
    if f["add"] >= 0:
        given = min(out[2], PANEL * f["add_panels"])
        inputs.append((f["out_h"] >> f["half"], f["out_w"] >> f["half"], given))
    if kind in ("rows", "few_rows"):
        inputs.append((f["out_h"], f["h"]))
    if kind == "gather":
        inputs.append((f["out_h"], f["taps"]))
    if kind == "attend":
        inputs.append((f["h"], f["w"], f["taps"]))
    return tuple(inputs), (out,)
