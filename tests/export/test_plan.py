# SPDX-License-Identifier: Apache-2.0
"""Plans compute what their graphs do; what they cannot express they leave out, and say why."""

import functools
import json
from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from exported import WEIGHTS, exported, run_graph
from onnx import numpy_helper
from plan_graphs import kinds, made, node
from plan_numpy import constant, run_plan

from cmr_export.graphs import first_layers, trace
from cmr_export.half import to_half
from cmr_export.plan import obstacles, plan
from cmr_models.network.staged import load_staged

STAGES = ("prior", "mesh", "shallow")


# The default network


@functools.cache
def graphs(weights: str) -> dict[str, bytes]:
    """Graphs with the shipped weights, or with such as leave no output near a constant."""
    if weights == "lively":
        return {stage: getattr(exported().bundle, stage) for stage in STAGES}
    made = trace(load_staged(WEIGHTS))
    return made | {"shallow": first_layers(made["prior"])}


@functools.cache
def plans(weights: str) -> dict:
    """As they are read from a bundle."""
    return json.loads(json.dumps(plan(graphs(weights))))


def random_feed(inputs, seed: int = 0) -> dict[str, np.ndarray]:
    """Maps in a range that is possible for probabilities and for features."""
    rng = np.random.default_rng(seed)
    return {name: rng.random(shape, np.float32) for name, shape in inputs}


@pytest.mark.parametrize("weights", ["lively", "shipped"])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_plan_computes_what_its_graph_does(weights, stage, dtype):
    graph, stated = graphs(weights)[stage], plans(weights)["graphs"][stage]
    feed = random_feed(stated["inputs"])
    expected, found = run_graph(graph, feed), run_plan(stated, graph, feed, dtype)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape
        limit = 1e-5 if name == "vertices" else 1e-4
        np.testing.assert_allclose(found[name], value, rtol=0, atol=limit, err_msg=name)


@pytest.mark.parametrize("weights", ["lively", "shipped"])
def test_all_graphs_of_the_default_network_are_expressed(weights):
    assert list(plans(weights)) == ["version", "graphs"]
    assert plans(weights)["version"] == 1
    assert set(plans(weights)["graphs"]) == set(STAGES)
    assert obstacles(graphs(weights)) == {}


def test_layers_are_fused():
    of = {stage: kinds(stated["steps"]) for stage, stated in plans("shipped")["graphs"].items()}
    assert of["shallow"] == ["block", "pool", "block", "block", "block", "block"]
    assert [of["prior"].count(kind) for kind in ("block", "mean", "pool", "linear")] == [17, 1, 1, 2]
    assert [of["mesh"].count(kind) for kind in ("block", "conv", "depthwise", "act")] == [13, 11, 1, 5]
    assert [of["mesh"].count(kind) for kind in ("attend", "gather", "rows", "linear", "reshape")] == [1, 5, 2, 8, 1]
    assert len(of["prior"]) == 37
    assert len(of["mesh"]) == 56


def constants(value, key: str = "") -> Iterator[tuple[str, list]]:
    """All constants of a plan, with their keys."""
    if key in ("weight", "bias", "index"):
        if value is not None:
            yield key, value
    elif isinstance(value, dict):
        for inner, part in value.items():
            yield from constants(part, inner)
    elif isinstance(value, list):
        for part in value:
            yield from constants(part)


@pytest.mark.parametrize("stage", STAGES)
def test_constants_are_those_of_the_graph(stage):
    graph = graphs("lively")[stage]
    stored = [numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(graph).graph.initializer]
    left = {value.tobytes() for value in stored if value.ndim > 0 and value.dtype != np.int64}
    for key, place in constants(plans("lively")["graphs"][stage]):
        values = constant(graph, place, "<i4" if key == "index" else "<f4")
        same = [
            s
            for s in stored
            if s.dtype == values.dtype and s.size == values.size and np.array_equal(s.ravel(), values.ravel())
        ]
        assert any(s.shape == values.shape for s in same), place
        left.discard(values.tobytes())
    scales = {np.array([1, 1, 2, 2], np.float32).tobytes()}  # of Resize
    assert left <= scales


def test_slots_are_written_before_they_are_read():
    for stated in plans("shipped")["graphs"].values():
        inputs = len(stated["inputs"])
        for place, step in enumerate(stated["steps"]):
            x = step.get("x")
            read = [*(x if isinstance(x, list) else [x]), step.get("add"), step.get("maps")]
            assert all(slot is None or 0 <= slot < inputs + place for slot in read), step


def test_the_same_graphs_give_the_same_plan():
    assert json.dumps(plan(graphs("shipped"))) == json.dumps(plan(dict(graphs("shipped"))))


@pytest.mark.parametrize("stage", STAGES)
def test_weights_in_half_precision_are_read_where_they_lie(stage):
    half = to_half(graphs("lively")[stage])
    stated = plan({stage: half})["graphs"][stage]
    assert kinds(stated["steps"]) == kinds(plans("lively")["graphs"][stage]["steps"])
    assert ["half"] in [place[2:] for _, place in constants(stated)]
    feed = random_feed(stated["inputs"])
    expected, found = run_graph(half, feed), run_plan(stated, half, feed)
    for name, value in expected.items():
        limit = 1e-5 if name == "vertices" else 1e-4
        np.testing.assert_allclose(found[name], value, rtol=0, atol=limit, err_msg=name)


def test_one_graph_left_out_does_not_keep_out_the_others():
    unknown = made([node("Softmax", "x", "y")], {}, {"y": [1, 4, 6, 8]})
    both = {"prior": unknown, "shallow": graphs("shipped")["shallow"]}
    assert list(plan(both)["graphs"]) == ["shallow"]
    assert list(obstacles(both)) == ["prior"]
