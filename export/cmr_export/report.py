# SPDX-License-Identifier: Apache-2.0
"""What a bundle costs: multiply-adds, parameters, bytes and operators of each stage.

``python -m cmr_export.report hand.cmr`` prints the table, and what mobile providers take of the graphs.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, shape_inference

from cmr_runtime.bundle import Bundle
from cmr_runtime.errors import CmrError
from cmr_runtime.manifest import graph_part

from .mobile import mobile_findings
from .parity import LIMITS

if TYPE_CHECKING:
    from .bundle import Exported

__all__ = ["StageCost", "bundle_costs", "bundle_findings", "main", "measure", "report", "table"]


@dataclass(frozen=True)
class StageCost:
    """Cost of one graph for one image; None is unknown, as it is of a graph in ORT format."""

    multiply_adds: int | None
    parameters: int | None
    bytes: int
    operators: dict[str, int] | None


def _shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    known = {i.name: tuple(i.dims) for i in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        known[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    return known


def measure(graph: bytes) -> StageCost:
    """Count one graph: convolutions, matrix products, and the weighted sums of spirals and barycentric weights."""
    model = shape_inference.infer_shapes(onnx.load_from_string(graph))
    shapes = _shapes(model.graph)
    products = {name for node in model.graph.node if node.op_type == "Mul" for name in node.output}
    total = 0
    for node in model.graph.node:
        out = shapes.get(node.output[0], ())
        if node.op_type == "Conv":
            total += prod(out) * prod(shapes[node.input[1]][1:])
        elif node.op_type in ("MatMul", "Gemm"):
            inner = shapes[node.input[0]]
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            total += prod(out) * (inner[0] if transposed else inner[-1])
        elif node.op_type in ("ReduceSum", "ReduceMean") and node.input[0] in products:
            total += prod(shapes[node.input[0]])
    return StageCost(total, _parameters(model), len(graph), dict(Counter(n.op_type for n in model.graph.node)))


def _parameters(model: onnx.ModelProto) -> int:
    """Count weights in any precision; quantisation's scales and the settings of operators are none."""
    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    scales = {name for node in pairs for name in node.input[1:]}
    scales |= {
        name for node in model.graph.node if node.op_type in ("Clip", "Pad", "Resize") for name in node.input[1:]
    }
    eight_bit = {node.input[0] for node in pairs}
    return sum(
        prod(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.dims and tensor.name not in scales
        if tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16) or tensor.name in eight_bit
    )


def bundle_costs(bundle: Bundle) -> dict[str, StageCost]:
    """Cost of both stages; of those in ORT format the bytes alone."""
    return {
        name: StageCost(None, None, len(graph), None) if _is_ort(name, graph) else measure(graph)
        for name, graph in (("prior", bundle.prior), ("mesh", bundle.mesh))
    }


def bundle_findings(bundle: Bundle) -> dict[str, list[str]]:
    """Say what mobile providers take of both stages; nothing is known of those in ORT format."""
    stages = (("prior", bundle.prior), ("mesh", bundle.mesh))
    return {name: mobile_findings(graph) for name, graph in stages if not _is_ort(name, graph)}


def _is_ort(name: str, graph: bytes) -> bool:
    return graph_part(name, graph).endswith(".ort")


def table(costs: Mapping[str, StageCost]) -> str:
    """Text table of the stages and their sum."""
    lines = [f"{'stage':10s}{'multiply-adds':>15s}{'parameters':>13s}{'bytes':>12s}  operators"]
    for name, cost in costs.items():
        operators = ", ".join(f"{k} {v}" for k, v in sorted((cost.operators or {}).items()))
        unknown = "unknown: the graph is in ORT format"
        lines.append(_row(name, cost) + f"  {unknown if cost.operators is None else operators}")
    sums = [[getattr(cost, key) for cost in costs.values()] for key in ("multiply_adds", "parameters", "bytes")]
    adds, parameters, size = (None if None in values else sum(values) for values in sums)
    return "\n".join([*lines, _row("sum", StageCost(adds, parameters, size or 0, None))])


def _row(name: str, cost: StageCost) -> str:
    adds = "unknown" if cost.multiply_adds is None else f"{cost.multiply_adds / 1e6:.1f} M"
    parameters = "unknown" if cost.parameters is None else f"{cost.parameters:,d}"
    return f"{name:10s}{adds:>15s}{parameters:>13s}{cost.bytes:12,d}"


def _finding_lines(findings: Mapping[str, Sequence[str]]) -> list[str]:
    if not findings:
        return []
    head = "mobile providers, by ONNX Runtime's usability checker:"
    return [head, *(f"  {name:10s}{line}" for name, lines in findings.items() for line in lines)]


def report(done: Exported) -> str:
    """All that is to be said about an export: parity, costs, findings."""
    limit = LIMITS[done.bundle.precision]
    bound = "no limit" if limit is None else f"limit {limit:g}"
    lines = [
        f"parity, PyTorch against ONNX Runtime in {done.bundle.precision} on {done.seen} ({bound}):",
        f"  {'output':26s}{'largest':>9s}{'mean':>9s}",
        *(f"  {name:26s}{d.largest:9.1e}{d.mean:9.1e}" for name, d in done.differences.items()),
        table(done.costs),
        *_finding_lines(done.findings),
    ]
    if done.bundle.topology.joint_regressor is None:
        lines.append("no joint regressor: the runtime cannot place meshes in camera space; give --joint-regressor")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table of one bundle; return 0, or 2 with one line on standard error."""
    parser = argparse.ArgumentParser(prog="cmr_export.report", description=__doc__.splitlines()[0])
    parser.add_argument("bundle", nargs="?", help="default: the bundle that ships with the package")
    args = parser.parse_args(argv)
    try:
        bundle = Bundle.open(args.bundle) if args.bundle else Bundle.default()
        lines = [table(bundle_costs(bundle)), *_finding_lines(bundle_findings(bundle))]
    except (CmrError, DecodeError, ValueError, RuntimeError, OSError) as error:  # an InferenceError is a RuntimeError
        print(f"cmr_export.report: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
