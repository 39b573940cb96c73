# SPDX-License-Identifier: Apache-2.0
"""How much of a graph the mobile providers take, by ONNX Runtime's usability checker."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx
from onnxruntime.tools.mobile_helpers import usability_checker
from onnxruntime.tools.onnx_model_utils import ModelProtoWithShapeInfo, optimize_model

__all__ = ["mobile_findings"]

_PROVIDERS: dict[str, Callable[[onnx.ModelProto], usability_checker.PartitioningInfo]] = {
    "NNAPI": lambda model: usability_checker.check_nnapi_partitions(model, True),
    "CoreML": lambda model: usability_checker.check_coreml_partitions(model, True, "coreml_supported_mlprogram_ops.md"),
}


def mobile_findings(graph: bytes) -> list[str]:
    """One line for each provider: nodes that it takes, in how many pieces, and the operators that it leaves to the CPU.

    The checker knows operators, not their every attribute; a device may take less.
    """
    with tempfile.TemporaryDirectory() as folder:
        path, basic = Path(folder) / "graph.onnx", Path(folder) / "basic.onnx"
        path.write_bytes(graph)
        optimize_model(path, basic)
        model = ModelProtoWithShapeInfo(basic).model_with_shape_info
    for node in model.graph.node:
        if "" in node.input:  # an input left out, which the checker takes for one of dynamic shape
            node.input[:] = [name or node.input[0] for name in node.input]
    lines = []
    for name, examine in _PROVIDERS.items():
        found = examine(model)
        line = f"{name}: {found.num_supported_nodes} of {found.num_nodes} nodes, pieces: {found.num_partitions}"
        if found.unsupported_ops:
            line += f"; on the CPU: {', '.join(sorted(op.removeprefix('ai.onnx:') for op in found.unsupported_ops))}"
        lines.append(line)
    return lines
