# SPDX-License-Identifier: Apache-2.0
"""From a network in PyTorch to two ONNX graphs with static shapes: traced, simplified, cleaned, checked."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnx
import onnxruntime as ort
import onnxsim
import torch
from onnx.utils import Extractor
from torch import Tensor, nn

from cmr_models.paper.folding import fold_batch_norm
from cmr_models.stages import StagedNetwork

from .clean import clean

__all__ = ["OPSET", "first_layers", "open_graph", "quietly", "to_onnx", "trace"]

#: Understood by ONNX Runtime since 1.14 and by its mobile providers.
OPSET = 17


def open_graph(graph: bytes) -> ort.InferenceSession:
    """Open a graph in ONNX Runtime, on the CPU, with one thread: the same sums whatever the machine."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep the progress messages and advice of ONNX Runtime's tools from the terminal; errors are raised as ever."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def trace(network: StagedNetwork) -> dict[str, bytes]:
    """Export both stages, batch norms folded; the mesh stage's example inputs are what the prior makes of an image.

    Returns
    -------
    dict
        ONNX models of ``prior`` and ``mesh``.
    """
    image = torch.rand((1, 3, network.size, network.size), generator=torch.Generator().manual_seed(0))
    prior, mesh = fold_batch_norm(network.prior), fold_batch_norm(network.mesh)
    with torch.no_grad():
        cues = dict(zip(prior.outputs, prior(image), strict=True))
    return {
        "prior": to_onnx(prior, {prior.inputs[0]: image}, prior.outputs),
        "mesh": to_onnx(mesh, {name: cues[name] for name in mesh.inputs}, mesh.outputs),
    }


def first_layers(prior: bytes) -> bytes:
    """Cut the layers that both stages share, from the image to the features, out of the prior's graph.

    Casts and scales of its weights come along, so that it gives what the prior gives in any precision.
    """
    model = Extractor(onnx.load_from_string(prior)).extract_model(["image"], ["features"])
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def to_onnx(stage: nn.Module, inputs: dict[str, Tensor], outputs: tuple[str, ...]) -> bytes:
    """Export one stage.

    Parameters
    ----------
    stage : nn.Module
        In evaluation mode.
    inputs : dict
        Example tensors by input name; their shapes become the graph's.
    outputs : tuple of str
        Names of the outputs.

    Returns
    -------
    bytes
        A checked ONNX model.

    Raises
    ------
    RuntimeError
        If simplification changes the result, or a batch norm is left.
    """
    buffer = io.BytesIO()
    with quietly():  # the tracing exporter announces its successor, which keeps dynamic shapes
        torch.onnx.export(
            stage,
            tuple(inputs.values()),
            buffer,
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            dynamo=False,
        )
    model, same = onnxsim.simplify(onnx.load_from_string(buffer.getvalue()))
    if not same:
        raise RuntimeError(f"simplifying the graph with outputs {outputs} changed its results; update onnxsim")
    clean(model)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()
