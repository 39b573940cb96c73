# SPDX-License-Identifier: Apache-2.0
"""Which nodes of a graph make one step of a plan: layers with what follows them, and longer patterns of small nodes."""

from __future__ import annotations

from math import inf, isfinite, isinf, nan, prod
from typing import Any

import onnx

from .plan_graph import Graph, Step, UnknownError, attributes, automatic, reshaped, stripped
from .plan_small import attention, chosen, padded, prelu, reduced, resized

__all__ = ["Patterns", "reads"]

#: Keys of a layer in a block.
LAYER = ("weight", "bias", "stride", "pads", "act")


def reads(step: Step) -> list[str]:
    """Names of the tensors that a step takes."""
    x = step["x"] if isinstance(step["x"], list) else [step["x"]]
    return [*x, *(step[key] for key in ("add", "maps") if step.get(key) is not None)]


class Patterns(Graph):
    """A graph to be covered by steps, each as large as can be."""

    def step(self, name: str) -> Step:
        """Return the step that gives a tensor, with as many nodes in it as there is a form for."""
        step = self._joined(name)
        depthwise = self._own(step["x"], "depthwise") if step["op"] == "conv" and _pointwise(step) else None
        if depthwise is None:
            return step
        expand = self._own(depthwise["x"], "conv") if depthwise["before"] is None else None
        if expand is not None and (expand["add"] is not None or isinstance(expand["act"], dict)):
            expand = None
        return {
            "op": "block",
            "x": depthwise["x"] if expand is None else expand["x"],
            "before": depthwise["before"],
            "expand": expand and {key: expand[key] for key in LAYER},
            "depthwise": {key: depthwise[key] for key in LAYER},
            "project": {key: step[key] for key in ("weight", "bias", "act")},
            "add": step["add"],
            "then": step["then"],
        }

    def _joined(self, name: str) -> Step:
        """Return the step that gives a tensor, but for blocks."""
        node = self.makers.get(name)
        if node is None:
            raise UnknownError("a constant, or another than the first result of its node")
        match node.op_type if node.domain in ("", "ai.onnx") else "":
            case "Conv":
                return self._conv(node)
            case "Add":
                return self._add(node)
            case "Relu" | "Clip" | "Sigmoid":
                return self._act(node)
            case "Gemm" | "MatMul":
                return self._product(node)
            case "MaxPool" | "AveragePool":
                return self._pool(node)
            case "ReduceMean" | "ReduceSum" | "GlobalAveragePool":
                return reduced(self, node)
            case "Resize":
                return resized(self, node)
            case "Pad":
                return padded(self, node)
            case "Mul" | "Div":
                return self._scaled(node)
            case "Slice":
                return self._slice(node)
            case "Concat":
                axis = attributes(node)["axis"] % len(self.shape(name))
                return {"op": "concat", "x": list(node.input), "axis": axis}
            case "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Identity":
                return {"op": "view", "x": node.input[0], "perm": None}
            case "Transpose":
                perm = attributes(node).get("perm", list(range(len(self.shape(name))))[::-1])
                return {"op": "view", "x": node.input[0], "perm": perm}
            case "Gather":
                return chosen(self, node)
            case "DepthToSpace":
                return self._shuffle(node)
        raise UnknownError(f"operator {node.domain and node.domain + '.'}{node.op_type}")

    def _own(self, name: str, *operations: str, readers: int = 1) -> Step | None:
        """Return the step that gives a tensor if it is one of these and but one node, or so many, read the tensor."""
        if self.readers[name] != readers or name not in self.makers:
            return None
        step = self._joined(name)
        return step if step["op"] in operations else None

    # Layers

    def _conv(self, node: onnx.NodeProto) -> Step:
        own, weight = attributes(node), self.constant(node.input[1])
        (outputs, inputs, *kernel), group = weight[1], own.get("group", 1)
        strides, pads = own.get("strides", [1, 1]), own.get("pads", [0, 0, 0, 0])
        if len(kernel) != 2 or len(set(strides)) > 1 or set(own.get("dilations", [1])) != {1} or automatic(own):
            raise UnknownError("a Conv with dilations, automatic pads, two strides, or of other than two dimensions")
        bias = self.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        step = {"x": node.input[0], "weight": weight, "bias": bias, "stride": strides[0], "pads": pads, "act": None}
        if group == 1:
            return {"op": "conv", **step, "add": None, "then": None}
        if (inputs, outputs) != (1, group) or kernel[0] != kernel[1]:
            raise UnknownError(f"a Conv in {group} groups of {inputs} to {outputs // group} channels")
        if kernel[0] not in (3, 5) or strides[0] > 2:
            raise UnknownError("a depthwise Conv of other than 3 x 3 or 5 x 5 cells, one or two apart")
        if max(pads[0] + pads[2], pads[1] + pads[3]) >= kernel[0]:
            raise UnknownError(f"a depthwise Conv of {kernel[0]} x {kernel[0]} cells whose pads {pads} are as wide")
        before = self._own(step["x"], "act")
        if before is None or before["act"] == "sigmoid":
            return {"op": "depthwise", **step, "before": None}
        return {"op": "depthwise", **step, "x": before["x"], "before": before["act"]}

    def _product(self, node: onnx.NodeProto) -> Step:
        own, (a, b, *rest) = attributes(node), node.input
        if {own.get(key, 1.0) for key in ("alpha", "beta")} != {1.0}:
            raise UnknownError("a Gemm with factors")
        first = a in self.constants  # the constant
        if not first and b not in self.constants:
            return attention(self, a, b)
        turned = bool(own.get("transA" if first else "transB", 0))
        weight = self.constant(a if first else b)
        if len(weight[1]) != 2 or own.get("transB" if first else "transA", 0):
            raise UnknownError("a product of a turned tensor, or with a constant that is no matrix")
        x = b if first else a
        step = {"op": "product", "x": x, "first": first, "weight": weight, "turned": turned, "bias": None, "act": None}
        return self._with_bias(step, rest[0], node.output[0]) if rest and rest[0] else step

    def _with_bias(self, step: Step, name: str, result: str) -> Step:
        bias, width = self.constant(name), self.shape(result)[-1]
        if bias[1][-1:] != [width] or prod(bias[1]) != width:
            raise UnknownError(f"an addition of constant {name}, which is not one number a channel")
        return {**step, "bias": reshaped(bias, [width])}

    def _add(self, node: onnx.NodeProto) -> Step:
        constants = [name for name in node.input if name in self.constants]
        others = sorted((n for n in node.input if n not in self.constants), key=lambda n: -self.places.get(n, -1))
        if len(constants) == 1:
            return self._shifted(others[0], constants[0], node.output[0])
        if bent := prelu(self, node):
            return self._bent(*bent)
        if len({self.shape(name) for name in others}) != 1:
            raise UnknownError("an addition of tensors of different shapes")
        for name, other in (others, others[::-1]):  # into the later one: it comes next to what reads the sum
            inner = self._own(name, "conv", "enlarge")
            if inner is not None and inner["add"] is None:  # and nothing after it, as that would come with an addition
                return {**inner, "add": self._addend(other) if inner["op"] == "conv" else other}
        raise UnknownError("an addition of two tensors, neither of which is a Conv's own result")

    def _shifted(self, name: str, constant: str, result: str) -> Step:
        """Addition of a constant: one number a channel to a product, or one to each value."""
        shape, added = self.shape(name), self.shape(constant)
        whole = stripped(added) == stripped(shape) and shape == self.shape(result)
        inner = self._own(name, "product", "gather")
        free = inner is not None and inner["bias"] is None and inner["act"] is None
        if inner is not None and free and not (whole and len(stripped(added)) > 1):
            return self._with_bias(inner, constant, result)
        if not whole:
            raise UnknownError("an addition of a constant to other than a product's or gathering's own result")
        return {"op": "affine", "x": name, "offset": self.constant(constant), "scale": 1.0}

    def _scaled(self, node: onnx.NodeProto) -> Step:
        """Multiplication with a number, or division by one, of what constants were added to."""
        found = self.beside(node, node.op_type)
        inner = self._own(found[0], "affine") if found else None
        turned = node.op_type == "Div" and node.input[0] in self.constants
        if found is None or inner is None or turned or self.shape(found[0]) != self.shape(node.output[0]):
            raise UnknownError(f"a {node.op_type} of other than a sum with constants, by a number")
        factor = found[1] if node.op_type == "Mul" else 1 / (found[1] or nan)
        if not isfinite(factor):
            raise UnknownError(f"a {node.op_type} by {found[1]}")
        return {**inner, "scale": inner["scale"] * factor}

    def _addend(self, name: str) -> str:
        """Name of what a Conv's addition takes, which enlarges it and fills up its channels itself."""
        done: set[str] = set()
        while name in self.makers and (operator := self.makers[name].op_type) in {"Resize", "Pad"} - done:
            step = self._joined(name)
            if step["op"] == "enlarge":
                break
            name = step["x"]
            done.add(operator)
        return name

    def _bent(self, x: str, slope: list[Any]) -> Step:
        """Layer with a PReLU, which reads its result twice."""
        inner = self._own(x, "conv", "enlarge", readers=2)
        place = _place(inner)
        if inner is None or place is None:
            raise UnknownError("a PReLU of other than a Conv's or an enlargement's own result")
        return {**inner, place: {"slope": slope}}

    def _act(self, node: onnx.NodeProto) -> Step:
        act: str | list[float | None] = [0.0, None] if node.op_type == "Relu" else "sigmoid"
        if node.op_type == "Clip":
            given = [*node.input[1:], "", ""][:2]
            limits = [float(self.numbers(name).item()) if name else inf for name in given]
            act = [None if isinf(limit) else limit for limit in limits]
        layers = ("conv", "depthwise", "product", "gather", "enlarge")
        inner = None if act == "sigmoid" else self._own(node.input[0], *layers)
        place = _place(inner)
        if inner is None or place is None:
            return {"op": "act", "x": node.input[0], "act": act}
        return {**inner, place: act}

    def _pool(self, node: onnx.NodeProto) -> Step:
        own, sizes = attributes(node), self.shape(node.input[0])[2:]
        halves = own["kernel_shape"] == own.get("strides") == [2, 2] and not any(size % 2 for size in sizes)
        if not halves or any(own.get("pads", [])) or set(own.get("dilations", [1])) != {1} or automatic(own):
            raise UnknownError("a pool of other than 2 x 2, without overlap, pads and remainder")
        return {"op": "pool", "x": node.input[0], "kind": "max" if node.op_type == "MaxPool" else "mean"}

    # Parts and shapes

    def _slice(self, node: onnx.NodeProto) -> Step:
        rank = len(self.shape(node.input[0]))
        start, end, *rest = (self.numbers(name).tolist() for name in node.input[1:])
        axis = rest[0][0] % rank if rest else 0
        if len(start) != 1 or rest[1:] not in ([], [[1]]):
            raise UnknownError("a Slice along two axes or in steps")
        first, last, _ = slice(start[0], end[0]).indices(self.shape(node.input[0])[axis])
        return {"op": "slice", "x": node.input[0], "axis": axis, "from": first, "to": last}

    def _shuffle(self, node: onnx.NodeProto) -> Step:
        own = attributes(node)
        if own["blocksize"] != 2 or (own.get("mode", "DCR") != "DCR" and self.shape(node.output[0])[1] != 1):
            raise UnknownError("DepthToSpace of other than 2 x 2 in mode DCR")
        return {"op": "shuffle", "x": node.input[0]}


def _pointwise(step: Step) -> bool:
    return step["weight"][1][2:] == [1, 1] and step["stride"] == 1 and not any(step["pads"])


def _place(step: Step | None) -> str | None:
    """Where a layer takes one more activation; None where it does not."""
    place = "act" if step is None or step.get("add") is None else "then"
    return place if step is not None and step.get(place, "") is None else None
