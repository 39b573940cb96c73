# SPDX-License-Identifier: Apache-2.0
"""Which layers of a graph are quantised, and which few are better left in float."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import onnx

from .cost import node_costs

__all__ = ["FLOAT_WEIGHTS", "plan"]

#: Weights of a stage that stay in float. With the default network these few, nearest to the ends, bring the mean error
#: of the vertices on rendered hands from 4 mm to 1 mm; a third as many to 1.5 mm.
FLOAT_WEIGHTS = 3 << 14
#: A layer of more multiply-adds takes too much of a frame to be left in float: the largest of the default network that
#: is left has 6.6 million, MobRecon's first ones 7 and 34 million.
COSTLY = 7_000_000

#: Nodes that go on in eight bits where all that they read is in eight bits already; in a float neighbourhood they
#: would only add conversions.
_FOLLOW = {"Add", "AveragePool", "Clip", "Concat", "Gather", "LeakyRelu", "MaxPool", "Relu", "Reshape"}
_FOLLOW |= {"Resize", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}

#: In the place of a layer: the graph's inputs or outputs.
_END = -1
_Neighbours = dict[int, set[int]]


def plan(model: onnx.ModelProto) -> tuple[list[int], list[int]]:
    """Choose which layers are quantised.

    The layers next to the inputs and outputs stay in float, nearest first, until `FLOAT_WEIGHTS` are spent: the first
    ones see the finest detail and the last ones make maps and vertices, and both hold few weights. Exceptions are those
    of more than `COSTLY` multiply-adds, and those that layers of eight bits cut off from the ends: values would be
    converted to and from them. Products with a constant on the left have no integer kernel: they stay in float, are no
    layers, and spend nothing.

    Returns
    -------
    quantised, float : list of int
        Places in ``model.graph.node``; only nodes with weights are in the second.
    """
    nodes = model.graph.node
    constants = {i.name: prod(i.dims) for i in model.graph.initializer}
    weights = {
        place: constants[node.input[1]]
        for place, node in enumerate(nodes)
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul") and constants.get(node.input[1], 0)
    }
    in_float = _left_in_float(model, weights)
    eight_bit: set[str] = set()
    quantised = []
    for place, node in enumerate(nodes):
        read = [name for name in node.input if name and name not in constants]
        follows = node.op_type in _FOLLOW and read and eight_bit.issuperset(read)
        if node.op_type == "Add" and len(read) < 2:
            follows = False  # a constant of eight bits would be too coarse
        if (place in weights and place not in in_float) or follows:
            quantised.append(place)
            eight_bit.update(node.output)
    return quantised, sorted(in_float)


def _left_in_float(model: onnx.ModelProto, weights: dict[int, int]) -> set[int]:
    """Choose among layers, given with the number of their weights, as `plan` says."""
    before, after = _neighbours(model, set(weights))
    ahead, behind = _distances(before, sorted(weights)), _distances(after, sorted(weights, reverse=True))
    costs = [cost.multiply_adds for cost in node_costs(model.SerializeToString())]
    left, chosen = FLOAT_WEIGHTS, set()
    for place in sorted(weights, key=lambda k: (min(ahead[k], behind[k]), weights[k], k)):
        if weights[place] <= left and costs[place] <= COSTLY:
            left -= weights[place]
            chosen.add(place)
    reached, border = {_END}, {_END}
    while border:  # from the ends through layers that were chosen
        border = {place for place in chosen - reached if (before[place] | after[place]) & border}
        reached |= border
    return reached - {_END}


def _neighbours(model: onnx.ModelProto, layers: set[int]) -> tuple[_Neighbours, _Neighbours]:
    """Layers that each layer reads, through whatever lies between, and layers that read it; or `_END`."""
    before: _Neighbours = {}
    after: _Neighbours = {place: set() for place in layers}
    constants = {tensor.name for tensor in model.graph.initializer}  # some exporters list them among the inputs
    origin = {value.name: {_END} for value in model.graph.input if value.name not in constants}

    def link(place: int, sources: set[int]) -> None:
        for source in sources - {_END}:
            after[source].add(place)

    for place, node in enumerate(model.graph.node):
        sources = set().union(*(origin.get(name, set()) for name in node.input))
        if place in layers:
            before[place] = sources
            link(place, sources)
        origin |= dict.fromkeys(node.output, {place} if place in layers else sources)
    for value in model.graph.output:
        link(_END, origin.get(value.name, set()))
    return before, after


def _distances(neighbours: _Neighbours, order: Iterable[int]) -> dict[int, int]:
    """How many other layers lie between each layer and the end; ``order`` begins there."""
    found: dict[int, int] = {}
    for place in order:
        found[place] = min((0 if k == _END else found[k] + 1 for k in neighbours[place]), default=len(neighbours))
    return found
