# SPDX-License-Identifier: Apache-2.0
"""What a graph has to do: its operators in a few groups, and the multiply-adds of each group.

The counting is the exporter's (`cmr_export.cost`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cmr_export.cost import node_costs
from cmr_runtime.errors import CmrError
from cmr_runtime.manifest import graph_part

__all__ = ["DEPTHWISE", "GROUPS", "POINTWISE", "group_of", "largest_layer", "multiply_adds"]

POINTWISE, DEPTHWISE, OTHER = "convolution 1×1", "depthwise convolution", "other convolution"
PRODUCT, GATHER, LAYOUT, REST = "matrix product", "gather and weighted sum", "layout", "the rest"

#: In the order of the tables.
GROUPS = (POINTWISE, DEPTHWISE, OTHER, PRODUCT, GATHER, LAYOUT, REST)

#: Operators by group; convolutions are told apart by their weights. What is named nowhere is the rest: element-wise
#: functions, pooling, enlarging. A convolution of the optimised graph may hold an addition and an activation too.
_OPERATORS = {
    PRODUCT: {"Gemm", "MatMul", "FusedGemm", "FusedMatMul", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat"},
    GATHER: {"Gather", "GatherElements", "GatherND", "Mul", "ReduceMean", "ReduceSum"},
    LAYOUT: {
        "Cast", "Concat", "DepthToSpace", "DequantizeLinear", "Expand", "Flatten", "Pad", "QuantizeLinear",
        "ReorderInput", "ReorderOutput", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Transpose",
        "Unsqueeze",
    },
}  # fmt: skip
_GROUP_OF = {operator: group for group, operators in _OPERATORS.items() for operator in operators}

#: Place of the weights among the inputs, by kind of convolution.
_WEIGHTS = {"Conv": 1, "FusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}


def group_of(operator: str, inputs: Sequence[Sequence[int]]) -> str:
    """Group of an operator.

    Parameters
    ----------
    operator : str
        Its type, of ONNX or of ONNX Runtime.
    inputs : sequence of shapes
        Of its inputs; only those of convolutions are looked at.
    """
    place = _WEIGHTS.get(operator)
    if place is None:
        return _GROUP_OF.get(operator, REST)
    channels, weights = inputs[0][1], inputs[place]
    if weights[1] == 1 and channels > 1:
        return DEPTHWISE
    return POINTWISE if set(weights[2:]) == {1} else OTHER


def multiply_adds(graph: bytes, part: str) -> dict[str, int]:
    """Multiply-adds of a graph by group; `part` names it in messages.

    Raises
    ------
    CmrError
        The graph is in ORT format, whose operators are not told, or its shapes are not fixed.
    """
    if graph_part(part, graph).endswith(".ort"):
        raise CmrError(f"part {part} is in ORT format, whose operators are not told; take the bundle in ONNX format")
    counts = dict.fromkeys(GROUPS, 0)
    for node in node_costs(graph):
        counts[group_of(node.operator, node.inputs)] += node.multiply_adds
    return counts


def largest_layer(graphs: Iterable[bytes]) -> tuple[int, int, int]:
    """m, k, n of the 1×1 convolution with the most multiply-adds, as a product of (m, k) and (k, n).

    Raises
    ------
    CmrError
        There is none.
    """
    layers = []
    for node in (node for graph in graphs for node in node_costs(graph)):
        if node.operator == "Conv" and group_of(node.operator, node.inputs) == POINTWISE:
            n, k = node.inputs[1][:2]
            layers.append((node.multiply_adds // (n * k), k, n))
    if not layers:
        raise CmrError("no graph has a 1×1 convolution to take a layer's shape from; take another bundle")
    return max(layers, key=lambda shape: shape[0] * shape[1] * shape[2])
