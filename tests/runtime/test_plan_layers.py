# SPDX-License-Identifier: Apache-2.0
"""What the compiled core makes of plans: the same as NumPy in double precision, on every kernel, wherever maps lie."""

import numpy as np
import pytest
from plan_made import CHANNELS, RELU, RELU6, Made, random_plan, same_padding

from cmr_runtime.plan.session import kernels

pytestmark = pytest.mark.skipif(not kernels(), reason="the compiled core is not built here, or switched off")

SIZES = [(1, 1), (1, 9), (9, 1), (2, 2), (5, 4), (7, 13)]


def pick(values, place: int):
    return values[place % len(values)]


# Convolutions


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("planar", [True, False], ids=["planes", "cells"])
def test_dense_convolutions(channels: int, planar: bool) -> None:
    for place, size in enumerate(SIZES):
        made = Made((*size, channels), seed=channels)
        x = 0 if planar else made.act(0, [-2, 2])
        for stride in (1, 2):
            for kernel in ((1, 1), (3, 3), (1, 3), (3, 1), (2, 3))[: 6 - stride]:
                act = pick([None, RELU, RELU6, [None, 0.1]], place + stride)
                options = {"stride": stride, "act": act, "bias": bool(place % 2)}
                made.output(made.conv(x, pick(CHANNELS, channels + place), kernel=kernel, **options))
        made.check()


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1], [2, 0, 1, 3], [4, 0, 0, 0], [0, 6, 0, 5]])
@pytest.mark.parametrize("planar", [True, False], ids=["planes", "cells"])
def test_pads_of_dense_convolutions(pads: list[int], planar: bool) -> None:
    for kernel in ((1, 1), (3, 3), (2, 1), (1, 4), (5, 5)):
        made = Made((5, 6, 5))
        x = 0 if planar else made.act(0, None)
        for stride in (1, 2, 3):
            made.output(made.conv(x, 17, kernel=kernel, stride=stride, pads=pads))
        made.check()


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("channels", CHANNELS)
def test_depthwise_convolutions(channels: int, kernel: int) -> None:
    for place, size in enumerate(SIZES):
        made = Made((*size, channels), seed=place)
        for stride in (1, 2):
            same, most = same_padding(size, (kernel, kernel), stride), kernel - 1
            for before, pads in ((None, same), (RELU, [most, most, 0, 0]), ([-0.3, 0.2], [0, 0, most, most])):
                options = {"kernel": kernel, "stride": stride, "pads": pads, "act": pick([RELU6, None], place)}
                made.output(made.depthwise(0, before=before, bias=before is None, **options))
        made.check()


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (3, 3), (10, 10), (10, 11), (24, 20), (40, 1)])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_blocks_as_a_whole_and_by_rows(size: tuple[int, int], kernel: int, stride: int) -> None:
    light = {"kernel": kernel, "stride": stride}
    for channels, middle, out in ((5, 17, 3), (24, 112, 24), (16, 400, 51)):
        made = Made((*size, channels), seed=middle)
        x = made.act(0, [-2, 2])
        made.output(made.block(0, out, middle=middle, light=light, bias=False))
        made.output(made.block(x, out, middle=middle, light={**light, "act": RELU6}, act=[-0.5, None]))
        made.output(made.block(x, out, before=RELU, light=light))
        made.check()


@pytest.mark.parametrize("size", [(1, 1), (3, 8), (7, 5), (12, 12)])
def test_blocks_that_expand_by_more_than_one_cell(size: tuple[int, int]) -> None:
    for planar in (True, False):
        made = Made((*size, 5))
        x = 0 if planar else made.act(0, None)
        for kernel, stride in (((3, 3), 2), ((3, 3), 1), ((1, 1), 2), ((2, 1), 1)):
            made.output(made.block(x, 21, middle=24, expand={"kernel": kernel, "stride": stride, "act": RELU6}))
        uneven = [0, 0, 1, 2]
        made.output(made.block(x, 21, middle=24, expand={"kernel": (1, 1), "pads": uneven}))
        made.output(made.block(x, 21, middle=24, expand={"kernel": (1, 3), "pads": [0, 2, 0, 0]}))
        if size[1] > 2:
            made.output(made.block(x, 21, middle=24, expand={"kernel": (1, 3), "pads": [0] * 4}))
        made.check()


@pytest.mark.parametrize("middle", [16, 33, 160, 250, 960])
def test_blocks_with_more_channels_than_are_kept_at_a_time(middle: int) -> None:
    for size in ((4, 4), (10, 10), (20, 70)):
        made = Made((*size, 24))
        made.output(made.block(0, 40, middle=middle, add=made.conv(0, 40), then=RELU, act=[-1, 1]))
        made.output(made.block(made.conv(0, middle), 17, light={"stride": 2}))
        made.check()


# Additions


@pytest.mark.parametrize("size", [(2, 2), (6, 10), (14, 8), (30, 26)])
@pytest.mark.parametrize("half", [False, True], ids=["full", "half"])
@pytest.mark.parametrize("kind", ["pointwise", "dense", "expanding", "bare"])
def test_additions(size: tuple[int, int], half: bool, kind: str) -> None:
    added = tuple(n // 2 for n in size) if half else size
    for channels in (3, 16, 21, 112):
        for act, then in ((None, None), (RELU6, None), (None, RELU), ([-0.2, 0.4], [0.1, 0.5])):
            made = Made((*size, 24), (*added, channels), seed=channels)
            joined = {"act": act, "add": 1, "then": then}
            if kind in ("pointwise", "dense"):
                made.conv(0, channels, kernel=(1, 1) if kind == "pointwise" else (3, 3), **joined)
            else:
                made.block(0, channels, middle=40 if kind == "expanding" else None, **joined)
            made.output(2).check(threads=(1, 2) if channels == 21 else (1,))


def test_a_map_is_added_to_what_is_made_of_it() -> None:
    made = Made((6, 6, 24))
    x = made.block(0, 24, middle=48, add=0, then=RELU)
    made.output(x)
    x = made.conv(x, 24, kernel=(1, 1), add=x, then=RELU6)
    made.output(x).output(made.conv(x, 24, add=0)).check()


# Parts of maps


def lying(made: Made, widths: tuple[int, ...], read_too: tuple[int, ...] = ()) -> list[int]:
    """Maps of these channels, of which some are read by a convolution before they are put together."""
    parts = [made.conv(0, width) for width in widths]
    for place in read_too:
        made.output(made.conv(parts[place], 5))
    return parts


@pytest.mark.parametrize(
    "widths", [(16, 16), (16, 32, 21), (3, 5), (21, 16), (17,), (48, 1, 16), (5, 16, 3), (112, 24), (16, 16, 1)]
)
@pytest.mark.parametrize("read_too", [(), (0,), (-1,)])
def test_channels_put_together(widths: tuple[int, ...], read_too: tuple[int, ...]) -> None:
    made = Made((5, 6, 3))
    whole = made.concat(*lying(made, widths, read_too))
    made.output(whole).output(made.conv(whole, 9, kernel=(1, 1))).output(made.depthwise(whole)).check()


@pytest.mark.parametrize("channels", [3, 16, 21, 32])
@pytest.mark.parametrize("read_too", [(), (0,), (1,)])
def test_rows_put_together(channels: int, read_too: tuple[int, ...]) -> None:
    made = Made((4, 3, channels))
    parts = [made.conv(0, channels), made.depthwise(0), 0]
    for place in read_too:
        made.output(made.conv(parts[place], 5))
    whole = made.concat(*parts, made.conv(0, channels, stride=1, kernel=(4, 1), pads=[0] * 4), axis="rows")
    assert made.shapes[whole] == (13, 3, channels)
    made.output(whole).output(made.block(whole, 7, middle=20)).check()


def test_one_part_twice_and_in_two_wholes() -> None:
    made = Made((4, 4, 16))
    a, b = made.conv(0, 16), made.conv(0, 5)
    wholes = made.concat(a, a), made.concat(b, a, b), made.concat(a, b), made.concat(a, a, axis="rows")
    for whole in wholes:
        made.output(whole).output(made.act(whole, RELU) if whole == wholes[0] else made.mean(whole))
    made.check()
    made = Made((4, 4, 16))
    inner = made.concat(made.conv(0, 16), made.conv(0, 16))
    made.output(made.concat(made.conv(0, 16), inner, inner)).output(inner).check()


@pytest.mark.parametrize("then", ["convolutions", "others"])
def test_inputs_put_together(then: str) -> None:
    for widths in ((1, 3), (16, 5), (21, 21, 3)):
        made = Made(*((5, 7, width) for width in widths))
        whole = made.concat(*range(len(widths)))
        made.output(made.conv(whole, 17)).output(made.block(whole, 5, middle=20))
        if then == "others":
            made.output(made.act(whole, RELU)).output(made.conv(0, 5)).output(0)
        made.check()
    made = Made((5, 7, 3), (5, 7, 3))
    made.output(made.conv(made.concat(1, 0, 1), 5)).output(made.conv(1, 5, add=made.conv(0, 5))).check()


def test_parts_and_inputs_as_outputs() -> None:
    made = Made((3, 5, 21), (3, 5, 21))
    part = made.slice(0, 3, 20)
    made.output(0).output(part).output(made.slice(part, 5, 9), "blocks").output(made.slice(part, 16, 17)).check()


@pytest.mark.parametrize(("first", "end"), [(0, 5), (3, 20), (16, 32), (30, 40), (39, 40), (7, 39)])
def test_every_operation_takes_a_slice(first: int, end: int) -> None:
    width = end - first
    made = Made((6, 4, 60), seed=first)
    x = made.slice(made.slice(made.conv(0, 60), 10, 50), first, end)
    made.output(made.conv(x, 17)).output(made.conv(x, 17, kernel=(1, 1), add=made.conv(0, 17)))
    made.output(made.depthwise(x, before=RELU)).output(made.block(x, width, middle=40, add=x))
    made.output(made.block(x, width, add=x, then=RELU)).check()
    made.table["outputs"].clear()
    made.output(made.pool(x)).output(made.pool(x, "mean")).output(made.act(x, RELU6)).output(made.mean(x))
    made.output(made.concat(x, x)).output(made.concat(x, made.conv(0, width), axis="rows"))
    made.output(made.attend(made.act(x, "sigmoid"), x)).output(made.act(x, "sigmoid")).check()
    column = Made((11, 1, 60), seed=first)
    x = column.slice(column.slice(0, 10, 50), first, end)
    column.output(column.linear(x, 9)).output(column.rows(x, 7)).output(column.gather(x, 5, 3))
    column.output(column.gather(x, 5, 3, each=True)).output(x, "rows").output(
        column.reshape(column.mean(x), width, 1, 1)
    )
    column.check()


@pytest.mark.parametrize("channels", [1, 5, 16, 21, 48])
def test_the_same_values_as_another_map(channels: int) -> None:
    made = Made((4, 6, channels))
    flat = made.reshape(made.mean(0), channels, 1, 1)
    made.output(flat).output(made.rows(flat, 5)).output(made.linear(flat, 5), "rows")
    if channels % 16 == 0:
        cells = made.reshape(made.conv(0, channels), 24, 1, channels)
        made.output(made.linear(cells, 21), "rows").output(made.reshape(cells, 2, 12, channels))
        made.output(made.reshape(made.reshape(cells, 8, 3, channels), 1, 1, 24 * channels), "row")
    made.check()


@pytest.mark.parametrize("case", ["unfilled", "slice", "part"])
def test_maps_with_gaps_as_another_map(case: str) -> None:
    made = Made((4, 6, 32))
    x = made.conv(0, 21 if case == "unfilled" else 16)
    x = made.slice(made.conv(0, 64), 16, 32) if case == "slice" else x
    if case == "part":
        made.output(made.concat(x, made.conv(0, 16)))
    made.output(made.reshape(x, 24, 1, made.shapes[x][2]), "rows").check()


# The rest


@pytest.mark.parametrize("channels", CHANNELS)
def test_pools_means_and_activations(channels: int) -> None:
    for size in ((2, 2), (6, 4), (2, 10)):
        made = Made((*size, channels))
        made.output(made.pool(0)).output(made.pool(0, "mean")).output(made.mean(0)).output(made.mean(0), "row")
        made.output(made.act(0, RELU6)).output(made.act(0, [None, 0.5])).output(made.act(0, None)).check()


@pytest.mark.parametrize("read", ["by outputs", "by a step"])
@pytest.mark.parametrize("form", ["map", "blocks", "rows"])
def test_sigmoid(read: str, form: str) -> None:
    made = Made((5, 3, 20))
    x = made.act(0, "sigmoid")
    made.output(x, form).output(0)
    if read == "by a step":
        made.output(made.mean(x))
    made.check()
    extreme = np.float32([-1e4, -100, -88, -87, -17, -1e-30, 0, 1e-30, 17, 87, 88, 100, 1e4, 3e38, -3e38])
    feed = {"in0": np.resize(extreme, (1, 20, 5, 3))}
    found = made.check(feed)[0]
    assert np.isfinite(found).all()
    assert (found.min(), found.max()) == (pytest.approx(0, abs=1e-30), 1)
    assert found.min() >= 0


@pytest.mark.parametrize("joints", [1, 3, 21, 40])
def test_features_under_maps(joints: int) -> None:
    for size, channels in (((1, 1), 5), ((4, 6), 16), ((9, 7), 112)):
        made = Made((*size, joints), (*size, channels))
        maps = made.act(0, "sigmoid")
        made.output(made.attend(maps, 1), "rows").output(made.attend(maps, made.conv(1, 24), eps=0.5), "rows")
        made.output(made.attend(made.slice(maps, joints // 2, joints), 1), "rows").check()


@pytest.mark.parametrize("columns", [1, 3, 4, 5, 17, 112])
@pytest.mark.parametrize("order", ["oi", "io"])
def test_products(columns: int, order: str) -> None:
    for count in (1, 2, 21, 130):
        made = Made((count, 1, columns))
        for place, act in enumerate((None, RELU, [-0.1, 0.2])):
            made.output(made.linear(0, (1, 21, 112)[place], order, act, bias=place != 1), "rows")
            made.output(made.rows(0, (1, 9, 49)[place], order, act, bias=place != 1), "rows")
        made.check()


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 16, 51])
def test_gathered_rows(channels: int, each: bool) -> None:
    made = Made((30, 1, channels))
    for count, taps, act in ((1, 1, None), (7, 3, RELU), (98, 9, [-0.1, 0.3])):
        made.output(made.gather(0, count, taps, each, scale=1 / taps, act=act, bias=act is not None), "rows")
    x = made.slice(made.linear(0, 40), 7, 7 + channels if channels < 30 else 33)
    made.output(made.gather(x, 5, 4, each), "rows").check()


def test_outputs_of_every_form() -> None:
    for channels in (4, 20, 48, 84):
        made = Made((3, 5, channels), (6, 1, channels))
        x, column = made.conv(0, channels), made.linear(1, channels)
        made.output(x).output(x, "blocks").output(column, "rows").output(made.mean(x), "row").output(x, "rows")
        made.output(0, "blocks").output(1, "rows").check()
        made.table["outputs"] = [["vector", 3, [6, channels]], ["cells", 2, [1, 3, 5, channels][1:]]]
        made.check()


# Anything after anything


@pytest.mark.parametrize("seed", range(80))
def test_steps_of_any_kind_in_any_order(seed: int) -> None:
    random_plan(seed).check(threads=(1, 3) if seed % 4 == 0 else (1,))


# Parts of parts: what reads a part relies on where its values lie


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3)])
def test_a_map_of_which_a_part_was_read_may_become_a_part(kernel: tuple[int, int]) -> None:
    made = Made((8, 9, 32))
    whole = made.conv(0, 32)
    part = made.slice(whole, 0, 16)
    read = made.conv(part, 32, kernel=kernel)
    made.output(made.concat(whole, read)).output(read)
    made.check()


def test_a_map_of_whose_part_maps_were_taken_may_become_a_part() -> None:
    made = Made((6, 5, 20))
    maps = made.act(made.conv(0, 48), "sigmoid")
    made.output(made.attend(made.slice(maps, 16, 30), 0), "rows")
    made.output(made.concat(maps, made.conv(0, 32)))
    made.check()


def test_a_map_of_whose_part_rows_were_taken_may_become_a_part() -> None:
    made = Made((12, 1, 20))
    whole = made.linear(0, 32)
    made.output(made.rows(made.slice(whole, 3, 6), 30), "rows").output(made.concat(whole, made.linear(0, 16)), "rows")
    made.check()


def test_rows_put_together_and_then_channels() -> None:
    made = Made((5, 1, 20), (9, 1, 20))
    upper, lower = made.linear(0, 16), made.linear(0, 16)
    rows = made.concat(upper, made.rows(upper, 4), axis="rows")
    made.output(made.concat(rows, made.linear(1, 32)), "rows").output(made.concat(lower, upper, axis="rows"), "rows")
    made.check()


def test_a_part_seen_as_another_map_and_its_whole_as_a_part() -> None:
    made = Made((1, 1, 20))
    whole = made.conv(0, 64)
    made.output(made.reshape(made.slice(whole, 16, 48), 2, 1, 16), "rows")
    made.output(made.concat(whole, made.conv(0, 16)))
    made.check()


def test_a_part_at_the_end_of_memory() -> None:
    made = Made((7, 6, 5))
    part = made.slice(made.conv(0, 48), 32, 48)
    made.output(made.conv(part, 8)).output(made.depthwise(part)).output(made.act(part, RELU6))
    made.check()


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3)])
def test_what_is_no_number_stays_none(kernel: tuple[int, int]) -> None:
    made = Made((6, 6, 20))
    for act in (None, RELU, RELU6, made.slope(24)):
        made.output(made.conv(0, 24, kernel=kernel, act=act))
    made.output(made.depthwise(0, before=RELU)).output(made.act(0, RELU6)).output(made.act(0, "sigmoid"))
    made.output(made.block(0, 17, middle=40, then=RELU6))
    for name in kernels():
        found = made.session(name).run(made.names(), {"in0": np.full((1, 20, 6, 6), np.nan, np.float32)})
        assert all(np.isnan(values).all() for values in found), name
