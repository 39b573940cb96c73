# SPDX-License-Identifier: Apache-2.0
"""Plans of the palm detector, and the patterns that it adds: on its graph, and on graphs made by hand."""

import functools
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from exported import run_graph
from onnx import TensorProto, helper
from plan_graphs import SCALES, kinds, made, node, normal, same, upsampling
from plan_numpy import run_plan

from cmr_export.calibration import blobs
from cmr_export.detector import detector_graph, load_detector, split_prelus
from cmr_export.half import to_half
from cmr_export.plan import obstacles, plan
from cmr_models.detector.palm import BLOCKS, PalmDetector

WEIGHTS = Path(__file__).parents[2] / "models" / "weights" / "palm_detector.npz"
LINEAR = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}


@functools.cache
def detector(size: str) -> bytes:
    """Make a detector with the shipped weights, or with such that each slope and each bias counts."""
    if size == "shipped":
        return detector_graph(load_detector(WEIGHTS))
    torch.manual_seed(1)
    network = PalmDetector(BLOCKS[size]).eval()
    with torch.no_grad():
        for conv in network.convolutions():
            torch.nn.init.normal_(conv.bias, std=0.1)
            conv.weight *= 0.5 if conv.groups == 1 else 1
        for slope in network.slopes():
            torch.nn.init.normal_(slope.weight, std=0.5)
    return detector_graph(network)


@functools.cache
def stated(size: str) -> dict:
    assert obstacles({"detector": detector(size)}) == {}
    return json.loads(json.dumps(plan({"detector": detector(size)})))["graphs"]["detector"]


@pytest.mark.parametrize("size", ["shipped", *BLOCKS])
def test_its_plan_computes_what_the_graph_does(size):
    image = blobs(192)[:1]
    expected = run_graph(detector(size), {"image": image})
    found = run_plan(stated(size), detector(size), {"image": image}, np.float32)
    assert list(found) == ["boxes", "scores"]
    assert expected["scores"].std() > 1e-3
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("size", BLOCKS)
def test_its_layers_are_fused(size):
    steps = stated(size)["steps"]
    of = {kind: kinds(steps).count(kind) for kind in kinds(steps)}
    assert of.pop("block") == 5 * BLOCKS[size] + 4 + 4
    assert of == {"conv": 7, "pool": 4, "enlarge": 2, "reshape": 4, "concat": 2, "affine": 1, "act": 1}
    assert all(set(step["then"]) == {"slope"} and step["add"] is not None for step in steps if step["op"] == "block")
    assert all(set(step["act"]) == {"slope"} and step["add"] is not None for step in steps if step["op"] == "enlarge")
    assert set(steps[0]["act"]) == {"slope"}
    assert [name for name, *_ in stated(size)["outputs"]] == ["boxes", "scores"]


# PReLU


def split(nodes, values: dict, outputs: dict, **extra) -> bytes:
    """Make a graph with each PRelu as the exporter writes it."""
    model = onnx.load_from_string(made(nodes, values, outputs, **extra))
    split_prelus(model)
    return model.SerializeToString()


BENT = {"w": normal(4, 4, 1, 1), "d": normal(4, 1, 3, 3), "a": normal(4, 1, 1), "a2": normal(4, 1, 1)}
WHOLE = {"y": [1, 4, 6, 8]}


def bent(x: str, output: str = "y", slope: str = "a") -> onnx.NodeProto:
    return node("PRelu", f"{x} {slope}", output)


def depthwise(x: str, output: str, **attributes) -> onnx.NodeProto:
    return node("Conv", f"{x} d", output, **({"group": 4, "pads": [1, 1, 1, 1]} | attributes))


def test_slopes_of_a_convolution():
    (step,) = same(split([node("Conv", "x w", "c"), bent("c")], BENT, WHOLE))
    assert (step["op"], step["act"]["slope"][1], step["then"]) == ("conv", [4], None)


@pytest.mark.parametrize("order", ["c x", "x c"])
def test_slopes_after_an_addition(order):
    nodes = [node("Conv", "x w", "c"), bent("c", "b", "a2"), node("Add", order.replace("c", "b"), "s"), bent("s")]
    (step,) = same(split(nodes, BENT, WHOLE))
    assert (step["add"], set(step["act"]), set(step["then"])) == (0, {"slope"}, {"slope"})
    assert step["act"]["slope"][0] != step["then"]["slope"][0]


def test_slopes_of_a_block():
    nodes = [depthwise("x", "d0"), node("Conv", "d0 w", "p"), bent("p")]
    (step,) = same(split(nodes, BENT, WHOLE))
    assert (step["op"], set(step["project"]["act"]), step["then"]) == ("block", {"slope"}, None)


def test_what_has_slopes_is_no_expansion():
    nodes = [node("Conv", "x w", "c"), bent("c", "e"), depthwise("e", "d0"), node("Conv", "d0 w", "y")]
    steps = same(split(nodes, BENT, WHOLE))
    assert kinds(steps) == ["conv", "block"]
    assert (set(steps[0]["act"]), steps[1]["expand"], steps[1]["before"]) == ({"slope"}, None, None)


def test_what_comes_after_slopes_is_a_step():
    steps = same(split([node("Conv", "x w", "c"), bent("c", "b"), node("Relu", "b", "y")], BENT, WHOLE))
    assert kinds(steps) == ["conv", "act"]


@pytest.mark.parametrize("turned", [False, True])
def test_both_orders_of_the_two_parts(turned):
    model = onnx.load_from_string(split([node("Conv", "x w", "c"), bent("c")], BENT, WHOLE))
    last = model.graph.node[-1]
    assert last.op_type == "Add"
    parts = list(last.input)[:: -1 if turned else 1]
    del last.input[:]
    last.input.extend(parts)
    (step,) = same(model.SerializeToString())
    assert set(step["act"]) == {"slope"}


SIMILAR = {
    "another slope": ("Sub", {"rest": ["one", "other"]}),
    "another number": ("Sub", {"rest": ["two", "a"]}),
    "another relu": ("Relu", {"r": ["x"]}),
    "another operator": ("Relu", {"r": ["c"], "operator": "Sigmoid"}),
}


@pytest.mark.parametrize("change", SIMILAR)
def test_what_only_looks_like_slopes_is_left_out(change):
    _, own = SIMILAR[change]
    nodes = [
        node("Conv", "x w", "c"),
        helper.make_node("Sub", own.get("rest", ["one", "a"]), ["rest"]),
        helper.make_node(own.get("operator", "Relu"), own.get("r", ["c"]), ["r"]),
        node("Conv", "c a", "line", group=4),
        node("Conv", "r rest", "bend", group=4),
        node("Add", "line bend", "y"),
    ]
    values = {"w": BENT["w"], "a": normal(4, 1, 1, 1), "other": normal(4, 1, 1, 1)}
    values |= {"one": np.array(1, np.float32), "two": np.array(2, np.float32)}
    assert plan({"mesh": made(nodes, values, WHOLE)}) is None


@pytest.mark.parametrize(
    "nodes",
    [
        [bent("x")],
        [depthwise("x", "c"), bent("c")],
        [node("Conv", "x w", "c"), node("Relu", "c", "r"), bent("r")],
        [node("Conv", "x w", "c"), bent("c", "b"), bent("b", "y", "a2")],
        [node("Conv", "x w", "c"), bent("c", "b"), node("Conv", "c w", "e"), node("Add", "b e", "y")],
        [upsampling("x scales", "u", **LINEAR), node("Add", "u u2", "s"), bent("s")],
    ],
    ids=["of the input", "depthwise", "of a Relu", "of another", "read elsewhere", "of a sum with an enlargement"],
)
def test_slopes_of_what_is_no_layers_own_result(nodes):
    values, shape = BENT, WHOLE
    if nodes[0].op_type == "Resize":
        nodes = [nodes[0], upsampling("x scales", "u2", **LINEAR), *nodes[1:]]
        values, shape = BENT | {"scales": SCALES}, {"y": [1, 4, 12, 16]}
    line = obstacles({"mesh": split(nodes, values, shape)})["mesh"]
    assert "a PReLU of other than a Conv's or an enlargement's own result" in line


# Additions of fewer channels


def behind(x: str, output: str, pads: str = "pads") -> onnx.NodeProto:
    return helper.make_node("Pad", [x, pads, ""], [output], mode="constant")


MORE = {"w": normal(24, 16, 1, 1), "pads": np.array([0, 0, 0, 0, 0, 8, 0, 0]), "scales": SCALES}
SIXTEEN = {"size": (1, 16, 6, 8)}


@pytest.mark.parametrize("order", ["p c", "c p"])
def test_fewer_channels_are_added(order):
    nodes = [node("Conv", "x w", "c"), behind("x", "p"), node("Add", order, "y")]
    (step,) = same(made(nodes, MORE, {"y": [1, 24, 6, 8]}, **SIXTEEN))
    assert (step["op"], step["add"]) == ("conv", 0)


@pytest.mark.parametrize("first", ["Pad", "Resize"])
def test_fewer_channels_of_half_the_size_are_added(first):
    pool = node("MaxPool", "x", "h", kernel_shape=[2, 2], strides=[2, 2])
    small = [pool, behind("h", "u"), upsampling("u scales", "p")]
    if first == "Resize":
        small = [pool, upsampling("h scales", "u"), behind("u", "p")]
    nodes = [*small, node("Conv", "x w", "c"), node("Add", "c p", "y")]
    steps = same(made(nodes, MORE, {"y": [1, 24, 6, 8]}, **SIXTEEN))
    assert kinds(steps) == ["pool", "conv"]
    assert steps[1]["add"] == 1


# Enlargement


@pytest.mark.parametrize("size", [(6, 8), (1, 1), (1, 5), (3, 2)])
def test_enlargement_between_cells(size):
    scales = {"scales": SCALES}
    height, width = (2 * each for each in size)
    graph = made([upsampling("x scales", "y", **LINEAR)], scales, {"y": [1, 4, height, width]}, size=(1, 4, *size))
    (step,) = same(graph)
    assert step == {"op": "enlarge", "x": 0, "act": None, "add": None}


def test_enlargement_by_its_sizes():
    resize = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **LINEAR)
    (step,) = same(made([resize], {"sizes": np.array([1, 4, 12, 16])}, {"y": [1, 4, 12, 16]}))
    assert step["op"] == "enlarge"


@pytest.mark.parametrize("act", ["Relu", "PRelu"])
@pytest.mark.parametrize("order", ["e k", "k e"])
def test_an_enlargement_with_its_activation_and_addition(act, order):
    enlarged, large = upsampling("x scales", "u", **LINEAR), {"y": [1, 4, 12, 16]}
    nodes = [upsampling("x scales", "k", **LINEAR), enlarged, bent("u", "e") if act == "PRelu" else node(act, "u", "e")]
    steps = same(split([*nodes, node("Add", order, "y")], BENT | {"scales": SCALES}, large))
    assert kinds(steps) == ["enlarge", "enlarge"]
    assert (steps[0]["act"], steps[0]["add"], steps[1]["add"]) == (None, None, 1)
    assert steps[1]["act"] == [0, None] if act == "Relu" else set(steps[1]["act"]) == {"slope"}


def test_what_is_enlarged_is_added_to_a_convolution():
    nodes = [
        node("MaxPool", "x", "h", kernel_shape=[2, 2], strides=[2, 2]),
        upsampling("h scales", "u", **LINEAR),
        node("Conv", "x w", "c"),
        node("Add", "u c", "y"),
    ]
    steps = same(made(nodes, BENT | {"scales": SCALES}, WHOLE))
    assert kinds(steps) == ["pool", "enlarge", "conv"]
    assert (steps[1]["add"], steps[2]["add"]) == (None, 2)


def test_an_activation_after_a_sum_with_an_enlargement_is_a_step():
    nodes = [upsampling("x scales", name, **LINEAR) for name in ("u", "k")]
    nodes += [node("Add", "u k", "s"), node("Relu", "s", "y")]
    steps = same(made(nodes, {"scales": SCALES}, {"y": [1, 4, 12, 16]}))
    assert kinds(steps) == ["enlarge", "enlarge", "act"]


# Heads


def rows(x: str, output: str) -> list[onnx.NodeProto]:
    """A map's cells in rows of two numbers, as the boxes of a detector lie."""
    return [node("Transpose", x, f"{x}.t", perm=[0, 2, 3, 1]), node("Reshape", f"{x}.t two", output)]


TWO = {"two": np.array([1, -1, 2]), "all": np.array([1, -1]), "w": normal(6, 4, 1, 1), "by": np.array(192, np.float32)}
HEADS = [node("Conv", "x w", "c"), node("MaxPool", "x", "m", kernel_shape=[2, 2], strides=[2, 2])]


def test_rows_of_heads_come_together():
    nodes = [*HEADS, *rows("c", "r"), *rows("m", "q"), node("Concat", "r q", "y", axis=1)]
    steps = same(made(nodes, TWO, {"y": [1, 168, 2]}))
    assert sorted(kinds(steps)) == ["concat", "conv", "pool", "reshape", "reshape"]
    assert [step["shape"] for step in steps if step["op"] == "reshape"] == [[144, 1, 2], [24, 1, 2]]
    assert steps[-1]["axis"] == "rows"


def test_numbers_of_heads_come_together_as_a_vector():
    turned = [node("Transpose", x, f"{x}.t", perm=[0, 2, 3, 1]) for x in "cm"]
    flat = [node("Flatten", "c.t", "r", axis=1), node("Reshape", "m.t all", "q")]
    nodes = [*HEADS, *turned, *flat, node("Concat", "r q", "s", axis=1), node("Sigmoid", "s", "y")]
    steps = same(made(nodes, TWO, {"y": [1, 336]}))
    assert [step["shape"] for step in steps if step["op"] == "reshape"] == [[1, 1, 288], [1, 1, 48]]
    assert (steps[-2]["op"], steps[-2]["axis"], steps[-1]["act"]) == ("concat", "channels", "sigmoid")


def test_an_output_has_the_channels_of_its_slot():
    nodes = [node("Transpose", "x", "t", perm=[0, 2, 3, 1]), node("Reshape", "t all", "y")]
    (step,) = same(made(nodes, TWO, {"y": [1, 192]}))
    assert step == {"op": "reshape", "x": 0, "shape": [1, 1, 192]}


@pytest.mark.parametrize(("factor", "scale"), [("Div", 1 / 192), ("Mul", 192), (None, 1)])
@pytest.mark.parametrize("shape", [(96, 2), (1, 96, 2)])
def test_constants_are_added_to_a_whole_matrix(factor, scale, shape):
    nodes = [*rows("x", "r"), node("Add", "o r", "s"), node(factor or "Identity", "s by" if factor else "s", "y")]
    steps = same(made(nodes, TWO | {"o": normal(*shape)}, {"y": [1, 96, 2]}))
    assert kinds(steps) == ["reshape", "affine"]
    assert (steps[1]["offset"][1], steps[1]["scale"]) == ([96, 2], scale)


def test_two_factors_are_one():
    nodes = [*rows("x", "r"), node("Add", "r o", "s"), node("Mul", "by s", "t"), node("Mul", "t by", "y")]
    steps = same(made(nodes, TWO | {"o": normal(96, 2)}, {"y": [1, 96, 2]}))
    assert (kinds(steps), steps[1]["scale"]) == (["reshape", "affine"], 192 * 192)


def test_constants_for_each_row_of_a_product_are_no_bias():
    nodes = [*rows("x", "r"), node("Reshape", "r flat", "m"), node("MatMul", "m k", "p"), node("Add", "p o", "y")]
    values = TWO | {"flat": np.array([96, 2]), "k": normal(2, 3), "o": normal(96, 3)}
    steps = same(made(nodes, values, {"y": [96, 3]}))
    assert kinds(steps) == ["reshape", "linear", "affine"]
    assert steps[1]["bias"] is None


# Constants in half precision


def test_half_precision_of_each_kind():
    nodes = [
        node("Conv", "x w", "c"),
        bent("c", "b"),
        *rows("b", "r"),
        node("Add", "r o", "s"),
        node("Div", "s by", "y"),
    ]
    values = TWO | {"w": normal(64, 4, 1, 1), "a": normal(64, 1, 1), "o": normal(1536, 2)}
    graph = to_half(split(nodes, values, {"y": [1, 1536, 2]}))
    steps = same(graph)
    assert kinds(steps) == ["conv", "reshape", "affine"]
    for place in (steps[0]["weight"], steps[0]["act"]["slope"], steps[2]["offset"]):
        assert place[2:] == ["half"]


def test_half_precision_that_stays_is_left_out():
    nodes = [node("Cast", "x", "h", to=TensorProto.FLOAT16), node("Cast", "h", "y", to=TensorProto.FLOAT)]
    assert "operator Cast" in obstacles({"mesh": made(nodes, {}, WHOLE)})["mesh"]
