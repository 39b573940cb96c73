# SPDX-License-Identifier: Apache-2.0
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks import roofline
from benchmarks.roofline_counts import (
    DEPTHWISE,
    GATHER,
    LAYOUT,
    OTHER,
    POINTWISE,
    PRODUCT,
    REST,
    group_of,
    largest_layer,
    multiply_adds,
)
from benchmarks.roofline_limits import Limits, bandwidth, cache_bytes, product_rate
from benchmarks.roofline_profile import read_profile, run_graphs
from benchmarks.roofline_tables import BEGIN, END, columns, markdown, update
from benchmarks.roofline_turns import Operator
from cmr_export.cost import measure
from cmr_runtime import Bundle, CmrError, StageTimes

#: m, k, n of the 1×1 convolution below: 16 cells, 4 channels to 8.
LAYER = (16, 4, 8)

LIMITS = Limits(
    product=100e9, layer=50e9, layer_shape=LAYER, l2=40e9, weights=20e9, memory=10e9,
    l2_bytes=1 << 20, weights_bytes=10_000_000, memory_bytes=1 << 30,
)  # fmt: skip


def _graph() -> bytes:
    """Image (1, 3, 8, 8) → convolution, depthwise, 1×1 → mean → Gemm (1, 5), of which 0, 2, 2 are summed."""
    random = np.random.default_rng(0)
    shapes = {
        "full": (4, 3, 3, 3),
        "deep": (4, 1, 3, 3),
        "point": (8, 4, 1, 1),
        "gemm": (8, 5),
        "bias": (5,),
        "by": (3,),
    }
    weights = [numpy_helper.from_array(random.random(shape, np.float32), name) for name, shape in shapes.items()]
    weights += [numpy_helper.from_array(np.array(v, np.int64), n) for n, v in (("which", [0, 2, 2]), ("axis", [1]))]
    nodes = [
        helper.make_node("Conv", ["image", "full"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "deep"], ["c"], group=4, pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c", "point"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("Gemm", ["f", "gemm", "bias"], ["y"]),
        helper.make_node("Gather", ["y", "which"], ["g"], axis=1),
        helper.make_node("Mul", ["g", "by"], ["h"]),
        helper.make_node("ReduceSum", ["h", "axis"], ["z"]),
    ]
    return _model(nodes, {"image": [1, 3, 8, 8]}, {"y": [1, 5], "z": [1, 1]}, weights)


def _model(nodes: list[Any], inputs: dict[str, list[int]], outputs: dict[str, list[int]], weights: list[Any]) -> bytes:
    ends = (
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in end.items()] for end in (inputs, outputs)
    )
    graph = helper.make_graph(nodes, "tiny", *ends, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def test_multiply_adds_are_those_of_the_closed_forms() -> None:
    counts = multiply_adds(_graph(), "prior")
    assert counts == {
        OTHER: 4 * 4 * 4 * 3 * 3 * 3,  # 4×4 cells of 4 channels, 27 products each
        DEPTHWISE: 4 * 4 * 4 * 3 * 3,
        POINTWISE: 4 * 4 * 8 * 4,
        PRODUCT: 8 * 5,
        GATHER: 3,
        LAYOUT: 0,
        REST: 0,
    }
    assert sum(counts.values()) == measure(_graph()).multiply_adds


def test_the_groups_of_a_shipped_graph_add_up_to_what_the_exporter_counts() -> None:
    graph = Bundle.default().mesh
    assert sum(multiply_adds(graph, "mesh").values()) == measure(graph).multiply_adds


def test_a_graph_in_ort_format_is_refused() -> None:
    with pytest.raises(CmrError, match=r"part mesh is in ORT format.*take the bundle in ONNX format"):
        multiply_adds(b"\x10\0\0\0ORTM" + bytes(64), "mesh")


@pytest.mark.parametrize(
    ("operator", "inputs", "group"),
    [
        ("Conv", [(1, 32, 20, 20), (32, 1, 3, 3)], DEPTHWISE),
        ("Conv", [(1, 1, 20, 20), (16, 1, 3, 3)], OTHER),  # one channel in is no depthwise convolution
        ("Conv", [(1, 32, 20, 20), (32, 1, 1, 1)], DEPTHWISE),
        ("FusedConv", [(1, 32, 20, 20), (64, 32, 1, 1), (64,)], POINTWISE),
        ("QLinearConv", [(1, 8, 9, 9), (), (), (4, 8, 1, 1), (), (), (), ()], POINTWISE),
        ("FusedGemm", [(1, 8), (8, 5)], PRODUCT),
        ("ReorderOutput", [(1, 8, 3, 3)], LAYOUT),
        ("Sigmoid", [(1, 8)], REST),
    ],
)
def test_operators_are_grouped_by_type_and_weights(operator: str, inputs: list[tuple[int, ...]], group: str) -> None:
    assert group_of(operator, inputs) == group


def _event(node: int, name: str, microseconds: int, parameters: int = 0, inputs: Any = ((1, 8),)) -> dict[str, Any]:
    args = {
        "op_name": name, "node_index": str(node), "parameter_size": str(parameters), "activation_size": "32",
        "output_size": "20", "input_type_shape": [{"float": list(shape)} for shape in inputs],
        "output_type_shape": [{"float": [1, 5]}],
    }  # fmt: skip
    return {"cat": "Node", "name": f"/{name}_kernel_time", "dur": microseconds, "args": args}


def test_a_profile_is_read_by_node_and_the_middle_of_the_runs_counts() -> None:
    session = {"cat": "Session", "name": "model_run", "dur": 10**6}
    times = [99, 1000, 10, 11, 12, 13, 14, 15, 900, 1]  # the first is a warm-up; 8 of the others lie in 1 to 1000
    packed = [session, *(_event(7, "Gemm", t) for t in times), *(_event(9, "Relu", 1) for _ in times)]
    full = [_event(7, "Gemm", 5, parameters=180, inputs=((1, 8), (8, 5), (5,))), _event(9, "Relu", 5)]
    gemm, relu = read_profile(packed, full, profiler=2e-6, skip=1)
    assert (gemm.name, gemm.kind, gemm.group) == ("/Gemm", "Gemm", PRODUCT)
    assert (gemm.weights, gemm.activations) == (180, 52)
    assert (gemm.inputs, gemm.outputs) == (((1, 8), (8, 5), (5,)), ((1, 5),))
    assert gemm.seconds == pytest.approx(1e-6 * np.mean([11, 12, 13, 14, 15]) - 2e-6)
    assert relu.seconds > 0  # never less than nothing, though the profiler's share is larger than its time


def test_bytes_of_a_run_are_those_of_the_tensors_packed_or_not() -> None:
    follower = _model([helper.make_node("Exp", ["y"], ["w"])], {"y": [1, 5]}, {"w": [1, 5]}, [])
    operators, seconds, profiler, call = run_graphs({"first": _graph(), "second": follower}, threads=1, runs=2)
    assert set(operators) == set(seconds) == {"first", "second"}
    assert min(seconds.values()) > 0 <= profiler
    assert call == 0
    (gemm,) = [each for each in operators["first"] if each.group == PRODUCT]
    assert (gemm.weights, gemm.activations) == (4 * (8 * 5 + 5), 4 * (8 + 5))
    (point,) = [each for each in operators["first"] if each.group == POINTWISE]
    assert point.outputs[0][2:] == (4, 4)
    (exp,) = operators["second"]
    assert (exp.kind, exp.group, exp.activations) == ("Exp", REST, 4 * 10)


def _operator(group: str, kind: str, weights: int, activations: int, seconds: float, **shapes: Any) -> Operator:
    shapes = {"inputs": ((1, 4, 4, 4), (8, 4, 1, 1)), "outputs": ((1, 8, 4, 4),)} | shapes
    return Operator(kind.lower(), kind, group, weights=weights, activations=activations, seconds=seconds, **shapes)


def test_the_layer_is_the_1x1_convolution_with_the_most_multiply_adds() -> None:
    weights = [
        numpy_helper.from_array(np.zeros(shape, np.float32), name)
        for name, shape in {"point": (64, 32, 1, 1), "wider": (64, 64, 3, 3)}.items()
    ]
    nodes = [helper.make_node("Conv", ["x", "point"], ["a"]), helper.make_node("Conv", ["a", "wider"], ["y"])]
    large = _model(nodes, {"x": [1, 32, 20, 20]}, {"y": [1, 64, 18, 18]}, weights)
    assert largest_layer([_graph()]) == LAYER
    assert largest_layer([_graph(), large]) == (400, 32, 64)
    bare = _model([helper.make_node("Exp", ["y"], ["w"])], {"y": [1, 5]}, {"w": [1, 5]}, [])
    with pytest.raises(CmrError, match="no graph has a 1×1 convolution"):
        largest_layer([bare])


def _stage() -> dict[str, Any]:
    operators = [
        _operator(POINTWISE, "Conv", weights=20_000, activations=40_000, seconds=0.5e-3),
        _operator(POINTWISE, "Conv", weights=20_000, activations=0, seconds=0.5e-3),
        _operator(LAYOUT, "Concat", weights=0, activations=8_000_000, seconds=0.4e-3, inputs=((1, 5), ())),
    ]
    counts = dict.fromkeys((POINTWISE, DEPTHWISE, OTHER, PRODUCT, GATHER, LAYOUT, REST), 0) | {POINTWISE: 20_000_000}
    return roofline.stage_report(counts, operators, LIMITS, seconds=1.5e-3)


def test_bounds_follow_from_counts_bytes_and_limits() -> None:
    stage = _stage()
    point, layout = stage["groups"]
    # 20 M multiply-adds at 100 G/s against 40 kB at 20 GB/s and 40 kB at 40 GB/s: 0.2 ms against 3 µs.
    assert (point["group"], point["operators"], point["bound_by"]) == (POINTWISE, 2, "compute")
    assert point["bound_ms"] == pytest.approx(0.2)
    assert point["share"] == pytest.approx(0.2)
    assert point["gmac_s"] == pytest.approx(20.0)
    assert point["gb_s"] == pytest.approx(0.08)
    # 8 MB at 40 GB/s.
    assert (layout["bound_by"], layout["bound_ms"]) == ("memory", pytest.approx(0.2))
    assert layout["share"] == pytest.approx(0.5)
    assert stage["sum"]["ms"] == pytest.approx(1.4)
    assert stage["sum"]["bound_ms"] == pytest.approx(0.4)
    assert stage["sum"]["multiply_adds"] == 20_000_000
    assert stage["outside_ms"] == pytest.approx(0.1)
    assert stage["slowest"][-1]["kind"] == "Concat"


def test_caches_are_read_as_linux_tells_them(tmp_path: Path) -> None:
    told = [("1", "Instruction", "64K"), ("1", "Data", "48K"), ("2", "Unified", "2048K"), ("3", "Unified", "30M")]
    for number, (level, kind, size) in enumerate(told):
        (tmp_path / f"index{number}").mkdir()
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (tmp_path / f"index{number}" / name).write_text(text + "\n")
    assert [cache_bytes(level, tmp_path) for level in (1, 2, 3, 4)] == [48 << 10, 2 << 20, 30 << 20, None]
    assert cache_bytes(2, tmp_path / "absent") is None


def test_limits_are_measured() -> None:
    assert 1e6 < product_rate(64, 64, 64, threads=1) < 1e15
    assert 1e6 < bandwidth(60_000, threads=2) < 1e14


def _report() -> dict[str, Any]:
    return {
        "date": "2026-01-02 03:04 UTC", "versions": {"onnxruntime": "1.0"}, "model": "tiny", "precision": "fp32",
        "machine": {"processor": "A processor", "cores": 2, "system": "Linux", "load": 0.0}, "input_size": 8,
        "settings": {"threads": 1, "runs": 3, "frames": 4}, "profiler_s": 2e-6, "limits": dataclasses.asdict(LIMITS),
        "call_s": 0.0, "plans": {"graphs": [], "kernels": None},
        "stages": {"prior": _stage()}, "frame_ms": {"crop": 0.25, "whole frame": 4.5},
    }  # fmt: skip


def test_tables_say_the_same_in_both_forms() -> None:
    report = _report()
    page, terminal = markdown(report), columns(report)
    for text in (page, terminal):
        assert "A processor" in text
        assert "onnxruntime 1.0" in text
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| convolution 1×1")]
    assert [cell.strip() for cell in rows[0]] == (
        ["convolution 1×1", "2", "20.00", "40", "40", "1.000", "20.0", "0.1", "0.200", "compute", "20%"]
    )
    (line,) = [line for line in terminal.splitlines() if line.startswith("  convolution 1×1")]
    assert line.split()[2:] == rows[0][1:]
    tables = [block.splitlines() for block in page.split("\n\n") if block.startswith("|")]
    assert len(tables) == 4
    assert all(len({row.count("|") for row in table}) == 1 for table in tables)


def test_the_page_is_updated_between_its_marks_only(tmp_path: Path) -> None:
    page = tmp_path / "PAGE.md"
    page.write_text(f"# Head\n\n{BEGIN}\nold\n{END}\n\nTail µ\n", "utf-8")
    update(page, "| new |")
    update(page, "| newer |")
    assert page.read_text("utf-8") == f"# Head\n\n{BEGIN}\n\n| newer |\n\n{END}\n\nTail µ\n"


@pytest.mark.parametrize("text", ["nothing", BEGIN, f"{END}\n{BEGIN}\n", f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n"])
def test_a_page_without_one_pair_of_marks_is_left_alone(tmp_path: Path, text: str) -> None:
    page = tmp_path / "PAGE.md"
    page.write_text(text)
    with pytest.raises(CmrError, match=r"must hold the line <!-- roofline:begin --> once"):
        update(page, "new")
    assert page.read_text() == text


def test_the_page_of_the_project_has_its_marks(tmp_path: Path) -> None:
    page = Path(roofline.__file__).with_name("ROOFLINE.md")
    copy = tmp_path / "ROOFLINE.md"
    copy.write_bytes(page.read_bytes())
    update(copy, markdown(_report()))
    assert "A processor" in copy.read_text("utf-8")


def test_the_stages_of_a_frame_are_those_of_the_tracker() -> None:
    times = roofline.frame_times(Bundle.default(), threads=1, frames=2)
    assert set(times) == {field.name for field in dataclasses.fields(StageTimes)} | {
        "the rest of track()",
        "whole frame",
    }
    assert times["whole frame"] > max(times["prior"], times["mesh"]) > 0


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.roofline_plot import draw

    draw(_report(), tmp_path / "roof.png")
    assert (tmp_path / "roof.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(CmrError, match="cannot be written"):
        draw(_report(), tmp_path / "absent" / "roof.png")


def test_wrong_options_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        roofline.main(["--threads", "0"])
    assert "--threads is 0; give a whole number from 1" in capsys.readouterr().err
    assert roofline.main(["--model", "absent.cmr"]) == 2
    assert "no bundle at absent.cmr" in capsys.readouterr().err
