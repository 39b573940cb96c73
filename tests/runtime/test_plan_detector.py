# SPDX-License-Identifier: Apache-2.0
"""Steps of plans that the palm detector needs: slopes, maps of fewer channels added, enlargement, half precision."""

import numpy as np
import pytest
from plan_made import CHANNELS, RELU6, Made

from cmr_runtime import BundleError
from cmr_runtime.plan.session import kernels

pytestmark = pytest.mark.skipif(not kernels(), reason="the compiled core is not built here, or switched off")


@pytest.mark.parametrize("channels", CHANNELS)
def test_slopes(channels: int) -> None:
    made = Made((9, 12, channels))
    for kernel in ((1, 1), (3, 3)):
        bent = made.conv(0, channels, kernel=kernel, act=made.slope(channels))
        made.output(bent)
        made.output(made.conv(bent, channels, kernel=kernel, add=0, then=made.slope(channels)))
    made.output(made.block(0, channels, act=made.slope(channels), add=0, then=made.slope(channels)))
    made.check()


@pytest.mark.parametrize("size", [(2, 3), (5, 5), (10, 10), (12, 11)])
def test_slopes_of_blocks_whose_channels_are_shared(size: tuple[int, int]) -> None:
    made = Made((*size, 40))
    made.output(made.block(0, 40, middle=400, act=made.slope(40), add=0, then=made.slope(40)))
    made.output(made.block(0, 51, middle=250, then=made.slope(51)))
    made.check(threads=(1, 2, 3))


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (14, 10)])
@pytest.mark.parametrize(("few", "many"), [(16, 17), (16, 48), (32, 64), (48, 112)])
def test_additions_to_the_first_channels(size: tuple[int, int], few: int, many: int) -> None:
    made = Made((*size, few))
    other = made.act(0, RELU6)
    for options in ({"kernel": (1, 1)}, {"kernel": (3, 3)}):
        made.output(made.conv(0, many, add=other, then=made.slope(many), **options))
    made.output(made.block(0, many, add=other, then=RELU6))
    made.output(made.block(0, many, middle=96, add=other))
    half = Made((*size, few), (2 * size[0], 2 * size[1], 5))
    half.output(half.conv(1, many, add=half.act(0, RELU6)))
    for each in (made, half):
        each.check(threads=(1, 2))


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (6, 1), (12, 12), (24, 24)])
@pytest.mark.parametrize("channels", [1, 16, 21])
def test_enlargements(size: tuple[int, int], channels: int) -> None:
    made = Made((*size, channels), (2 * size[0], 2 * size[1], channels))
    other = made.act(1, RELU6)
    for act in (None, RELU6, made.slope(channels)):
        made.output(made.enlarge(0, act)).output(made.enlarge(0, act, add=other))
    made.check()


@pytest.mark.parametrize("channels", CHANNELS)
def test_constants_added_and_a_factor(channels: int) -> None:
    made = Made((30, 1, channels))
    made.output(made.affine(0, 1 / 192), "rows").output(
        made.affine(made.slice(0, 0, max(1, channels // 2)), -2), "rows"
    )
    made.check()


@pytest.mark.parametrize("channels", CHANNELS)
def test_any_map_as_another(channels: int) -> None:
    made = Made((4, 6, channels))
    other = made.act(0, RELU6)
    for shape in ((24, 1, channels), (2, 12, channels), (1, 1, 24 * channels), (channels, 8, 3), (6, 4 * channels, 1)):
        made.output(made.reshape(other, *shape))
    made.output(made.reshape(made.slice(other, channels // 2, channels), 1, 24, channels - channels // 2))
    made.check()


def test_constants_in_half_precision() -> None:
    made = Made((8, 8, 20))
    conv, block = made.conv(0, 24), made.block(0, 17, middle=40)
    for slot in (conv, block):
        made.output(slot)
    steps = made.table["steps"]
    steps[0]["weight"], steps[0]["bias"] = made.half(steps[0]["weight"]), made.half(steps[0]["bias"])
    for layer in ("expand", "depthwise", "project"):
        steps[1][layer]["weight"] = made.half(steps[1][layer]["weight"])
    made.check()


@pytest.mark.parametrize("kind", ["float", "Half", None, 2])
def test_constants_of_another_kind_are_refused(kind: object) -> None:
    made = Made((8, 8, 20))
    made.output(made.conv(0, 24))
    made.table["steps"][0]["weight"].append(kind)
    with pytest.raises(BundleError, match="kind"):
        made.session()


SPOILT = {
    "a slope for each": lambda made: made.conv(0, 20, act=made.slope(19)),
    "slopes of numbers": lambda made: made.conv(0, 20, act={"slope": 0.25}),
    "a slope before a depthwise convolution": lambda made: made.depthwise(0, before=made.slope(20)),
    "a slope of an expansion": lambda made: made.block(0, 20, middle=24, expand={"act": made.slope(24)}),
    "an addition of fewer channels": lambda made: made.conv(1, 30, add=made.act(1, RELU6)),
    "an addition of more channels": lambda made: made.conv(0, 16, kernel=(1, 1), add=made.act(0, RELU6)),
    "an enlargement with half of it": lambda made: made.enlarge(0, add=0),
    "constants for each": lambda made: made.affine(made.reshape(0, 4, 1, 80), 1.0) and made.affine(0),
    "a factor": lambda made: made.affine(made.reshape(0, 16, 1, 20), float("nan")),
    "another number of values": lambda made: made.reshape(0, 4, 4, 21),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_does_not_fit_is_refused(name: str) -> None:
    made = Made((4, 4, 20), (4, 4, 5))
    made.output(SPOILT[name](made))
    with pytest.raises(BundleError):
        made.session()


def test_large_slopes_and_values() -> None:
    made = Made((6, 6, 32))
    made.output(made.conv(0, 32, act=made.slope(32)))
    feed = {"in0": np.full((1, 32, 6, 6), 1e4, np.float32)}
    made.check(feed)
