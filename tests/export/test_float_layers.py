# SPDX-License-Identifier: Apache-2.0
"""Which layers stay in float, on chains of convolutions drawn for it."""

import itertools

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cmr_export.float_layers import COSTLY, FLOAT_WEIGHTS, plan


def chain(*widths: int, side: int = 4) -> onnx.ModelProto:
    """Convolutions 1 x 1 from width to width, one after the other, with a ReLU after each."""
    nodes, weights = [], []
    for k, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        weights.append(numpy_helper.from_array(np.ones((outputs, inputs, 1, 1), np.float32), f"w{k}"))
        nodes.append(helper.make_node("Conv", [f"r{k}", f"w{k}"], [f"c{k}"], name=f"conv{k}"))
        nodes.append(helper.make_node("Relu", [f"c{k}"], [f"r{k + 1}"]))
    last = len(widths) - 1
    ends = [helper.make_tensor_value_info(f"r{k}", TensorProto.FLOAT, [1, widths[k], side, side]) for k in (0, last)]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def in_float(model: onnx.ModelProto) -> list[str]:
    return [model.graph.node[place].name for place in plan(model)[1]]


WIDE = int(FLOAT_WEIGHTS**0.5) + 1


def test_layers_at_both_ends_stay_while_the_budget_lasts():
    assert in_float(chain(4, 8, WIDE, WIDE, 8, 4)) == ["conv0", "conv1", "conv3", "conv4"]
    half = int((0.6 * FLOAT_WEIGHTS) ** 0.5)
    assert in_float(chain(half, half, 8, half, half)) == ["conv0", "conv1", "conv2"]  # the second half is too much


def test_a_small_layer_among_large_ones_is_not_converted_to_and_fro():
    assert in_float(chain(4, WIDE, WIDE, 2, 2, WIDE, WIDE, 4)) == ["conv0", "conv6"]
    model = chain(4, WIDE, WIDE, WIDE, WIDE, 4)
    middle = next(node for node in model.graph.node if node.name == "conv2")
    weight = next(i for i in model.graph.initializer if i.name == "w2")
    weight.CopyFrom(numpy_helper.from_array(np.ones((WIDE, 1, 1, 1), np.float32), "w2"))
    middle.attribute.append(helper.make_attribute("group", WIDE))  # depthwise: few weights between many
    assert in_float(model) == ["conv0", "conv4"]


def test_a_branch_among_large_ones_is_not_kept_for_its_own_sake():
    """Two small layers beside large ones, which read each other through the sums only: as in a residual network."""
    model = chain(4, WIDE, WIDE, WIDE, WIDE, WIDE, WIDE, 4)
    nodes = {node.name: node for node in model.graph.node}
    for k in (2, 4):  # depthwise, few weights
        weight = next(i for i in model.graph.initializer if i.name == f"w{k}")
        weight.CopyFrom(numpy_helper.from_array(np.ones((WIDE, 1, 1, 1), np.float32), f"w{k}"))
        nodes[f"conv{k}"].attribute.append(helper.make_attribute("group", WIDE))
    place = list(model.graph.node).index(nodes["conv4"])
    model.graph.node.insert(place, helper.make_node("Add", ["r3", "r4"], ["sum"]))  # r3 is what conv2 gives
    nodes["conv4"].input[0] = "sum"
    assert in_float(model) == ["conv0", "conv6"]


def test_weights_among_the_inputs_are_no_ends():
    model = chain(4, WIDE, WIDE, WIDE, WIDE, 4)
    expected = in_float(model)
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    assert in_float(model) == expected == ["conv0", "conv4"]


def test_a_layer_that_takes_much_of_the_time_is_in_eight_bits():
    side = int((COSTLY / 64) ** 0.5)
    assert in_float(chain(8, 8, 8, side=side)) == ["conv0", "conv1"]
    assert in_float(chain(8, 8, 8, side=side + 1)) == []


def test_what_reads_eight_bits_alone_goes_on_in_eight_bits():
    model = chain(4, WIDE, WIDE, 4)
    quantised, kept = plan(model)
    names = [model.graph.node[place].output[0] for place in quantised]
    assert names == ["c1", "r2"]  # the large layer and the ReLU behind it
    assert not set(quantised) & set(kept)


def test_a_product_with_a_constant_on_the_left_stays_in_float_and_spends_nothing():
    model = chain(4, 8, WIDE, WIDE, 8, 4)
    expected = in_float(model)
    model.graph.initializer.append(numpy_helper.from_array(np.ones((900, 4), np.float32), "left"))
    model.graph.node.append(helper.make_node("Reshape", ["r5", "shape"], ["column"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([4, -1]), "shape"))
    model.graph.node.append(helper.make_node("MatMul", ["left", "column"], ["product"], name="product"))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("product", TensorProto.FLOAT, [900, 16]))
    quantised, kept = plan(model)
    assert [model.graph.node[place].name for place in kept] == expected == ["conv0", "conv1", "conv3", "conv4"]
    assert len(model.graph.node) - 1 not in quantised
