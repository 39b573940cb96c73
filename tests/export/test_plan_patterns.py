# SPDX-License-Identifier: Apache-2.0
"""Which nodes make one step of a plan, on graphs made by hand."""

import numpy as np
import onnx
import pytest
from onnx import helper
from plan_graphs import SCALES, attention, gathering, kinds, made, node, normal, same, upsampling

BLOCK = {"e": normal(6, 4, 1, 1), "d": normal(6, 1, 3, 3), "p": normal(4, 6, 1, 1), "b": normal(6)}


def block(act: str = "Relu", **depthwise) -> list[onnx.NodeProto]:
    own = {"group": 6, "pads": [1, 1, 1, 1]} | depthwise
    nodes = [node("Conv", "x e b", "e0"), node(act, "e0", "e1"), node("Conv", "e1 d", "d0", **own)]
    return [*nodes, node("Relu", "d0", "d1"), node("Conv", "d1 p", "p0")]


def test_a_block_with_its_addition():
    (step,) = same(made([*block(), node("Add", "x p0", "y")], BLOCK, {"y": [1, 4, 6, 8]}))
    assert (step["op"], step["x"], step["add"]) == ("block", 0, 0)
    assert step["expand"]["act"] == step["depthwise"]["act"] == [0, None]
    assert step["expand"]["bias"][1] == [6]
    assert step["depthwise"]["bias"] is None


def test_an_activation_after_the_addition():
    nodes = [*block(), node("Add", "p0 x", "s"), node("Relu", "s", "y")]
    (step,) = same(made(nodes, BLOCK, {"y": [1, 4, 6, 8]}))
    assert (step["op"], step["add"], step["project"]["act"], step["then"]) == ("block", 0, None, [0, None])
    nodes = [node("Conv", "x w", "c"), node("Relu", "c", "r"), node("Add", "r x", "s"), node("Clip", "s  six", "y")]
    values = {"w": normal(4, 4, 3, 3), "six": np.array(6, np.float32)}
    nodes[0].attribute.append(helper.make_attribute("pads", [1, 1, 1, 1]))
    nodes[3] = helper.make_node("Clip", ["s", "", "six"], ["y"])
    (step,) = same(made(nodes, values, {"y": [1, 4, 6, 8]}))
    assert (step["op"], step["act"], step["add"], step["then"]) == ("conv", [0, None], 0, [None, 6])


def test_a_sigmoid_and_what_is_read_before_it_stay_steps():
    nodes = [*block(), node("Add", "p0 x", "s"), node("Sigmoid", "s", "y")]
    steps = same(made(nodes, BLOCK, {"y": [1, 4, 6, 8]}))
    assert kinds(steps) == ["block", "act"]
    assert steps[0]["then"] is None
    nodes[-1] = node("Relu", "s", "y")
    steps = same(made(nodes, BLOCK, {"y": [1, 4, 6, 8], "s": [1, 4, 6, 8]}))
    assert kinds(steps) == ["block", "act"]
    assert steps[0]["then"] is None


def test_an_activation_of_its_last_layer_is_a_blocks():
    nodes = [*block(), node("Relu", "p0", "r"), node("Add", "x r", "y")]
    (step,) = same(made(nodes, BLOCK, {"y": [1, 4, 6, 8]}))
    assert (step["op"], step["project"]["act"], step["add"], step["then"]) == ("block", [0, None], 0, None)
    (step,) = same(made(nodes[:-1], BLOCK, {"r": [1, 4, 6, 8]}))
    assert (step["op"], step["project"]["act"], step["add"]) == ("block", [0, None], None)


OWN = {"d": normal(4, 1, 3, 3), "p": normal(5, 4, 1, 1)}


def lightly(x: str) -> list[onnx.NodeProto]:
    """A depthwise convolution of four channels."""
    return [node("Conv", f"{x} d", "d0", group=4, pads=[1, 1, 1, 1])]


def test_an_activation_before_a_depthwise_convolution():
    (step,) = same(made([node("Relu", "x", "r"), *lightly("r")], OWN, {"d0": [1, 4, 6, 8]}))
    assert (step["op"], step["x"], step["before"], step["act"]) == ("depthwise", 0, [0, None], None)
    steps = same(made([node("Relu", "x", "r"), *lightly("r")], OWN, {"d0": [1, 4, 6, 8], "r": [1, 4, 6, 8]}))
    assert kinds(steps) == ["act", "depthwise"]
    assert (steps[1]["x"], steps[1]["before"]) == (1, None)
    steps = same(made([node("Sigmoid", "x", "r"), *lightly("r")], OWN, {"d0": [1, 4, 6, 8]}))
    assert kinds(steps) == ["act", "depthwise"]


def test_a_block_that_does_not_expand():
    after = [node("Relu", "d0", "d1"), node("Conv", "d1 p", "y")]
    (step,) = same(made([*lightly("x"), *after], OWN, {"y": [1, 5, 6, 8]}))
    assert (step["op"], step["expand"], step["before"], step["depthwise"]["act"]) == ("block", None, None, [0, None])
    (step,) = same(made([node("Relu", "x", "r"), *lightly("r"), *after], OWN, {"y": [1, 5, 6, 8]}))
    assert (step["op"], step["x"], step["expand"], step["before"]) == ("block", 0, None, [0, None])


def test_an_activation_after_an_addition_that_a_depthwise_convolution_shares():
    nodes = [node("Conv", "x w", "c"), node("Add", "c x", "s"), node("Relu", "s", "r"), *lightly("r")]
    nodes += [node("Conv", "d0 p", "q"), node("Add", "q s", "y")]
    values = {"w": normal(4, 4, 1, 1), "d": OWN["d"], "p": normal(4, 4, 1, 1)}
    steps = same(made(nodes, values, {"y": [1, 4, 6, 8]}))
    assert kinds(steps) == ["conv", "block"]
    assert (steps[0]["then"], steps[1]["before"], steps[1]["add"]) == (None, [0, None], 1)


def test_what_has_an_addition_is_no_expansion():
    nodes = [node("Conv", "x w", "c"), node("Add", "c x", "s"), *lightly("s"), node("Conv", "d0 p", "y")]
    steps = same(made(nodes, OWN | {"w": normal(4, 4, 1, 1)}, {"y": [1, 5, 6, 8]}))
    assert kinds(steps) == ["conv", "block"]
    assert (steps[0]["add"], steps[1]["expand"]) == (0, None)


@pytest.mark.parametrize("read", ["e0", "e1", "d0", "d1"])
def test_what_is_read_twice_keeps_its_slot(read):
    nodes = [*block(), node("Add", "x p0", "y"), node("Sigmoid", read, "z")]
    steps = same(made(nodes, BLOCK, {"y": [1, 4, 6, 8], "z": [1, 6, 6, 8]}))
    made_of = (
        ["conv", "block"] if read.startswith("e") else ["conv", "depthwise", "conv", *(["act"] if read == "d0" else [])]
    )
    assert sorted(kinds(steps)) == sorted([*made_of, "act"])
    if read.startswith("e"):
        (last,) = (step for step in steps if step["op"] == "block")
        assert (last["expand"], last["before"]) == (None, [0, None] if read == "e0" else None)


def test_an_output_keeps_its_slot():
    steps = same(made(block(), BLOCK, {"p0": [1, 4, 6, 8], "d1": [1, 6, 6, 8]}))
    assert kinds(steps) == ["conv", "depthwise", "conv"]


def test_of_two_convolutions_the_later_takes_the_addition():
    for first in ("a b", "b a"):
        nodes = [node("Conv", "x e", "a"), node("Conv", "x e2", "b"), node("Add", first, "y")]
        steps = same(made(nodes, {"e": BLOCK["e"], "e2": normal(6, 4, 1, 1)}, {"y": [1, 6, 6, 8]}))
        assert [step["add"] for step in steps] == [None, 1]


def test_the_half_is_added_enlarged():
    nodes = [
        node("MaxPool", "x", "h", kernel_shape=[2, 2], strides=[2, 2]),
        upsampling("h scales", "u"),
        node("Conv", "x w", "c"),
        node("Add", "u c", "y"),
    ]
    steps = same(made(nodes, {"w": normal(4, 4, 1, 1), "scales": SCALES}, {"y": [1, 4, 6, 8]}))
    assert kinds(steps) == ["pool", "conv"]
    assert steps[1]["add"] == 1


@pytest.mark.parametrize(("low", "high"), [(0, 6), (-1, None), (None, 0.5), (-np.inf, 2)])
def test_limits(low, high):
    limits = {key: np.array(value, np.float32) for key, value in (("low", low), ("high", high)) if value is not None}
    clip = helper.make_node("Clip", ["c", *(k if k in limits else "" for k in ("low", "high"))], ["y"])
    graph = made([node("Conv", "x w", "c"), clip], {"w": normal(3, 4, 1, 1)} | limits, {"y": [1, 3, 6, 8]})
    (step,) = same(graph)
    assert step["act"] == [None if low == -np.inf else low, high]


def test_uneven_pads_and_strides():
    nodes = [node("Conv", "x w b", "y", strides=[2, 2], pads=[0, 1, 2, 0])]
    (step,) = same(made(nodes, {"w": normal(5, 4, 3, 2), "b": normal(5)}, {"y": [1, 5, 3, 4]}))
    assert (step["stride"], step["pads"]) == (2, [0, 1, 2, 0])


def turned_products() -> list[tuple]:
    """Products over channels, and over rows, of a matrix of 48 rows and 4 channels or its transpose; and the step."""
    wide, high = normal(4, 7), normal(48, 7)
    return [
        (node("MatMul", "m w", "y"), wide, [48, 7], ("linear", "io")),
        (node("Gemm", "m w b", "y"), wide, [48, 7], ("linear", "io")),
        (node("Gemm", "m w b", "y", transB=1), wide.T.copy(), [48, 7], ("linear", "oi")),
        (node("MatMul", "w t", "y"), wide.T.copy(), [7, 48], ("linear", "oi")),
        (node("MatMul", "w m", "y"), high.T.copy(), [7, 4], ("rows", "oi")),
        (node("Gemm", "w m b", "y"), high.T.copy(), [7, 4], ("rows", "oi")),
        (node("Gemm", "w m b", "y", transA=1), high, [7, 4], ("rows", "io")),
        (node("MatMul", "t w", "y"), high, [4, 7], ("rows", "io")),
    ]


@pytest.mark.parametrize("case", range(8))
def test_products_by_what_they_sum_over(case):
    product, weight, shape, form = turned_products()[case]
    nodes = [
        node("Reshape", "x flat", "f"),
        node("Transpose", "f", "m", perm=[1, 0]),
        node("Transpose", "m", "t"),
        product,
        node("Transpose", "y", "yt"),
    ]
    result = {"yt": shape[::-1]} if "t" in product.input else {"y": shape}
    values = {"flat": np.array([4, 48]), "w": weight, "b": normal(shape[1])}
    steps = same(made(nodes, values, result))
    assert kinds(steps) == ["reshape", form[0]]  # 6 x 8 cells become 48 rows
    assert steps[1]["order"] == form[1]


def test_biases_and_activations_of_products():
    nodes = [
        node("GlobalAveragePool", "x", "g"),
        node("Flatten", "g", "v"),
        node("MatMul", "v w", "m"),
        node("Add", "b m", "s"),
        node("Relu", "s", "y"),
    ]
    steps = same(made(nodes, {"w": normal(4, 5), "b": normal(1, 5)}, {"y": [1, 5]}))
    assert kinds(steps) == ["mean", "linear"]
    assert steps[1]["act"] == [0, None]


@pytest.mark.parametrize("weight", [normal(3, 4), normal(5, 3, 1)])
@pytest.mark.parametrize(("reduction", "scale"), [("ReduceMean", 1 / 3), ("ReduceSum", 1)])
def test_gathered_rows(weight, reduction, scale):
    steps = same(gathering(weight, reduction))
    assert kinds(steps) == ["reshape", "gather"]
    assert steps[1]["scale"] == scale


def test_features_under_maps():
    steps = same(attention())
    assert kinds(steps) == ["conv", "act", "attend"]
    assert (steps[2]["maps"], steps[2]["x"], steps[2]["eps"]) == (2, 0, 0.5)


def test_axes_that_only_move_cost_nothing():
    nodes = [
        node("DepthToSpace", "x", "d", blocksize=2, mode="DCR"),
        node("Sigmoid", "d", "y"),
        node("GlobalAveragePool", "x", "g"),
        node("Squeeze", "g axes", "q"),
        node("Unsqueeze", "q axes", "z"),
        node("Concat", "x x", "c", axis=2),
        node("Slice", "c one three one", "part"),
    ]
    values = {"axes": np.array([2, 3]), "one": np.array([1]), "three": np.array([3])}
    outputs = {"y": [1, 1, 12, 16], "z": [1, 4, 1, 1], "part": [1, 2, 12, 8]}
    assert kinds(same(made(nodes, values, outputs))) == ["act", "mean", "concat", "slice"]
