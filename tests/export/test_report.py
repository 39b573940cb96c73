# SPDX-License-Identifier: Apache-2.0
"""The report's counts against graphs counted by hand and against PyTorch's own counter."""

import dataclasses
import re

import numpy as np
import onnx
import pytest
import torch
from exported import CONFIG, exported
from onnx import TensorProto, helper, numpy_helper
from torch.utils.flop_counter import FlopCounterMode

from cmr_export import report
from cmr_export.cost import measure
from cmr_export.report import bundle_costs, table
from cmr_models.network.staged import DeviceMeshStage


def graph(nodes, constants: dict[str, np.ndarray], inputs: dict, outputs: dict) -> bytes:
    info = lambda shapes: [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in shapes.items()]  # noqa: E731
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "test", info(inputs), info(outputs), stored),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def test_convolutions_and_products_as_counted_by_hand():
    zeros = lambda *shape: np.zeros(shape, np.float32)  # noqa: E731
    nodes = [
        helper.make_node("Conv", ["x", "full"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),  # (1, 6, 4, 4)
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "depthwise", "bias"], ["c"], group=6, pads=[2, 2, 2, 2]),  # (1, 6, 4, 4)
        helper.make_node("Flatten", ["c"], ["d"]),  # (1, 96)
        helper.make_node("Gemm", ["d", "dense"], ["y"], transB=1),  # (1, 10)
    ]
    constants = {"full": zeros(6, 3, 3, 3), "depthwise": zeros(6, 1, 5, 5), "bias": zeros(6), "dense": zeros(10, 96)}
    data = graph(nodes, constants, {"x": [1, 3, 8, 8]}, {"y": [1, 10]})
    cost = measure(data)
    # 16 places × 6 channels × 27 weights, 16 × 6 × 25, 10 × 96; shapes in between are inferred.
    assert cost.multiply_adds == 16 * 6 * 27 + 16 * 6 * 25 + 10 * 96
    assert cost.parameters == 6 * 27 + 6 * 25 + 6 + 960
    assert cost.bytes == len(data)
    assert cost.operators == {"Conv": 2, "Relu": 1, "Flatten": 1, "Gemm": 1}


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_counts_every_product_of_an_input_cell(groups):
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], group=groups)
    data = graph([node], {"w": np.zeros((6, 4, 2, 2), np.float32)}, {"x": [1, 6, 5, 7]}, {"y": [1, 4 * groups, 10, 14]})
    # Windows do not overlap: each of the 4 groups × 140 outputs is a sum over the 6 / groups channels of its group.
    assert measure(data).multiply_adds == 4 * groups * 140 * (6 // groups)


@pytest.mark.parametrize("turned", [False, True])
def test_a_gemm_counts_its_inner_size(turned):
    shape = [7, 4] if turned else [4, 7]
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"], transA=int(turned))]
    data = graph(nodes, {"w": np.zeros((7, 5), np.float32)}, {"x": shape}, {"y": [4, 5]})
    assert measure(data).multiply_adds == 4 * 7 * 5


def test_a_batched_product_and_a_weighted_sum():
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),  # (2, 3, 5)
        helper.make_node("Mul", ["a", "scale"], ["b"]),
        helper.make_node("ReduceSum", ["b", "axes"], ["y"]),
    ]
    constants = {name: np.zeros(shape, np.float32) for name, shape in (("w", (4, 5)), ("scale", (3, 5)))}
    constants["axes"] = np.array([2], np.int64)
    cost = measure(graph(nodes, constants, {"x": [2, 3, 4]}, {"y": [2, 3, 1]}))
    assert cost.multiply_adds == 2 * 3 * 4 * 5 + 2 * 3 * 5
    assert cost.parameters == 20 + 15  # indices are no parameters


def test_settings_scales_and_single_numbers_are_no_parameters():
    constants = {
        "w": np.zeros((6, 3, 1, 1), np.int8),
        "w_scale": np.ones(6, np.float32),
        "low": np.float32(0),
        "sizes": np.float32([1, 1, 2, 2]),
        "half": np.zeros(7, np.float16),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "w_scale"], ["weight"], axis=0),
        helper.make_node("Conv", ["x", "weight"], ["a"]),
        helper.make_node("Clip", ["a", "low"], ["b"]),
        helper.make_node("Resize", ["b", "", "sizes"], ["y"]),
        helper.make_node("Cast", ["half"], ["z"], to=TensorProto.FLOAT),
    ]
    cost = measure(graph(nodes, constants, {"x": [1, 3, 4, 4]}, {"y": [1, 6, 8, 8], "z": [7]}))
    assert cost.parameters == 18 + 7
    assert cost.multiply_adds == 16 * 18


def test_the_default_network_costs_what_pytorch_counts():
    bundle, net = exported().bundle, exported().net
    image, mesh = torch.zeros(1, 3, CONFIG.size, CONFIG.size), DeviceMeshStage(net)
    counted = {}
    with torch.no_grad():
        out = net.prior(image)
        for name, call in {
            "prior": lambda: net.prior(image),
            "mesh": lambda: mesh(out.features, out.heatmaps.sigmoid(), out.silhouette.sigmoid()),
        }.items():
            with FlopCounterMode(display=False) as counter:
                call()
            counted[name] = counter.get_total_flops() / 2
    found = {"prior": measure(bundle.prior), "mesh": measure(bundle.mesh)}
    assert found["prior"].multiply_adds == counted["prior"]
    # PyTorch counts neither the spirals' nor the up-sampling's weighted sums.
    assert counted["mesh"] < found["mesh"].multiply_adds < 1.03 * counted["mesh"]
    weights = sum(p.numel() for p in net.prior.parameters())
    assert found["prior"].parameters == weights


def test_both_stages_cost_less_than_mediapipes_full_landmark_model():
    bundle = exported().bundle
    assert measure(bundle.prior).multiply_adds + measure(bundle.mesh).multiply_adds < 331e6


def test_table_adds_the_stages_up(capsys):
    bundle = exported().bundle
    lines = table(bundle_costs(bundle)).splitlines()
    assert [line.split()[0] for line in lines] == ["stage", "prior", "mesh", "shallow", "sum"]
    rows = [line.replace(",", "").split() for line in lines[1:]]
    million, parameters, size = ([float(row[k]) for row in rows] for k in (1, 3, 4))
    # The first layers alone are a part of the prior.
    assert million[-1] == pytest.approx(million[0] + million[1], abs=0.15)
    assert parameters[-1] == parameters[0] + parameters[1] > parameters[2]
    assert size[-1] == size[0] + size[1] == len(bundle.prior) + len(bundle.mesh)
    assert report.main([str(exported().checkpoint.parent / "hand.cmr")]) == 0
    output = capsys.readouterr().out
    assert output.startswith(table(bundle_costs(bundle)))
    for stage in ("prior", "mesh"):
        for provider in ("NNAPI", "CoreML"):
            assert re.search(rf"{stage} +{provider}: \d+ of \d+ nodes, pieces: \d+", output)


def test_a_bad_file_is_one_line(tmp_path, capsys, monkeypatch):
    good = exported().checkpoint.parent / "hand.cmr"
    (tmp_path / "text.cmr").write_text("hello")
    (tmp_path / "cut.cmr").write_bytes(good.read_bytes()[:-5000])
    for name in ("text.cmr", "cut.cmr", "absent.cmr", "."):
        assert report.main([str(tmp_path / name)]) == 2
        output, error = capsys.readouterr()
        assert output == ""
        assert error.startswith("cmr_export.report: ")
        assert error.count("\n") == 1
    broken = dataclasses.replace(exported().bundle, mesh=b"no graph at all")
    monkeypatch.setattr(report.Bundle, "open", lambda path: broken)
    assert report.main([str(good)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
