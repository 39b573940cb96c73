# SPDX-License-Identifier: Apache-2.0
"""What simplification leaves behind in a graph and a device would pay for: pads, wide indices, wrong modes, names."""

from __future__ import annotations

from collections import Counter
from math import prod

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = [
    "average_sums",
    "clean",
    "drop_unused",
    "fold_pads",
    "lift_constants",
    "narrow_indices",
    "reshape_flattened",
    "shorten_names",
    "turn_depth_to_space",
]


def clean(model: onnx.ModelProto) -> None:
    """Run every pass that keeps names, in place.

    Raises
    ------
    RuntimeError
        If a batch norm is left: it has no convolution or linear layer to be folded into.
    """
    lift_constants(model)
    fold_pads(model)
    narrow_indices(model)
    turn_depth_to_space(model)
    reshape_flattened(model)
    average_sums(model)
    if left := [node.name for node in model.graph.node if node.op_type == "BatchNormalization"]:
        raise RuntimeError(f"{len(left)} batch norms are left in the graph, the first is {left[0]}; fold them before")


def drop_unused(model: onnx.ModelProto) -> None:
    """Remove the constants that no node reads."""
    used = {name for node in model.graph.node for name in node.input}
    for constant in [i for i in model.graph.initializer if i.name not in used]:
        model.graph.initializer.remove(constant)


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
    drop_unused(model)
    return len(folded)


def narrow_indices(model: onnx.ModelProto) -> int:
    """Store constant indices of Gather as int32, half of PyTorch's int64; return how many."""
    readers: dict[str, set[tuple[str, int]]] = {}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            readers.setdefault(name, set()).add((node.op_type, place))
    narrowed = 0
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT64 and readers.get(tensor.name) == {("Gather", 1)}:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.int32), tensor.name))
            narrowed += 1
    return narrowed


def turn_depth_to_space(model: onnx.ModelProto) -> int:
    """Write pixel shuffles to a single channel in mode DCR; return how many.

    With one channel left both modes are the same function, and NNAPI takes DCR only.
    """
    sizes, turned = _sizes(model), 0
    for node in model.graph.node:
        if node.op_type != "DepthToSpace":
            continue
        block = next(a.i for a in node.attribute if a.name == "blocksize")
        mode = next((a for a in node.attribute if a.name == "mode" and a.s == b"CRD"), None)
        if mode is not None and sizes.get(node.input[0], [0, 0])[1] == block**2:
            mode.s = b"DCR"
            turned += 1
    return turned


def lift_constants(model: onnx.ModelProto) -> None:
    """Make constants of Constant nodes, which onnxsim leaves of some, as all other passes look for them there."""
    nodes = [node for node in model.graph.node if node.op_type == "Constant" and node.attribute[0].name == "value"]
    for node in nodes:
        tensor = node.attribute[0].t
        tensor.name = node.output[0]
        model.graph.initializer.append(tensor)
        model.graph.node.remove(node)


def reshape_flattened(model: onnx.ModelProto) -> int:
    """Write Flatten, which CoreML lacks, as Reshape; return how many."""
    sizes, turned = _sizes(model), 0
    for node in model.graph.node:
        if node.op_type == "Flatten" and node.output[0] in sizes:
            shape = numpy_helper.from_array(np.array(sizes[node.output[0]], np.int64), f"{node.output[0]}.shape")
            model.graph.initializer.append(shape)
            node.op_type = "Reshape"
            node.ClearField("attribute")
            node.input.append(shape.name)
            turned += 1
    return turned


def average_sums(model: onnx.ModelProto) -> int:
    """Write sums as means times the count, which goes into a constant factor where there is one; return how many.

    So up-sampling and spirals run on NNAPI, which has means but no sums.
    """
    graph, sizes, turned = model.graph, _sizes(model), 0
    constants = {i.name: i for i in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(value.name for value in graph.output)
    for place, node in reversed(list(enumerate(graph.node))):
        source = node.input[0] if node.input else ""
        if node.op_type != "ReduceSum" or source not in sizes or len(node.input) < 2 or node.input[1] not in constants:
            continue
        axes = numpy_helper.to_array(constants[node.input[1]]).tolist()
        count = np.float32(prod(sizes[source][axis] for axis in axes))
        product = makers.get(source)
        weighted = product is not None and product.op_type == "Mul" and readers[source] == 1
        factor = next((k for k, name in enumerate(product.input) if name in constants), None) if weighted else None
        name = f"{node.output[0]}.count"
        if factor is not None:
            count = numpy_helper.to_array(constants[product.input[factor]]) * count
            product.input[factor] = name
        else:
            mean = f"{node.output[0]}.mean"
            graph.node.insert(place + 1, helper.make_node("Mul", [mean, name], [node.output[0]]))
            node.output[0] = mean
        graph.initializer.append(numpy_helper.from_array(np.asarray(count), name))
        node.op_type = "ReduceMean"
        del node.input[1:]
        node.attribute.append(helper.make_attribute("axes", axes))
        turned += 1
    drop_unused(model)
    return turned


def _sizes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Shapes of the tensors between the nodes."""
    return {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.value_info}


def shorten_names(model: onnx.ModelProto) -> None:
    """Replace the names of inner tensors by short ones and drop those of nodes; inputs and outputs keep theirs."""
    graph = model.graph
    kept = {v.name for v in (*graph.input, *graph.output)} | {""}
    inner = (name for node in graph.node for name in (*node.input, *node.output) if name not in kept)
    short = {name: f"t{k}" for k, name in enumerate(dict.fromkeys(inner)) if f"t{k}" not in kept}
    for node in graph.node:
        node.ClearField("name")
        node.ClearField("doc_string")
        for names in (node.input, node.output):
            names[:] = [short.get(name, name) for name in names]
    for item in (*graph.initializer, *graph.value_info):
        item.name = short.get(item.name, item.name)
