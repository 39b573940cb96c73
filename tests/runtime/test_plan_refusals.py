# SPDX-License-Identifier: Apache-2.0
"""Plans that do not fit: `BundleError` and nothing else, since the core itself checks nothing."""

import copy
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from plan_made import RELU, RELU6, Made

from cmr_runtime import BundleError
from cmr_runtime.plan.session import PlanSession, kernels
from cmr_runtime.plan.steps import read_plan

pytestmark = pytest.mark.skipif(not kernels(), reason="the compiled core is not built here, or switched off")


def everything() -> Made:
    """A plan that has every operation, with the numbers of its steps in the list below."""
    made = Made((6, 8, 3), (6, 8, 5), (12, 1, 20))
    conv = made.conv(0, 20, act=RELU)  # step 0
    halved = made.pool(conv)  # 1
    block = made.block(conv, 20, middle=24, add=halved, then=RELU6)  # 2
    light = made.depthwise(block, before=RELU)  # 3
    whole = made.concat(light, 1)  # 4
    part = made.slice(whole, 2, 23)  # 5
    maps = made.act(part, "sigmoid")  # 6
    attended = made.attend(maps, whole)  # 7
    vector = made.reshape(made.mean(light), 20, 1, 1)  # 8, 9
    wide, few = made.rows(2, 7, act=RELU), made.rows(vector, 6)  # 10, 11
    gathered = made.gather(2, 5, 3, each=True)  # 12
    made.gather(2, 5, 3)  # 13
    joined = made.concat(gathered, wide, axis="rows")  # 14
    made.linear(joined, 9, act=[-1, 1])  # 15
    made.output(maps).output(light, "blocks").output(attended, "rows").output(few, "rows")
    return made.output(len(made.shapes) - 1, "rows")


CONV, POOL, BLOCK, LIGHT, WHOLE, PART, MAPS, ATTENDED, _, RESHAPED, ROWS, FEW, EACH, GATHERED, JOINED, LINEAR = range(
    16
)


def opened(table: Any, part: bytes, threads: int = 1) -> PlanSession:
    content = json.dumps({"version": 1, "graphs": {"mesh": table}}).encode()
    return PlanSession(read_plan(content, "a.cmr")["mesh"], part, "mesh.onnx of a.cmr", threads)


def test_the_plan_that_is_spoilt_below_is_a_good_one() -> None:
    everything().check()


# The file


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"3",
        b'"plan"',
        b"{}",
        b'{"version": 1}',
        b'{"graphs": {}}',
        b'{"version": 0, "graphs": {}}',
        b'{"version": "1", "graphs": {}}',
        b'{"version": null, "graphs": {}}',
        b'{"version": 1, "graphs": []}',
        b'{"version": 1, "graphs": {"mesh": null}}',
        b'{"version": 1, "graphs": {"mesh": []}}',
        b'{"version": 1, "graphs": {"mesh": {"inputs": [], "steps": []}}}',
        b'{"version": 1, "graphs": {"mesh": {"inputs": 1, "steps": [], "outputs": []}}}',
        b'{"version": 1, "graphs": {"mesh": {"inputs": [], "steps": [1], "outputs": []}}}',
        b'{"version": 1, "graphs": {"mesh": {"inputs": [["a", []]], "steps": [], "outputs": []}}}',
        b'{"version": 1, "graphs": {"mesh": {"inputs": [["a"]], "steps": [], "outputs": []}}}',
        b'{"version": 1, "graphs": {"mesh": {"inputs": [["a", [1, 1, Infinity, 1]]], "steps": [], "outputs": []}}}',
        b'{"version": 1, "graphs": {"mesh": {"inputs": [], "steps": [], "outputs": [["a", Infinity, [1]]]}}}',
        b'{"version": 1, "graphs": {"mesh": {"inputs": [], "steps": [' + b"{}," * 5000 + b'{}], "outputs": []}}}',
        b"[" * 100_000,
        b'{"version": 1, "graphs": ' + b'{"a": ' * 20_000 + b"}" * 20_001,
        b'{"version": 1' + b"0" * 10_000 + b', "graphs": {}}',
        b" " * (1 << 22) + b'{"version": 1, "graphs": {}}',
    ],
    ids=lambda content: content[:40].decode("latin-1") + f"... {len(content)}",
)
def test_what_is_no_plan(content: bytes) -> None:
    with pytest.raises(BundleError, match=r"plan\.json of a\.cmr is no plan: .*; export it again"):
        read_plan(content, "a.cmr")


# Steps that do not fit

Change = Callable[[dict[str, Any]], Any]


def at(*path: Any, to: Any) -> Change:
    """Put a value into the table."""

    def change(table: dict[str, Any]) -> None:
        for key in path[:-1]:
            table = table[key]
        table[path[-1]] = to

    return change


def step(place: int, *path: Any, to: Any) -> Change:
    return at("steps", place, *path, to=to)


SLOTS = {  # which are not there, not yet, or no slots at all
    f"slot {value!r} of step {place}": step(place, key, to=value)
    for value in (-1, 99, 18, 3.0, "3", None, True, [3], {}, 1 << 70, math.nan)
    for place, key in ((POOL, "x"), (LIGHT, "x"), (ATTENDED, "maps"), (LINEAR, "x"))
    if (place, value) != (LINEAR, 18)
}
NUMBERS = {
    f"{value!r} for {name}": step(place, *path, to=value)
    for value in (0, -1, 1.5, "1", None, True, math.inf, math.nan, -(1 << 40), 1 << 40, 1 << 70, [], {})
    for name, place, path in (
        ("the stride of a convolution", CONV, ["stride"]),
        ("the stride of a block", BLOCK, ["depthwise", "stride"]),
        ("a pad", CONV, ["pads", 1]),
        ("a pad of a block", BLOCK, ["depthwise", "pads", 1]),
        ("an offset", CONV, ["weight", 0]),
        ("a size of weights", LINEAR, ["weight", 1, 0]),
        ("a height", RESHAPED, ["shape", 0]),
        ("the end of a slice", PART, ["to"]),
        ("the start of a slice", PART, ["from"]),
    )
    if not (value == 0 and name.startswith(("a pad", "the start", "an offset")))
}
ACTIVATIONS = {
    f"activation {value!r} of step {place}": step(place, *path, to=value)
    for value in (
        [3, 1],
        ["a", "b"],
        ["0", "6"],
        "01",
        "relu",
        [0],
        [0, 1, 2],
        [math.nan, 1],
        [0, math.nan],
        6,
        {},
        [[], 1],
    )
    for place, path in (
        (CONV, ["act"]),
        (BLOCK, ["then"]),
        (BLOCK, ["project", "act"]),
        (LIGHT, ["before"]),
        (LINEAR, ["act"]),
    )
}
OTHERS = {
    "unknown operation": step(CONV, "op", to="softmax"),
    "no operation": step(CONV, "op", to=None),
    "operation of another module": step(CONV, "op", to="take"),
    "sigmoid of a convolution": step(CONV, "act", to="sigmoid"),
    "weights with fewer axes": lambda t: t["steps"][CONV]["weight"][1].pop(),
    "weights for other channels": step(CONV, "weight", 1, to=[20, 4, 3, 3]),
    "depthwise weights that are not square": step(LIGHT, "weight", 1, to=[20, 1, 3, 5]),
    "depthwise weights for other channels": step(LIGHT, "weight", 1, to=[10, 1, 3, 3]),
    "depthwise weights of 2 x 2": step(LIGHT, "weight", 1, to=[20, 1, 2, 2]),
    "depthwise weights of 7 x 7": step(LIGHT, "weight", 1, to=[20, 1, 7, 7]),
    "depthwise stride of 3": step(LIGHT, "stride", to=3),
    "a pad as large as the kernel": step(LIGHT, "pads", to=[1, 1, 3, 1]),
    "three pads": step(LIGHT, "pads", to=[1, 1, 1]),
    "projecting weights for other channels": step(BLOCK, "project", "weight", 1, to=[20, 25, 1, 1]),
    "projecting weights of 3 x 3": step(BLOCK, "project", "weight", 1, to=[20, 2, 3, 3]),
    "activation before an expansion": step(BLOCK, "before", to=[0, None]),
    "a block without its middle": step(BLOCK, "depthwise", to=None),
    "bias of other channels": step(CONV, "bias", 1, to=[19]),
    "bias of one number": step(CONV, "bias", 1, to=[]),
    "addition of another shape": step(BLOCK, "add", to=1),
    "addition of a slot to come": step(BLOCK, "add", to=9),
    "a kernel larger than the map": step(CONV, "weight", 1, to=[1, 3, 20, 1]),
    "weights of a matrix for other channels": step(LINEAR, "weight", 1, to=[9, 19]),
    "weights of a matrix with three axes": step(LINEAR, "weight", 1, to=[9, 20, 1]),
    "weights of a turned matrix with three axes": lambda t: t["steps"][LINEAR].update(
        order="io", weight=[t["steps"][LINEAR]["weight"][0], [20, 9, 1]]
    ),
    "order of another kind": step(LINEAR, "order", to="xy"),
    "rows of another number": step(ROWS, "weight", 1, to=[7, 11]),
    "rows with three axes": step(ROWS, "weight", 1, to=[7, 12, 1]),
    "a matrix of a map that has columns": step(LINEAR, "x", to=1),
    "gathered rows of a map that has columns": step(EACH, "x", to=1),
    "more rows than are gathered": step(EACH, "index", 1, to=[16]),
    "weights for others than are gathered": step(GATHERED, "weight", 1, to=[3, 19]),
    "weights of one axis": step(GATHERED, "weight", 1, to=[3]),
    "pool of another kind": step(POOL, "kind", to="min"),
    "pool of one row": step(POOL, "x", to=2),
    "slice of nothing": step(PART, "to", to=2),
    "slice beyond the end": step(PART, "to", to=26),
    "concat of nothing": step(WHOLE, "x", to=[]),
    "concat of one number": step(WHOLE, "x", to=3),
    "concat of other shapes": step(WHOLE, "x", to=[0, 2]),
    "concat of itself": step(WHOLE, "x", to=[7]),
    "concat along another axis": step(WHOLE, "axis", to="columns"),
    "rows of other widths put together": step(JOINED, "x", to=[15, 14]),
    "another number of values": step(RESHAPED, "shape", to=[21, 1, 1]),
    "a shape of two numbers": step(RESHAPED, "shape", to=[20, 1]),
    "maps of another size": step(ATTENDED, "maps", to=2),
    "eps of letters": step(ATTENDED, "eps", to="a"),
    "scale of letters": step(EACH, "scale", to="a"),
    "an input of two maps": at("inputs", 2, 1, 0, to=2),
    "an input of three axes": at("inputs", 2, 1, to=[1, 20, 12]),
    "two inputs of one name": at("inputs", 1, 0, to="in0"),
    "two outputs of one name": at("outputs", 1, 0, to="out0"),
    "more outputs than are taken": lambda t: t["outputs"].extend([f"more{i}", 3, [1, 20, 6, 8]] for i in range(20)),
    "output of a slot that is not there": at("outputs", 0, 1, to=19),
    "output of a slot before the first": at("outputs", 0, 1, to=-1),
    "output of another shape": at("outputs", 0, 2, to=[1, 21, 8, 6]),
    "output with one channel less": at("outputs", 0, 2, to=[1, 20, 6, 8]),
    "output in blocks of another shape": at("outputs", 1, 2, to=[1, 10, 12, 8]),
    "output of no shape": at("outputs", 2, 2, to=[]),
    "output of other values": at("outputs", 2, 2, to=[1, 20, 25]),
    "output of other columns": at("outputs", 2, 2, to=[1, 25, 21]),
    "output of sizes below 0": at("outputs", 2, 2, to=[-1, -21, 25]),
}
CHANGES = SLOTS | NUMBERS | ACTIVATIONS | OTHERS


@pytest.mark.parametrize("change", CHANGES)
def test_what_does_not_fit(change: str) -> None:
    made = everything()
    CHANGES[change](made.table)
    with pytest.raises(BundleError, match="export it again"):
        opened(made.table, bytes(made.part))


@pytest.mark.parametrize("place", range(16))
def test_every_key_is_needed(place: int) -> None:
    made = everything()
    for key in made.table["steps"][place]:
        table = copy.deepcopy(made.table)
        del table["steps"][place][key]
        with pytest.raises(BundleError, match="export it again"):
            opened(table, bytes(made.part))
    for key, inner in made.table["steps"][place].items():
        for lacking in inner if isinstance(inner, dict) else ():
            table = copy.deepcopy(made.table)
            del table["steps"][place][key][lacking]
            with pytest.raises(BundleError, match="export it again"):
                opened(table, bytes(made.part))


SIZES = ("0", "-3", "2.5", '"2"', "null", "1e400", "NaN", "[2]", "{}", "2" + 30 * "0")


@pytest.mark.parametrize("shape", [*(f"[1, 3, {size}, 2]" for size in SIZES), "[true, 3, 2, 2]", '"1322"', "1322"])
@pytest.mark.parametrize("of", ["inputs", "outputs"])
def test_shapes_of_no_whole_numbers(shape: str, of: str) -> None:
    made = Made((2, 2, 3))
    made.output(made.act(0, RELU))
    before, after = json.dumps({"version": 1, "graphs": {"mesh": made.table}}).split(f'"{of}": ')
    content = before + f'"{of}": ' + after.replace("[1, 3, 2, 2]", shape, 1)
    with pytest.raises(BundleError, match="export it again"):
        PlanSession(read_plan(content.encode(), "a.cmr")["mesh"], bytes(made.part), "mesh.onnx of a.cmr")


@pytest.mark.parametrize("row", [-1, 12, 1 << 20, -(1 << 31), (1 << 31) - 1])
def test_rows_that_are_not_there(row: int) -> None:
    for place in (EACH, GATHERED):
        made = everything()
        offset = made.table["steps"][place]["index"][0]
        made.part[offset + 20 : offset + 24] = np.array(row, "<i4").tobytes()
        with pytest.raises(BundleError, match=r"rows .* to gather of 12"):
            opened(made.table, bytes(made.part))


def test_constants_end_with_the_part() -> None:
    made = Made((4, 4, 3))
    made.output(made.conv(0, 5))
    opened(made.table, bytes(made.part))
    for part in (bytes(made.part[:-1]), b""):
        with pytest.raises(BundleError, match=r"mesh\.onnx of a\.cmr does not fit: .*values at .*; export it again"):
            opened(made.table, part)


def test_sums_of_more_values_than_are_taken() -> None:
    for channels in (3, 20):
        made = Made((9000, 1, channels))
        made.output(made.rows(0, 2), "rows")
        with pytest.raises(BundleError, match="export it again"):
            made.session()


def test_maps_that_would_take_all_memory() -> None:
    for shape, change in (
        ([1, 1, 1 << 13, 1 << 13], None),
        ([1, 1, 1 << 14, 1 << 14], None),
        ([1, 1, 1, 1], at("steps", 0, "pads", to=[1 << 30, 0, 0, 0])),
        ([1, 1, 1, 1], at("steps", 0, "pads", to=[1 << 14, 1 << 14, 0, 0])),
        ([1, 1, 1, 1], at("steps", 0, "pads", to=[0, 1 << 40, 0, 1 << 40])),
    ):
        made = Made((1, 1, 1))
        made.output(made.conv(0, 16, kernel=(1, 1)))
        made.table["inputs"][0][1] = shape
        made.table["outputs"][0][2] = [1, 16, *shape[2:]]
        if change:
            change(made.table)
        with pytest.raises(BundleError, match="export it again"):
            opened(made.table, bytes(made.part))


# Whatever else somebody may put there

ODD = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    3,
    7,
    16,
    1.5,
    -0.0,
    1e30,
    1e300,
    1 << 31,
    1 << 63,
    1 << 70,
    "",
    "3",
    "rows",
    [],
    {},
)
ODD += ([0, 1], [1, [1]], math.inf, -math.inf, math.nan, -(1 << 31), "oi", "sigmoid", "\ud800")


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """All that can be replaced: containers with a key each."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(inner, dict | list):
            yield from places(inner)


def mutant(rng: np.random.Generator) -> Made:
    made = everything()
    for _ in range(rng.integers(1, 3)):
        found = list(places(made.table))
        holder, key = found[rng.integers(len(found))]
        old, kind = holder[key], rng.integers(4)
        whole = isinstance(old, int) and not isinstance(old, bool)
        if whole and kind == 0:
            holder[key] = old + int(rng.choice([-1, 1]))
        elif whole and kind == 1:
            holder[key] = old * int(rng.choice([-1, 2, 3, 1000, 1 << 16, 1 << 32]))
        elif kind == 2 and isinstance(holder, list):
            holder.append(holder[key]) if rng.integers(2) else holder.pop(key)
        else:
            holder[key] = copy.deepcopy(ODD[rng.integers(len(ODD))])
    return made


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("seed", range(20))
def test_a_spoilt_plan_is_refused_or_runs(seed: int) -> None:
    rng = np.random.default_rng([seed, 3])
    for _ in range(40):
        made = mutant(rng)
        try:
            session = opened(made.table, bytes(made.part), threads=1 + seed % 2)
        except BundleError:
            continue
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if sum(math.prod(node.shape) for node in inputs) > 1 << 22:
            continue
        feed = {node.name: rng.standard_normal(node.shape).astype(np.float32) for node in inputs}
        found = session.run([node.name for node in outputs], feed)
        assert [array.shape for array in found] == [node.shape for node in outputs], made.table


def test_graphs_of_a_later_plan_run_without_it() -> None:
    assert read_plan(b'{"version": 2, "graphs": [3]}', "a.cmr") == {}


def test_parts_of_parts_of_parts() -> None:
    made = Made((2, 2, 3))
    slot = made.act(0, RELU)
    for _ in range(3000):
        slot = made.slice(slot, 0, 3)
    made.output(slot)
    with pytest.raises(BundleError, match="export it again"):
        opened(made.table, bytes(made.part))
