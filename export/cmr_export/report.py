# SPDX-License-Identifier: Apache-2.0
"""What a bundle costs: multiply-adds, parameters, bytes and operators of each stage.

``python -m cmr_export.report hand.cmr`` prints the table, and what mobile providers take of the graphs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

from google.protobuf.message import DecodeError

from cmr_runtime.bundle import Bundle
from cmr_runtime.command import command
from cmr_runtime.errors import CmrError
from cmr_runtime.manifest import graph_part
from cmr_runtime.precision import open_bundle

from .bundle import Exported
from .cost import StageCost, measure
from .detector import PRECISION as DETECTOR_PRECISION
from .mobile import mobile_findings
from .parity import Difference, limit, unit
from .plan import obstacles, onnx_graphs

__all__ = ["bundle_costs", "bundle_findings", "main", "plan_lines", "report", "table"]


def bundle_costs(bundle: Bundle) -> dict[str, StageCost]:
    """Cost of each graph; of those in ORT format the bytes alone."""
    return {
        name: StageCost(None, None, len(graph), None) if _is_ort(name, graph) else measure(graph)
        for name, graph in _graphs(bundle).items()
    }


def bundle_findings(bundle: Bundle) -> dict[str, list[str]]:
    """Say what mobile providers take of each graph; nothing is known of those in ORT format."""
    return {name: mobile_findings(graph) for name, graph in _graphs(bundle).items() if not _is_ort(name, graph)}


def _graphs(bundle: Bundle) -> dict[str, bytes]:
    """Both stages, and the first layers alone and the detector where there are such."""
    graphs = {"prior": bundle.prior, "mesh": bundle.mesh, "shallow": bundle.shallow, "detector": bundle.detector}
    return {name: graph for name, graph in graphs.items() if graph is not None}


def _is_ort(name: str, graph: bytes) -> bool:
    return graph_part(name, graph).endswith(".ort")


def table(costs: Mapping[str, StageCost]) -> str:
    """Text table of the graphs, and the sum of those of which none is a part of another."""
    lines = [f"{'stage':10s}{'multiply-adds':>15s}{'parameters':>13s}{'bytes':>12s}  operators"]
    for name, cost in costs.items():
        operators = ", ".join(f"{k} {v}" for k, v in sorted((cost.operators or {}).items()))
        unknown = "unknown: the graph is in ORT format"
        lines.append(_row(name, cost) + f"  {unknown if cost.operators is None else operators}")
    whole = [cost for name, cost in costs.items() if name != "shallow"]  # the prior's own first layers
    sums = [[getattr(cost, key) for cost in whole] for key in ("multiply_adds", "parameters", "bytes")]
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


def _parity_lines(differences: Mapping[str, Difference], precision: str) -> list[str]:
    lines = [f"  {'output':26s}{'largest':>9s}{'mean':>9s}{'limit':>9s}  unit"]
    for name, d in differences.items():
        bound = limit(name, precision)
        allowed = "none" if bound is None else f"{bound:.0e}"
        lines.append(f"  {name:26s}{d.largest:9.1e}{d.mean:9.1e}{allowed:>9s}  {unit(name)}")
    return lines


def plan_lines(bundle: Bundle) -> list[str]:
    """Say which graphs the compiled core runs by a plan, and why not the others."""
    graphs = onnx_graphs(bundle)
    reasons = obstacles(graphs)
    planned = [kind for kind in graphs if kind not in reasons] if bundle.plan is not None else []
    head = f"by a plan in the compiled core: {', '.join(planned) or 'nothing'}; the rest in ONNX Runtime"
    if not planned:
        head += ", as usual for other networks than this project's; what the core lacks:"
    return [head, *(f"  {kind:10s}{reason}" for kind, reason in reasons.items())]


def report(done: Exported) -> str:
    """All that is to be said about an export: parity, costs, findings."""
    precision = done.bundle.precision
    lines = [
        f"parity, PyTorch against ONNX Runtime in {precision} on {done.seen}:",
        *_parity_lines(done.differences, precision),
    ]
    if done.detector:
        lines += [
            "parity of the detector, MediaPipe's weights unchanged, on generated images:",
            *_parity_lines(done.detector, DETECTOR_PRECISION),
        ]
    lines += [table(done.costs), *_finding_lines(done.findings), *plan_lines(done.bundle)]
    if assumed := done.bundle.provenance.get("assumed"):
        lines.append(f"assumed, as the weights do not tell: {assumed}")
    if done.bundle.topology.joint_regressor is None:
        lines.append("no joint regressor: the runtime cannot place meshes in camera space; give --joint-regressor")
    return "\n".join(lines)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Print the table of one bundle; return 0, or 2 with one line on standard error."""
    parser = argparse.ArgumentParser(prog="cmr_export.report", description=__doc__.splitlines()[0])
    parser.add_argument("bundle", nargs="?", help="default: the bundle that ships with the package")
    args = parser.parse_args(argv)
    try:
        bundle = open_bundle(args.bundle or None)
        lines = [table(bundle_costs(bundle)), *_finding_lines(bundle_findings(bundle)), *plan_lines(bundle)]
    except (CmrError, DecodeError, ValueError, RuntimeError, OSError) as error:  # an InferenceError is a RuntimeError
        print(f"cmr_export.report: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
