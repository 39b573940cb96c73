# SPDX-License-Identifier: Apache-2.0
"""Graphs in ONNX Runtime's own format, and the list of operators that a reduced mobile build of it needs.

The conversion is ONNX Runtime's (``convert_onnx_models_to_ort``, style Fixed): optimised once, here, for every
processor; such a file is run as it is stored.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from onnxruntime.tools.convert_onnx_models_to_ort import OptimizationStyle, convert_onnx_models_to_ort

from .graphs import quietly

__all__ = ["to_ort"]


def to_ort(graphs: Mapping[str, bytes]) -> tuple[dict[str, bytes], str]:
    """Convert the graphs of a bundle.

    Parameters
    ----------
    graphs : mapping
        ONNX model by name of the stage.

    Returns
    -------
    converted : dict
        The same in ORT format.
    operators : str
        Content of the file for ``--include_ops_by_config`` of ONNX Runtime's build.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve()
        for name, graph in graphs.items():
            (folder / f"{name}.onnx").write_bytes(graph)
        with quietly():
            convert_onnx_models_to_ort(folder, optimization_styles=[OptimizationStyle.Fixed])
        (config,) = folder.glob("*.config")
        lines = [line for line in config.read_text().splitlines() if not line.startswith("#")]
        converted = {name: (folder / f"{name}.ort").read_bytes() for name in graphs}
    head = f"# Operators of {', '.join(f'{name}.ort' for name in graphs)}"
    return converted, "\n".join([head, *lines]) + "\n"
