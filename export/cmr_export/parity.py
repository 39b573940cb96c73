# SPDX-License-Identifier: Apache-2.0
"""PyTorch against ONNX Runtime, output by output."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

from .graphs import MESH_INPUTS, MESH_OUTPUTS, PRIOR_INPUTS, PRIOR_OUTPUTS

__all__ = ["LIMIT", "ParityError", "compare", "parity"]

#: Largest difference accepted in any output, in its own unit (metres, probabilities).
LIMIT = 1e-4


class ParityError(RuntimeError):
    """An exported graph computes something else than the network."""


def compare(
    stage: nn.Module, graph: bytes, inputs: dict[str, np.ndarray], outputs: tuple[str, ...]
) -> dict[str, float]:
    """Largest absolute difference of each output for one set of inputs."""
    with torch.no_grad():
        expected = stage(*(torch.from_numpy(v) for v in inputs.values()))
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    found = session.run(list(outputs), inputs)
    return {name: float(np.abs(a.numpy() - b).max()) for name, a, b in zip(outputs, expected, found, strict=True)}


def parity(
    prior: nn.Module, mesh: nn.Module, prior_graph: bytes, mesh_graph: bytes, images: np.ndarray, limit: float = LIMIT
) -> dict[str, float]:
    """Compare both stages on images (N, 3, S, S), the mesh stage on what the prior makes of them.

    Returns
    -------
    dict
        Largest difference by output, ``prior.heatmaps`` and so on.

    Raises
    ------
    ParityError
        If one exceeds the limit.
    """
    worst: dict[str, float] = {}
    for image in images:
        first = {PRIOR_INPUTS[0]: image[None]}
        found = {f"prior.{k}": v for k, v in compare(prior, prior_graph, first, PRIOR_OUTPUTS).items()}
        with torch.no_grad():
            cues = dict(zip(PRIOR_OUTPUTS, prior(torch.from_numpy(image[None])), strict=True))
        second = {name: cues[name].numpy() for name in MESH_INPUTS}
        found |= {f"mesh.{k}": v for k, v in compare(mesh, mesh_graph, second, MESH_OUTPUTS).items()}
        worst = {name: max(value, worst.get(name, 0.0)) for name, value in found.items()}
    failed = {name: value for name, value in worst.items() if not value <= limit}
    if failed:
        raise ParityError(f"PyTorch and ONNX Runtime differ by more than {limit:g}: {failed}; nothing was written")
    return worst
