# SPDX-License-Identifier: Apache-2.0
"""From a network in PyTorch to two ONNX graphs with static shapes: traced, simplified, pads folded, checked."""

from __future__ import annotations

import io
import warnings

import onnx
import onnxsim
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from cmr_models.network import HandNet

__all__ = [
    "MESH_INPUTS",
    "MESH_OUTPUTS",
    "PRIOR_INPUTS",
    "PRIOR_OUTPUTS",
    "MeshStage",
    "PriorStage",
    "fold_pads",
    "to_onnx",
]

PRIOR_INPUTS, PRIOR_OUTPUTS = ("image",), ("heatmaps", "silhouette", "presence", "right", "features")
MESH_INPUTS = ("features", "heatmaps", "silhouette")
MESH_OUTPUTS = ("vertices", "refined_heatmaps", "refined_silhouette")
#: Understood by ONNX Runtime since 1.14 and by its mobile providers.
OPSET = 17


class PriorStage(nn.Module):
    """What `prior.onnx` computes: probabilities instead of logits."""

    def __init__(self, net: HandNet) -> None:
        super().__init__()
        self.prior = net.prior

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(1, 3, S, S) -> the tensors of `PRIOR_OUTPUTS`."""
        out = self.prior(image)
        return (
            out.heatmaps.sigmoid(),
            out.silhouette.sigmoid(),
            out.presence.sigmoid(),
            out.right.sigmoid(),
            out.features,
        )


class MeshStage(nn.Module):
    """What `mesh.onnx` computes: the finest mesh level, and probabilities instead of logits."""

    def __init__(self, net: HandNet) -> None:
        super().__init__()
        self.mesh = net.mesh

    def forward(self, features: Tensor, heatmaps: Tensor, silhouette: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors of `MESH_OUTPUTS` from those of `MESH_INPUTS`."""
        out = self.mesh(features, heatmaps, silhouette)
        return out.levels[0], out.heatmaps.sigmoid(), out.silhouette.sigmoid()


def fold_pads(model: onnx.ModelProto) -> int:
    """Move constant zero pads into the convolutions behind them; return how many.

    TensorFlow's SAME padding is uneven at stride 2. PyTorch exports it as a Pad of its own, which costs a copy of the
    feature map; ONNX's Conv takes uneven pads itself.
    """
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    results = {value.name for value in model.graph.output}
    folded = []
    for pad in model.graph.node:
        if pad.op_type != "Pad" or len(pad.input) < 2 or pad.input[1] not in constants:
            continue
        mode = next((a.s.decode() for a in pad.attribute if a.name == "mode"), "constant")
        value = constants.get(pad.input[2]) if len(pad.input) > 2 and pad.input[2] else None
        amounts = constants[pad.input[1]].tolist()
        behind = users.get(pad.output[0], [])
        plain = mode == "constant" and (value is None or float(value) == 0) and len(amounts) == 8
        spatial = plain and amounts[:2] == [0, 0] and amounts[4:6] == [0, 0] and min(amounts) >= 0
        if not spatial or not behind or pad.output[0] in results:
            continue
        if any(n.op_type != "Conv" or n.input[0] != pad.output[0] for n in behind):
            continue
        for conv in behind:
            old = next((a for a in conv.attribute if a.name == "pads"), None)
            own = list(old.ints) if old is not None else [0, 0, 0, 0]
            if old is not None:
                conv.attribute.remove(old)
            total = [a + b for a, b in zip(own, amounts[2:4] + amounts[6:8], strict=True)]
            conv.attribute.append(helper.make_attribute("pads", total))
            conv.input[0] = pad.input[0]
        folded.append(pad)
    for pad in folded:
        model.graph.node.remove(pad)
    used = {name for node in model.graph.node for name in node.input}
    for constant in [i for i in model.graph.initializer if i.name not in used]:
        model.graph.initializer.remove(constant)
    return len(folded)


def to_onnx(stage: nn.Module, inputs: dict[str, Tensor], outputs: tuple[str, ...]) -> bytes:
    """Export one stage.

    Parameters
    ----------
    stage : nn.Module
        `PriorStage` or `MeshStage`, in evaluation mode.
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
        If simplification changes the result.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter announces its successor, which keeps dynamic shapes
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
    fold_pads(model)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()
