# SPDX-License-Identifier: Apache-2.0
"""Patterns of small nodes that make one step of a plan, or a part of one."""

from __future__ import annotations

from math import prod
from typing import Any

import onnx
from onnx import TensorProto

from cmr_runtime.plan.maps import PANEL

from .plan_graph import Graph, Step, UnknownError, attributes, reshaped, stripped

__all__ = ["attention", "chosen", "padded", "prelu", "reduced", "resized"]

#: What Resize must be: ONNX's names, and what it assumes where a node does not say. To take y // 2, or between cells.
RESIZE = {
    "resize": {
        "mode": ("nearest", "nearest"),
        "nearest_mode": ("floor", "round_prefer_floor"),
        "coordinate_transformation_mode": ("asymmetric", "half_pixel"),
    },
    "enlarge": {"mode": ("linear", "nearest"), "coordinate_transformation_mode": ("half_pixel", "half_pixel")},
}


# Activations


def prelu(graph: Graph, node: onnx.NodeProto) -> tuple[str, list[Any]] | None:
    """Tensor and slopes of slope x + (1 - slope) relu(x), where a node adds these; None where it does not."""
    for line, bend in (node.input, node.input[::-1]):
        straight, bent = _multiplied(graph, line), _multiplied(graph, bend)
        if straight is None or bent is None:
            return None
        (x, slope), relu, rest = straight, graph.makers.get(bent[0]), graph.makers.get(bent[1])
        if relu is None or relu.op_type != "Relu" or relu.input[0] != x or graph.readers[bent[0]] != 1:
            continue
        if rest is not None and rest.op_type == "Sub" and rest.input[1] == slope and _one(graph, rest.input[0]):
            constant = graph.constant(slope)
            return x, reshaped(constant, constant[1][:1])
    return None


def _multiplied(graph: Graph, name: str) -> tuple[str, str] | None:
    """Tensor and factors of a Conv that does nothing but multiply each channel, read by but one node."""
    node = graph.makers.get(name)
    if node is None or node.op_type != "Conv" or graph.readers[name] != 1 or any(node.input[2:]):
        return None
    x, factors = node.input[:2]
    shape = graph.shape(name)
    still = graph.shape(x) == shape and not any(attributes(node).get("pads", []))
    return (x, factors) if still and graph.shape(factors) == (shape[1], 1, 1, 1) else None


def _one(graph: Graph, name: str) -> bool:
    return name in graph.constants and bool((graph.numbers(name) == 1).all())


# Sizes


def resized(graph: Graph, node: onnx.NodeProto) -> Step:
    """Enlargement: between cells a step; of nearest neighbours a part of the addition after it, which it needs."""
    own, before, after = attributes(node), graph.shape(node.input[0]), graph.shape(node.output[0])
    kinds = [op for op, modes in RESIZE.items() if all(own.get(k, left) == kept for k, (kept, left) in modes.items())]
    twice = after == (*before[:2], *(2 * size for size in before[2:]))
    scales = node.input[2] if len(node.input) > 2 else ""
    if not kinds or not twice or (scales and graph.numbers(scales).tolist() != [1, 1, 2, 2]) or own.get("axes"):
        forms = "nearest neighbours, asymmetric, rounded down, or linear, half_pixel"
        raise UnknownError(f"a Resize of other than {forms}, twice as large")
    step = {"op": kinds[0], "x": node.input[0]}
    return {**step, "act": None, "add": None} if kinds == ["enlarge"] else step


def padded(graph: Graph, node: onnx.NodeProto) -> Step:
    """Channels of zeros behind the others, of which only an addition makes a step."""
    x, pads, *rest = node.input
    channels, more = graph.shape(x)[1:2], graph.numbers(pads).tolist()
    value, axes = [*rest, "", ""][:2]
    zeros = attributes(node).get("mode", "constant") == "constant" and not (value and graph.numbers(value).any())
    if not zeros or axes or len(more) != 8 or min(more) < 0 or any(more[:5]) or any(more[6:]):
        raise UnknownError("a Pad of other than zeros behind a map's channels")
    if channels[0] % PANEL:
        raise UnknownError(f"a Pad of {channels[0]} channels, no multiple of {PANEL}")
    return {"op": "pad", "x": x}


# Sums


def chosen(graph: Graph, node: onnx.NodeProto) -> Step:
    """Gather the only one there is; all else is taken with its sum."""
    one = graph.shape(node.input[0])[attributes(node).get("axis", 0)] == 1
    if not one or graph.numbers(node.input[1]).size != 1:
        raise UnknownError("a Gather without the weighted sum that would make a step of it")
    return {"op": "view", "x": node.input[0], "perm": None}


def reduced(graph: Graph, node: onnx.NodeProto) -> Step:
    """Mean over a map, or sum or mean of products with rows that were gathered."""
    x, mean = node.input[0], node.op_type != "ReduceSum"
    rank, axes = len(graph.shape(x)), _axes(graph, node)
    product = graph.makers.get(x)
    if product is not None and product.op_type == "Mul" and rank > 2 and axes == [rank - 2]:
        return _gathered(graph, product, mean)
    if not mean or rank != 4 or axes != [2, 3]:
        raise UnknownError(f"{node.op_type} of other than a map, or products of what is gathered")
    return {"op": "mean", "x": x}


def _axes(graph: Graph, node: onnx.NodeProto) -> list[int]:
    """Along which axes a node reduces."""
    rank = len(graph.shape(node.input[0]))
    axes = [2, 3] if node.op_type == "GlobalAveragePool" else attributes(node).get("axes")
    if axes is None and len(node.input) > 1:
        axes = graph.numbers(node.input[1]).tolist()
    return sorted(axis % rank for axis in (range(rank) if axes is None else axes))


def _gathered(graph: Graph, product: onnx.NodeProto, mean: bool) -> Step:
    """Rows by index, times weights, summed: Gather, Reshape, Mul, and the reduction after them."""
    reshape = next((graph.makers[name] for name in product.input if name in graph.makers), None)
    gather = graph.makers.get(reshape.input[0]) if reshape is not None and reshape.op_type == "Reshape" else None
    if gather is None or gather.op_type != "Gather":
        raise UnknownError("a sum of products of other than rows that were gathered")
    x, index = gather.input
    before, (*_, rows, samples, channels) = graph.shape(x), graph.shape(product.output[0])
    at, taken = attributes(gather).get("axis", 0) % len(before), graph.numbers(index)
    whole = at == len(before) - 2 and (before[-1], prod(before[:-2])) == (channels, 1)
    if not whole or taken.shape != (rows * samples,) or taken.min() < 0 or taken.max() >= before[at]:
        raise UnknownError("a Gather of other than one list of rows")
    weight = graph.constant(next((n for n in product.input if n in graph.constants), ""))
    forms = ((samples, channels), (rows, samples, 1))
    form = next((f for f in forms if stripped(f) == stripped(weight[1])), None)
    if form is None:
        raise UnknownError(f"weights {weight[1]} of {rows} x {samples} rows of {channels} channels")
    # `narrow_indices` has made them 32 bits wide
    indices, scale = graph.constant(index, TensorProto.INT32), 1 / samples if mean else 1.0
    step = {"op": "gather", "x": x, "index": indices, "weight": reshaped(weight, form), "scale": scale}
    return {**step, "bias": None, "act": None}


def attention(graph: Graph, shares: str, x: str) -> Step:
    """Means of features, weighted by maps: what is multiplied are maps over their sum and a little more."""
    division = graph.makers.get(shares)
    if division is None or division.op_type != "Div":
        raise UnknownError("a product of two tensors, the first of which is no share of a sum")
    maps, divisor = division.input
    addition = graph.makers.get(divisor)
    eps = graph.beside(addition, "Add")
    total = graph.makers.get(eps[0]) if eps else None
    count = 1.0
    if scaled := graph.beside(total, "Mul"):
        total, count = graph.makers.get(scaled[0]), scaled[1]
    if eps is None or total is None or total.op_type not in ("ReduceSum", "ReduceMean") or total.input[0] != maps:
        raise UnknownError("a product with shares of other than a tensor's own sum and a constant")
    size = graph.shape(maps)
    summed = count == (size[-1] if total.op_type == "ReduceMean" else 1)
    if not summed or _axes(graph, total) != [len(size) - 1] or graph.shape(divisor) != (*size[:-1], 1):
        raise UnknownError("a product with shares of other than the sum along the last axis")
    return {"op": "attend", "maps": maps, "x": x, "eps": eps[1]}
