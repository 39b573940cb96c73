# SPDX-License-Identifier: Apache-2.0
"""What a bundle costs: multiply-adds, parameters, bytes and operators of each stage.

``python -m cmr_export.report hand.cmr`` prints the table.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper, shape_inference

from cmr_runtime.bundle import Bundle
from cmr_runtime.errors import CmrError

__all__ = ["StageCost", "main", "measure", "table"]


@dataclass(frozen=True)
class StageCost:
    """Cost of one graph for one image."""

    multiply_adds: int
    parameters: int
    bytes: int
    operators: dict[str, int]


def _shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    known = {i.name: tuple(i.dims) for i in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        known[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    return known


def measure(graph: bytes) -> StageCost:
    """Count one graph: convolutions, matrix products, and the sums of spiral and barycentric weights."""
    model = shape_inference.infer_shapes(onnx.load_from_string(graph))
    shapes = _shapes(model.graph)
    total = 0
    for node in model.graph.node:
        out = shapes.get(node.output[0], ())
        if node.op_type == "Conv":
            total += prod(out) * prod(shapes[node.input[1]][1:])
        elif node.op_type in ("MatMul", "Gemm"):
            inner = shapes[node.input[0]]
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            total += prod(out) * (inner[0] if transposed else inner[-1])
        elif node.op_type == "ReduceSum":
            total += prod(shapes[node.input[0]])
    floats = (i for i in model.graph.initializer if i.data_type == onnx.TensorProto.FLOAT)
    parameters = sum(numpy_helper.to_array(i).size for i in floats)
    return StageCost(total, parameters, len(graph), dict(Counter(n.op_type for n in model.graph.node)))


def table(bundle: Bundle) -> str:
    """Text table of both stages."""
    stages = {"prior": measure(bundle.prior), "mesh": measure(bundle.mesh)}
    lines = [f"{'stage':8s}{'multiply-adds':>15s}{'parameters':>13s}{'bytes':>12s}  operators"]
    for name, cost in stages.items():
        operators = ", ".join(f"{k} {v}" for k, v in sorted(cost.operators.items()))
        lines.append(f"{name:8s}{cost.multiply_adds / 1e6:13.1f} M{cost.parameters:13,d}{cost.bytes:12,d}  {operators}")
    adds, parameters, size = (
        sum(getattr(c, k) for c in stages.values()) for k in ("multiply_adds", "parameters", "bytes")
    )
    lines.append(f"{'both':8s}{adds / 1e6:13.1f} M{parameters:13,d}{size:12,d}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table of one bundle; return 0, or 2 with one line on standard error."""
    parser = argparse.ArgumentParser(prog="cmr_export.report", description=__doc__.splitlines()[0])
    parser.add_argument("bundle", nargs="?", help="default: the bundle that ships with the package")
    args = parser.parse_args(argv)
    try:
        text = table(Bundle.open(args.bundle) if args.bundle else Bundle.default())
    except (CmrError, DecodeError, ValueError, RuntimeError, OSError) as error:  # an InferenceError is a RuntimeError
        print(f"cmr_export.report: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
