# SPDX-License-Identifier: Apache-2.0
"""Plans whose products are made in eight bits: as rounding in NumPy says, and close to the same plan in floats."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from plan_made import RELU, RELU6, Made, assert_near, eight_bits, random_plan

from cmr_runtime import Bundle, Camera, HandMeshTracker, InputError
from cmr_runtime import session as sessions
from cmr_runtime.image_io import read_image
from cmr_runtime.plan import convolutions
from cmr_runtime.plan.session import kernels
from cmr_runtime.precision import in_eight_bits, open_bundle

ROOT = Path(__file__).resolve().parents[2]


def rounded(values: np.ndarray, axis: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers from -127 to 127, and their scale: one, or one along an axis."""
    most = np.abs(values).max(axis=axis, keepdims=axis is not None)
    gain = np.where(most > 0, np.float32(127) / np.where(most > 0, most, 1), 0).astype(np.float32)
    return np.rint(values * gain).astype(np.int64), most.astype(np.float64) / 127


def rounded_product(cells: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Product (m, K) (O, K)ᵀ of rounded factors; every hundred cells have a scale, and every row of the weights."""
    whole, scale = rounded(weight, axis=1)
    parts = []
    for first in range(0, len(cells), 100):
        part, own = rounded(cells[first : first + 100])
        parts.append((part @ whole.T) * own * scale[:, 0])
    return np.concatenate(parts)


def constant(made: Made, entry: list) -> np.ndarray:
    offset, shape = entry
    return np.frombuffer(bytes(made.part), "<f4", int(np.prod(shape)), offset).reshape(shape)


def run(made: Made, feed: dict[str, np.ndarray], threads: int = 1) -> list[np.ndarray]:
    """Run on all kernels, which are to agree to the last bit, after a run on what is no number."""
    spoilt, found = {name: np.full_like(x, np.nan) for name, x in feed.items()}, []
    for kernel in kernels(eight=True):
        session = made.session(kernel, threads, eight=True)
        session.run(made.names(), spoilt)
        found.append(session.run(made.names(), feed))
        for a, b in zip(found[0], found[-1], strict=True):
            np.testing.assert_array_equal(a, b, err_msg=kernel)
    return found[0]


def off(found: np.ndarray, wanted: np.ndarray) -> float:
    """Root mean square of what an output is off, over that of the output."""
    return float(np.sqrt(np.mean((found - wanted) ** 2) / max(np.mean(wanted**2), 1e-12)))


@eight_bits
@pytest.mark.parametrize("cells", [1, 7, 12, 99, 100, 101, 250])
@pytest.mark.parametrize(("k", "o"), [(16, 64), (24, 96), (33, 51), (64, 16), (112, 22), (259, 17)])
def test_products_are_those_of_rounded_factors(cells: int, k: int, o: int) -> None:
    made = Made((cells, 1, k), seed=cells + k)
    x = made.reshape(0, cells, 1, k)  # a map in memory: an input that only convolutions read lies in planes
    made.output(made.conv(x, o, kernel=(1, 1), act=[-0.5, 0.7])).output(made.conv(x, o, kernel=(1, 1)))
    feed = made.feed()
    a = feed["in0"][0, :, :, 0].T
    for found, step, within in zip(
        run(made, feed), made.table["steps"][1:], [(-0.5, 0.7), (-np.inf, np.inf)], strict=True
    ):
        wanted = rounded_product(a, constant(made, step["weight"]).reshape(o, k)) + constant(made, step["bias"])
        assert_near([found[0, :, :, 0].T], [np.clip(wanted, *within)])


@eight_bits
def test_factors_that_are_whole_numbers_are_not_rounded() -> None:
    made = Made((9, 11, 20))
    x = made.reshape(0, 9, 11, 20)  # in memory, as above
    first = made.conv(x, 64, kernel=(1, 1), act=RELU, bias=False)
    offset, shape = made.table["steps"][1]["weight"]
    weight = made.rng.integers(-127, 128, shape).astype("<f4")
    weight[:, 0] = 127
    made.part[offset : offset + weight.nbytes] = weight.tobytes()
    cells = made.rng.integers(-127, 128, (1, 20, 9, 11)).astype(np.float32)
    cells[0, 0] = -127
    made.output(first)
    for threads in (1, 2):
        np.testing.assert_array_equal(run(made, {"in0": cells}, threads)[0], made.wanted({"in0": cells})[0])


@eight_bits
@pytest.mark.parametrize("size", [(1, 1), (5, 5), (10, 10), (12, 20), (40, 30), (6, 130)])
@pytest.mark.parametrize(("channels", "middle"), [(16, 64), (24, 144), (112, 672), (33, 250)])
def test_blocks_are_close_to_those_in_floats(size: tuple[int, int], channels: int, middle: int) -> None:
    for kernel, stride in ((3, 1), (5, 2)):
        made = Made((*size, channels), seed=middle)
        x = made.depthwise(0)
        light = {"kernel": kernel, "stride": stride}
        block = made.block(x, channels, middle=middle, light=light, add=x if stride == 1 else None, then=RELU6)
        made.output(block).output(made.block(x, 40, light=light, act=made.slope(40)))
        feed = made.feed()
        wanted = made.wanted(feed)
        for threads in (1, 2, 3):
            for ours, theirs in zip(run(made, feed, threads), wanted, strict=True):
                assert 0 < off(ours, theirs) < 0.02


@eight_bits
@pytest.mark.parametrize("half", [False, True], ids=["full", "half"])
@pytest.mark.parametrize("size", [(4, 6), (10, 10), (14, 120)])
def test_additions(size: tuple[int, int], half: bool) -> None:
    h, w = size
    made = Made((h, w, 64), (h // 2 if half else h, w // 2 if half else w, 32))
    x, add = made.depthwise(0), made.depthwise(1)
    made.output(made.conv(x, 48, kernel=(1, 1), add=add, then=RELU))
    made.output(made.block(x, 48, middle=96, add=add)).output(made.block(x, 32, add=add))
    feed = made.feed()
    for ours, theirs in zip(run(made, feed), made.wanted(feed), strict=True):
        assert 0 < off(ours, theirs) < 0.02


@eight_bits
@pytest.mark.parametrize("seed", range(40))
def test_steps_of_any_kind_in_any_order(seed: int) -> None:
    made = random_plan(seed)
    feed = made.feed()
    for ours, theirs in zip(run(made, feed, 1 + seed % 3), made.wanted(feed), strict=True):
        assert off(ours, theirs) < 0.1


@eight_bits
def test_what_fills_a_slice_up_to_whole_panels_does_not_count() -> None:
    """Beside the slice lie values a thousand times larger: a scale that took them along would leave nothing of it."""
    made = Made((6, 6, 48))
    x = made.depthwise(0, bias=False)
    part = made.slice(x, 16, 39)
    made.output(made.conv(part, 64, kernel=(1, 1))).output(made.block(part, 64))
    feed = made.feed()
    feed["in0"][:, 39:] *= 1000
    for ours, theirs in zip(run(made, feed), made.wanted(feed), strict=True):
        assert off(ours, theirs) < 0.02


@eight_bits
def test_zeros_stay_zeros_and_what_is_no_number_stays_none() -> None:
    made = Made((6, 6, 32))
    x = made.reshape(0, 6, 6, 32)
    made.output(made.conv(x, 40, kernel=(1, 1), bias=False)).output(made.block(x, 32, middle=96, bias=False))
    for value in (0.0, np.nan, np.inf):
        feed = {"in0": np.full((1, 32, 6, 6), value, np.float32)}
        for kernel in kernels(eight=True):
            conv, block = made.session(kernel, eight=True).run(made.names(), feed)
            if value == 0.0:
                assert not conv.any()
            else:
                assert np.isnan(conv).all()
                assert np.isnan(block).all()


@eight_bits
def test_narrow_products_and_those_of_rows_stay_in_floats() -> None:
    made = Made((8, 8, 32))
    x = made.depthwise(0)
    made.output(made.linear(made.reshape(x, 64, 1, 32), 64), "rows")
    made.output(made.conv(x, 3, kernel=(1, 1))).output(made.block(x, 5)).output(made.conv(x, 64, kernel=(3, 3)))
    assert 32 * 5 < convolutions.WORTH < 32 * 64
    feed = made.feed()
    for eight, floats in zip(run(made, feed), made.session().run(made.names(), feed), strict=True):
        np.testing.assert_array_equal(eight, floats)


# The package's network


def hand_of(bundle: Bundle | None = None, **options: str) -> np.ndarray:
    """Vertices of the sample's hand, from their middle."""
    image = read_image(ROOT / "examples/data/sample.jpg")
    height, width = image.shape[:2]
    with HandMeshTracker(bundle, mode="image", **options) as tracker:
        (hand,) = tracker.track(image, Camera.from_fov(60, width, height))
    return hand.vertices - hand.vertices.mean(axis=0)


@eight_bits
def test_the_hand_in_eight_bits_is_the_hand_in_floats_to_a_millimetre_or_two() -> None:
    assert open_bundle(None).run_in == "int8"
    floats, usual, eight = (hand_of(**options) for options in ({"precision": "fp32"}, {}, {"precision": "int8"}))
    np.testing.assert_array_equal(usual, eight)
    assert 0 < np.linalg.norm(eight - floats, axis=1).mean() < 2e-3


@eight_bits
def test_a_caller_s_bundle_runs_in_the_precision_that_is_asked_for(tmp_path: Path) -> None:
    own = Bundle.default()
    eight = open_bundle(own, "int8")
    assert (eight.eight_bits, eight.run_in, eight.precision) == (True, "int8", "fp32")
    assert {field.name: getattr(eight, field.name) for field in fields(eight)} == vars(own)
    assert open_bundle(eight) is eight
    assert open_bundle(own) is own
    assert not open_bundle(own, "fp32").eight_bits
    assert not open_bundle(eight, "fp32").eight_bits
    assert open_bundle(eight, "int8").eight_bits
    assert open_bundle(own, "auto").prior == own.prior
    stored = Bundle.default("int8")
    assert open_bundle(stored, "int8") is open_bundle(stored, "auto") is stored
    with pytest.raises(InputError, match=r"precision is 'fp32', and hand_int8\.cmr was exported in int8"):
        open_bundle(stored, "fp32")


@eight_bits
def test_without_the_instructions_such_a_bundle_is_run_by_its_plan_in_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    eight = open_bundle(None)
    floats = hand_of(eight, precision="fp32")
    assert np.any(hand_of(eight) != floats)
    real = sessions.kernels
    monkeypatch.setattr(sessions, "kernels", lambda eight=False: [] if eight else real())
    np.testing.assert_array_equal(hand_of(eight), floats)


def test_without_plans_or_with_other_providers_there_is_no_such_bundle(bundle: Bundle) -> None:
    assert in_eight_bits(bundle) is None
    assert in_eight_bits(Bundle.default(), ["OneExecutionProvider", "CPUExecutionProvider"]) is None
    assert in_eight_bits(replace(Bundle.default(), plan=b'{"version": 1, "graphs": {}}')) is None
    with pytest.raises(InputError, match=r"in which hand\.cmr cannot be run here: it takes plans of both stages"):
        open_bundle(bundle, "int8")
    assert open_bundle(bundle, "auto") is bundle


def test_without_such_instructions_the_package_has_another_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmr_runtime.precision.kernels", lambda eight: [])
    for asked, found in ((None, "hand.cmr"), ("fp32", "hand.cmr"), ("int8", "hand_int8.cmr")):
        assert open_bundle(None, asked).source == found
    with HandMeshTracker(precision="int8") as tracker:
        assert tracker.bundle.source == "hand_int8.cmr"
