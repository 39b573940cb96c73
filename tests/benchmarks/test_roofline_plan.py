# SPDX-License-Identifier: Apache-2.0
"""The roofline of graphs that a plan runs: what its layers have to do, and that they are run one by one."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from plan_made import Made, graph_of, random_plan

from benchmarks import roofline
from benchmarks.roofline_layers import (
    BARE,
    BLOCK,
    DENSE,
    EACH,
    GROUP_OF,
    LAYOUT,
    PLAN_GROUPS,
    TAKEN,
    layers,
    layers_multiply_adds,
)
from benchmarks.roofline_plan import ApartSession, plans_in_use
from benchmarks.roofline_profile import run_graphs
from benchmarks.roofline_tables import columns
from benchmarks.roofline_turns import Operator, take_turns
from cmr_export.cost import measure
from cmr_export.plan import plan, written
from cmr_runtime import Bundle
from cmr_runtime import session as sessions
from cmr_runtime.plan.layout import KINDS
from cmr_runtime.plan.session import kernels
from cmr_runtime.plan.steps import Graph, read_plan

compiled = pytest.mark.skipif(not kernels(), reason="the compiled core is not built here, or switched off")


def _layers(made: Made) -> list[tuple[Operator, int]]:
    return layers(graph_of(made.table), bytes(made.part))


def _planned() -> tuple[Bundle, dict[str, Graph]]:
    """The shipped bundle with a plan of those graphs that can be expressed."""
    bundle = Bundle.default()
    made = plan({kind: getattr(bundle, kind) for kind in ("prior", "mesh", "shallow")})
    assert made is not None
    return dataclasses.replace(bundle, plan=written(made)), read_plan(written(made), "test")


def test_the_layers_of_shipped_graphs_add_up_to_what_the_exporter_counts() -> None:
    bundle, plans = _planned()
    assert {"prior", "shallow"} <= set(plans)
    for kind, graph in plans.items():
        part = getattr(bundle, kind)
        counts = layers_multiply_adds(layers(graph, part))
        assert tuple(counts) == PLAN_GROUPS
        assert sum(counts.values()) == measure(part).multiply_adds, kind
        assert counts[BLOCK] > 0


def test_a_block_counts_the_channels_that_there_are_and_the_panels_that_move() -> None:
    made = Made((8, 8, 3))
    made.output(made.block(0, 5, middle=20, light={"stride": 2, "kernel": 5}, bias=False))
    (block, adds), (give, none) = _layers(made)
    assert (block.name, block.kind, block.group) == ("0", "block", BLOCK)
    assert block.inputs == ((8, 8, 3), (20, 3, 1, 1), (20, 1, 5, 5), (5, 20, 1, 1))
    assert block.outputs == ((4, 4, 5),)
    assert adds == 8 * 8 * 3 * 20 + 4 * 4 * 20 * 25 + 4 * 4 * 20 * 5
    # 20 channels are two panels, 5 are one; the input lies as the caller has it.
    assert block.weights == 4 * ((3 + 1) * 32 + (25 + 1) * 32 + 20 * 16)
    assert block.activations == 4 * (8 * 8 * 3 + 4 * 4 * 16)
    assert (give.group, none) == (LAYOUT, 0)
    assert give.activations == 4 * (4 * 4 * 16 + 4 * 4 * 5)


def test_blocks_without_expansion_and_what_is_added() -> None:
    made = Made((4, 4, 16))
    x = made.act(0, [0, 1])
    half = made.pool(x)
    made.output(made.block(x, 16, add=half))
    made.output(made.depthwise(x, bias=False))
    found = {layer.kind: layer for layer, _ in _layers(made)}
    bare, deep = [(layer, adds) for layer, adds in _layers(made) if layer.kind == "block"]
    assert (bare[0].group, bare[1]) == (BARE, 16 * 16 * 9 + 16 * 16 * 16)
    assert bare[0].inputs == ((4, 4, 16), (16, 1, 3, 3), (16, 16, 1, 1), (2, 2, 16))
    assert bare[0].weights == 4 * ((9 + 1) * 16 + (16 + 1) * 16)
    assert bare[0].activations == 4 * 16 * (16 + 16 + 4)
    assert (deep[0].group, deep[1]) == (BARE, 16 * 16 * 9)
    assert deep[0].inputs == ((4, 4, 16), (16, 1, 3, 3))
    assert deep[0].activations == 4 * 16 * (16 + 16)
    assert {found[kind].group for kind in ("take", "give_planes")} == {LAYOUT}
    assert {found[kind].group for kind in ("limit", "max_pool")} == {EACH}


def test_products_and_sums_of_rows() -> None:
    made = Made((4, 1, 3), (4, 1, 20))
    wide = made.linear(made.act(1, [0, 1]), 40, order="io")
    rows, few = made.rows(wide, 6), made.rows(made.act(0, [0, 1]), 7, bias=False)
    one, each = made.gather(rows, 5, 2, bias=False), made.gather(rows, 5, 2, each=True)
    for slot in (few, one, each, made.attend(made.act(0, "sigmoid"), wide)):
        made.output(slot)
    found = [(layer, adds) for layer, adds in _layers(made) if adds]
    kinds = ["conv", "rows", "few_rows", "gather", "gather", "attend"]
    assert sorted(layer.kind for layer, _ in found) == sorted(kinds)
    assert {layer.kind: layer.group for layer, _ in found} == dict(
        zip(kinds, [DENSE, DENSE, DENSE, TAKEN, TAKEN, TAKEN], strict=True)
    )
    by_kind = {layer.kind: (layer, adds) for layer, adds in found}
    conv, few_rows = by_kind["conv"], by_kind["few_rows"]
    assert (conv[1], conv[0].weights) == (4 * 20 * 40, 4 * (20 + 1) * 48)
    assert conv[0].inputs == ((4, 1, 20), (40, 20, 1, 1))
    assert (by_kind["rows"][1], by_kind["rows"][0].weights) == (6 * 4 * 40, 4 * (6 * 4 + 48))
    assert (few_rows[1], few_rows[0].weights, few_rows[0].inputs[1]) == (7 * 4 * 3, 4 * 4 * 16, (7, 4))
    shared, own = (layer for layer, _ in found if layer.kind == "gather")
    assert {adds for layer, adds in found if layer.kind == "gather"} == {5 * 2 * 40}
    assert (shared.weights, own.weights) == (4 * (5 * 2 + 2 * 48), 4 * (5 * 2 + 5 * 2 + 48))
    attend = by_kind["attend"]
    assert (attend[1], attend[0].weights, attend[0].outputs) == (3 * 4 * 40, 0, ((3, 1, 40),))
    assert attend[0].activations == 4 * (4 * 48 + 4 * 16 + 3 * 48)


def test_slopes_and_maps_of_fewer_channels_and_of_other_shapes() -> None:
    made = Made((4, 4, 16))
    x = made.act(0, [0, 1])
    wide = made.conv(x, 20, kernel=(1, 1), act={"slope": made.store(np.ones(20))}, add=x)
    made.output(made.enlarge(wide, act={"slope": made.store(np.ones(20))}))
    made.output(made.affine(made.reshape(wide, 32, 1, 10)), "rows")
    found = {layer.kind: layer for layer, _ in _layers(made)}
    conv, enlarge, reshape, affine = (found[kind] for kind in ("conv", "enlarge", "reshape", "affine"))
    assert conv.inputs == ((4, 4, 16), (20, 16, 1, 1), (4, 4, 16))
    assert (conv.weights, conv.activations) == (4 * (16 + 1 + 1) * 32, 4 * 16 * (16 + 32 + 16))
    assert (enlarge.group, enlarge.weights, enlarge.activations) == (EACH, 4 * 32, 4 * 32 * (16 + 64))
    assert (reshape.group, reshape.outputs) == (LAYOUT, ((32, 1, 10),))
    assert reshape.activations == 4 * (16 * 32 + 32 * 16)
    assert (affine.group, affine.weights, affine.activations) == (EACH, 4 * 32 * 10, 4 * 2 * 32 * 16)


def test_every_kind_of_layer_has_a_group() -> None:
    joined = Made((4, 4, 3), (4, 4, 2))
    joined.output(joined.conv(joined.concat(0, 1), 8))
    for made in (joined, *map(random_plan, range(40))):
        for layer, adds in _layers(made):
            assert layer.group in PLAN_GROUPS
            assert layer.activations > 0
            assert (adds > 0) == (layer.group in (BLOCK, BARE, DENSE, TAKEN))
    assert {*GROUP_OF, "block"} == set(KINDS)


@compiled
def test_layers_one_by_one_do_what_a_whole_run_does() -> None:
    for seed in range(10):
        made = random_plan(seed)
        session, feed = made.session(), made.feed()
        memory = session._tables[2]
        session.run(made.names(), feed)
        whole = memory.copy()
        memory[:] = 0
        seconds, empty = session.run_apart(feed)
        assert len(seconds) == len(_layers(made))
        assert min(*seconds, empty) > 0
        np.testing.assert_array_equal(memory, whole)


@compiled
def test_the_call_is_taken_off_each_layer() -> None:
    made = random_plan(0)
    whole = made.session()
    session = ApartSession(whole)
    count = len(_layers(made))
    session.spans = [[9.0] * count, *([[0.5, *[0.2] * (count - 1)]] * 4)]  # the first is a warm-up
    session.empty = [9.0, *[0.2] * 4]
    found, call = session.timed([layer for layer, _ in _layers(made)], skip=1)
    assert call == pytest.approx(0.2)
    assert found[0].seconds == pytest.approx(0.3)
    assert 0 < found[1].seconds < 1e-6  # never less than nothing
    _, times = take_turns([{"made": whole}, {"made": session}], runs=2)
    assert len(times["made"]) == 2
    assert len(session.spans) == len(session.empty) == 5 + 2


@compiled
def test_graphs_with_and_without_a_plan_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, plans = _planned()
    assert set(plans_in_use(bundle, threads=1)) == set(plans)
    assert bundle.detector is not None
    graphs = {"shallow": bundle.shallow or b"", "detector": bundle.detector}
    runs = run_graphs(graphs, threads=1, runs=2, plans={"shallow": plans["shallow"]})
    assert {each.group for each in runs.operators["shallow"]} <= set(PLAN_GROUPS)
    assert not {each.group for each in runs.operators["detector"]} & {BLOCK, BARE, DENSE}
    assert set(runs.seconds) == set(graphs)
    assert min(*runs.seconds.values(), runs.call) > 0
    alone = run_graphs({"shallow": graphs["shallow"]}, threads=1, runs=1, plans={"shallow": plans["shallow"]})
    assert alone.profiler == 0
    monkeypatch.setattr(sessions, "kernels", lambda bits=32: [])
    assert plans_in_use(bundle, threads=1) == {}


@compiled
def test_a_report_says_which_graphs_a_plan_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "measure_limits", _limits)
    bundle, plans = _planned()
    report = roofline.measure(bundle, threads=1, runs=1, frames=1)
    assert report["plans"] == {"graphs": list(plans), "kernels": kernels()[0]}
    assert report["stages"]["shallow"]["groups"][0]["group"] == BLOCK
    text = columns(report)
    assert f"µs to a layer ({kernels()[0]})" in text
    for line in ("Graph `shallow` by its plan:", "Layers of `shallow` that take longest:", "outside layers", "layer "):
        assert line in text
    for line in ("Graph `detector`:", "Operators of `detector` that take longest:", "outside operators"):
        assert line in text


def _limits(threads: int, weights_bytes: int, layer: tuple[int, int, int]) -> Any:
    return roofline.Limits(100e9, 50e9, layer, 40e9, 20e9, 10e9, 1 << 20, weights_bytes, 1 << 30)
