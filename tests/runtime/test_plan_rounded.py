# SPDX-License-Identifier: Apache-2.0
"""Plans whose products are made of whole numbers: as rounding in NumPy says, and close to the same plan in floats."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from plan_made import RELU, RELU6, ROUNDED, Made, assert_near, random_plan

from cmr_runtime import Bundle, BundleError, Camera, HandMeshTracker, InputError
from cmr_runtime import session as sessions
from cmr_runtime.image_io import read_image
from cmr_runtime.plan import convolutions
from cmr_runtime.plan.rounding import spread
from cmr_runtime.plan.session import kernels
from cmr_runtime.precision import in_bits, open_bundle

ROOT = Path(__file__).resolve().parents[2]

#: Largest of the first factor, and how far off a plan may be, by bits.
MOST, CLOSE = {8: 127, 16: 4095}, {8: 0.02, 16: 0.001}
rounded = pytest.mark.parametrize("bits", ROUNDED)


def rounded_columns(weight: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers of a matrix (O, K), and a scale for each row: no sum with values up to `MOST` leaves 32 bits."""
    most, total = np.abs(weight).max(axis=1), np.abs(weight).sum(axis=1, dtype=np.float64)
    largest = np.full(len(weight), 127.0)
    if bits == 16:
        room = (2**31 - 1) / 4095 - weight.shape[1] / 2
        largest = np.floor(np.minimum(32767, room * most / np.where(total > 0, total, 1)))
    scale = (most / np.where(most > 0, largest, 1).astype(np.float32)).astype(np.float32)
    return np.rint(weight / np.where(scale > 0, scale, 1)[:, None]).astype(np.int64), scale


def rounded_product(cells: np.ndarray, weight: np.ndarray, bits: int) -> np.ndarray:
    """Product (m, K) (O, K)ᵀ of rounded factors; every hundred cells have a scale, and every row of the weights."""
    (whole, scale), parts = rounded_columns(weight, bits), []
    for first in range(0, len(cells), 100):
        part = cells[first : first + 100]
        most = np.abs(part).max()
        own = np.rint(part * (np.float32(MOST[bits]) / most if most else np.float32(0))).astype(np.int64)
        sums = own @ whole.T
        assert np.abs(sums).max() < 2**31
        parts.append(sums * (float(most) / MOST[bits]) * scale)
    return np.concatenate(parts)


def constant(made: Made, entry: list) -> np.ndarray:
    offset, shape = entry
    return np.frombuffer(bytes(made.part), "<f4", int(np.prod(shape)), offset).reshape(shape)


def run(made: Made, feed: dict[str, np.ndarray], bits: int, threads: int = 1) -> list[np.ndarray]:
    """Run on all kernels, which are to agree to the last bit, after a run on what is no number."""
    spoilt, found = {name: np.full_like(x, np.nan) for name, x in feed.items()}, []
    for kernel in kernels(bits):
        session = made.session(kernel, threads, bits)
        session.run(made.names(), spoilt)
        found.append(session.run(made.names(), feed))
        for a, b in zip(found[0], found[-1], strict=True):
            np.testing.assert_array_equal(a, b, err_msg=kernel)
    return found[0]


def off(found: np.ndarray, wanted: np.ndarray) -> float:
    """Root mean square of what an output is off, over that of the output."""
    return float(np.sqrt(np.mean((found - wanted) ** 2) / max(np.mean(wanted**2), 1e-12)))


@rounded
@pytest.mark.parametrize("cells", [1, 7, 12, 99, 100, 101, 250])
@pytest.mark.parametrize(("k", "o"), [(16, 64), (24, 96), (33, 51), (64, 16), (112, 22), (259, 17)])
def test_products_are_those_of_rounded_factors(cells: int, k: int, o: int, bits: int) -> None:
    made = Made((cells, 1, k), seed=cells + k)
    x = made.reshape(0, cells, 1, k)  # a map in memory: an input that only convolutions read lies in planes
    made.output(made.conv(x, o, kernel=(1, 1), act=[-0.5, 0.7])).output(made.conv(x, o, kernel=(1, 1)))
    feed = made.feed()
    a = feed["in0"][0, :, :, 0].T
    for found, step, within in zip(
        run(made, feed, bits), made.table["steps"][1:], [(-0.5, 0.7), (-np.inf, np.inf)], strict=True
    ):
        wanted = rounded_product(a, constant(made, step["weight"]).reshape(o, k), bits) + constant(made, step["bias"])
        assert_near([found[0, :, :, 0].T], [np.clip(wanted, *within)])


@rounded
def test_factors_that_are_whole_numbers_are_not_rounded(bits: int) -> None:
    made, most = Made((9, 11, 20)), MOST[bits]
    x = made.reshape(0, 9, 11, 20)  # in memory, as above
    made.output(made.conv(x, 64, kernel=(1, 1), act=RELU, bias=False))
    offset, shape = made.table["steps"][1]["weight"]
    weight = made.rng.integers(-127, 128, shape).astype("<f4")
    weight[:, 0] = 127
    if bits == 16:  # a column of ones and zeros is whole numbers under whatever scale leaves room
        weight = np.sign(weight)
    made.part[offset : offset + weight.nbytes] = weight.astype("<f4").tobytes()
    cells = made.rng.integers(-most, most + 1, (1, 20, 9, 11)).astype(np.float32)
    cells[0, 0] = -most
    for threads in (1, 2):
        found, wanted = run(made, {"in0": cells}, bits, threads)[0], made.wanted({"in0": cells})[0]
        if bits == 8:
            np.testing.assert_array_equal(found, wanted)
        else:
            np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-3)


@rounded
@pytest.mark.parametrize("k", [16, 672, 8192])
def test_no_sum_is_too_large(k: int, bits: int) -> None:
    """All factors as large as can be, of one sign, and in the longest sum that there is."""
    for sign in (1.0, -1.0):
        made = Made((3, 1, k))
        made.output(made.conv(made.reshape(0, 3, 1, k), 64, kernel=(1, 1), bias=False))
        offset, shape = made.table["steps"][1]["weight"]
        made.part[offset : offset + 4 * int(np.prod(shape))] = np.full(shape, 0.37, "<f4").tobytes()
        (found,) = run(made, {"in0": np.full((1, k, 3, 1), sign * 5, np.float32)}, bits)
        np.testing.assert_allclose(found, sign * 5 * 0.37 * k, rtol=1e-5)


@rounded
@pytest.mark.parametrize("size", [(1, 1), (5, 5), (10, 10), (12, 20), (40, 30), (6, 130)])
@pytest.mark.parametrize(("channels", "middle"), [(16, 64), (24, 144), (112, 672), (33, 250)])
@pytest.mark.parametrize(
    "act", [RELU, RELU6, [-1, 2], [None, 1], [0, 100]], ids=["relu", "relu6", "limits", "below", "wide"]
)
def test_blocks_are_close_to_those_in_floats(
    size: tuple[int, int], channels: int, middle: int, act: list, bits: int
) -> None:
    """With limits on both sides the depthwise convolution gives whole numbers at once, over all between them."""
    for kernel, stride in ((3, 1), (5, 2)):
        made = Made((*size, channels), seed=middle)
        x = made.depthwise(0)
        light = {"kernel": kernel, "stride": stride, "act": act}
        block = made.block(x, channels, middle=middle, light=light, add=x if stride == 1 else None, then=RELU6)
        made.output(block).output(made.block(x, 40, light=light, act=made.slope(40)))
        made.output(made.block(x, 40, light=light, bias=False))
        feed = made.feed()
        wanted = made.wanted(feed)
        for threads in (1, 2, 3):
            for ours, theirs in zip(run(made, feed, bits, threads), wanted, strict=True):
                assert 0 < off(ours, theirs) < (2 if act in (RELU6, [-1, 2]) else 1) * CLOSE[bits]


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("within", [(0, 6), (-1, 2), (-6, 0), (-1e-3, 1e-3), (3, 3.5), (-8, 8)])
def test_whole_numbers_over_limits_stand_for_what_lies_between_them(within: tuple[float, float], bits: int) -> None:
    values = np.linspace(*within, 1001, dtype=np.float32)
    found = spread(*within, bits)
    assert found is not None
    gain, start = np.float32(1) / np.float32(found.scale), np.float32(found.start)
    whole = np.rint(values * gain + start)
    assert [whole[0], whole[-1]] == [-128 if bits == 8 else -4095, MOST[bits]]
    assert np.abs(found.scale * whole.astype(np.float64) + found.middle - values).max() < 0.51 * found.scale


@pytest.mark.parametrize("within", [(0, np.inf), (-np.inf, 1), (0, 3e38), (0, 100), (2, 2), (99.9, 100), (np.nan, 1)])
def test_over_other_limits_there_are_none(within: tuple[float, float]) -> None:
    assert spread(*within, 8) is spread(*within, 16) is None


@rounded
@pytest.mark.parametrize("half", [False, True], ids=["full", "half"])
@pytest.mark.parametrize("size", [(4, 6), (10, 10), (14, 120)])
def test_additions(size: tuple[int, int], half: bool, bits: int) -> None:
    h, w = size
    made = Made((h, w, 64), (h // 2 if half else h, w // 2 if half else w, 32))
    x, add = made.depthwise(0), made.depthwise(1)
    made.output(made.conv(x, 48, kernel=(1, 1), add=add, then=RELU))
    made.output(made.block(x, 48, middle=96, add=add)).output(made.block(x, 32, add=add))
    feed = made.feed()
    for ours, theirs in zip(run(made, feed, bits), made.wanted(feed), strict=True):
        assert 0 < off(ours, theirs) < CLOSE[bits]


@rounded
@pytest.mark.parametrize("seed", range(40))
def test_steps_of_any_kind_in_any_order(seed: int, bits: int) -> None:
    made = random_plan(seed)
    feed = made.feed()
    for ours, theirs in zip(run(made, feed, bits, 1 + seed % 3), made.wanted(feed), strict=True):
        assert off(ours, theirs) < 5 * CLOSE[bits]


@rounded
def test_what_fills_a_slice_up_to_whole_panels_does_not_count(bits: int) -> None:
    """Beside the slice lie values a thousand times larger: a scale that took them along would leave nothing of it."""
    made = Made((6, 6, 48))
    x = made.depthwise(0, bias=False)
    part = made.slice(x, 16, 39)
    made.output(made.conv(part, 64, kernel=(1, 1))).output(made.block(part, 64))
    feed = made.feed()
    feed["in0"][:, 39:] *= 1000
    for ours, theirs in zip(run(made, feed, bits), made.wanted(feed), strict=True):
        assert off(ours, theirs) < CLOSE[bits]


@rounded
def test_zeros_stay_zeros_and_what_is_not_finite_stays_so(bits: int) -> None:
    made = Made((6, 6, 32))
    x = made.reshape(0, 6, 6, 32)
    made.output(made.conv(x, 40, kernel=(1, 1), bias=False)).output(made.block(x, 32, middle=96, bias=False))
    for value in (0.0, np.nan, np.inf):
        feed = {"in0": np.full((1, 32, 6, 6), value, np.float32)}
        for kernel in kernels(bits):
            conv, block = made.session(kernel, bits=bits).run(made.names(), feed)
            if value == 0.0:
                assert not conv.any()
            else:
                assert not np.isfinite(conv).any()
                assert not np.isfinite(block).any()


@rounded
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_constants_that_are_not_finite_are_refused(value: float, bits: int) -> None:
    """Behind an activation with limits nothing would tell of them."""
    made = Made((6, 6, 32))
    made.output(made.block(made.depthwise(0), 32, middle=96, light={"act": RELU6}))
    step = made.table["steps"][1]
    for entry in (
        step["expand"]["weight"],
        step["depthwise"]["weight"],
        step["depthwise"]["bias"],
        step["project"]["weight"],
    ):
        kept = bytes(made.part)
        made.part[entry[0] : entry[0] + 4] = np.array(value, "<f4").tobytes()
        with pytest.raises(BundleError, match="not finite"):
            made.session(bits=bits)
        made.session().run(made.names(), made.feed())  # floats pass them on
        made.part[:] = kept


@rounded
def test_narrow_products_and_those_of_rows_stay_in_floats(bits: int) -> None:
    made = Made((8, 8, 32))
    x = made.depthwise(0)
    made.output(made.linear(made.reshape(x, 64, 1, 32), 64), "rows")
    made.output(made.conv(x, 3, kernel=(1, 1))).output(made.block(x, 5)).output(made.conv(x, 64, kernel=(3, 3)))
    assert 32 * 5 < convolutions.WORTH < 32 * 64
    feed = made.feed()
    for ours, floats in zip(run(made, feed, bits), made.session().run(made.names(), feed), strict=True):
        np.testing.assert_array_equal(ours, floats)


# The package's network


def hand_of(bundle: Bundle | None = None, **options: str) -> np.ndarray:
    """Vertices of the sample's hand, from their middle; in one box, as looking again makes small differences larger."""
    image = read_image(ROOT / "examples/data/sample.jpg")
    height, width = image.shape[:2]
    with HandMeshTracker(bundle, mode="image", refine=0, **options) as tracker:
        (hand,) = tracker.track(image, Camera.from_fov(60, width, height), rois=[(150, 140, 450, 440)])
    return hand.vertices - hand.vertices.mean(axis=0)


@rounded
def test_the_hand_is_that_of_floats_but_for_rounding(bits: int) -> None:
    floats, ours = hand_of(precision="fp32"), hand_of(precision=f"int{bits}")
    assert 0 < np.linalg.norm(ours - floats, axis=1).mean() < {8: 2e-3, 16: 1e-4}[bits]


def test_usually_16_bits_are_taken_before_8_and_these_before_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, wanted in (((8, 16), "int16"), ((8,), "int8"), ((), "fp32")):
        monkeypatch.setattr("cmr_runtime.precision.kernels", lambda bits, there=there: ["one"] if bits in there else [])
        assert open_bundle(None).run_in == wanted


@rounded
def test_a_caller_s_bundle_runs_in_the_precision_that_is_asked_for(bits: int) -> None:
    own, name = Bundle.default(), f"int{bits}"
    ours = open_bundle(own, name)
    assert (ours.bits, ours.run_in, ours.precision) == (bits, name, "fp32")
    kept = [field.name for field in fields(own) if field.name != "bits"]
    assert [getattr(ours, each) for each in kept] == [getattr(own, each) for each in kept]
    assert open_bundle(ours) is open_bundle(ours, name) is ours
    assert open_bundle(own) is open_bundle(own, "fp32") is own
    assert open_bundle(ours, "fp32").bits == 32
    assert open_bundle(own, "auto").run_in in ("fp32", "int16", "int8")
    stored = Bundle.default("int8")
    assert open_bundle(stored, "int8") is open_bundle(stored, "auto") is stored
    for other in ("fp32", "int16"):
        with pytest.raises(InputError, match=rf"precision is '{other}', and hand_int8\.cmr was exported in int8"):
            open_bundle(stored, other)


@rounded
def test_without_the_instructions_such_a_bundle_is_run_by_its_plan_in_floats(
    monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    ours = open_bundle(None, f"int{bits}")
    floats = hand_of(ours, precision="fp32")
    assert np.any(hand_of(ours) != floats)
    real = sessions.kernels
    monkeypatch.setattr(sessions, "kernels", lambda bits=32: real() if bits == 32 else [])
    np.testing.assert_array_equal(hand_of(ours), floats)


def test_without_plans_or_with_other_providers_there_is_no_such_bundle(bundle: Bundle) -> None:
    assert in_bits(bundle, 8) is None
    assert in_bits(Bundle.default(), 8, ["OneExecutionProvider", "CPUExecutionProvider"]) is None
    assert in_bits(replace(Bundle.default(), plan=b'{"version": 1, "graphs": {}}'), 8) is None
    for name in ("int8", "int16"):
        with pytest.raises(InputError, match=r"in which hand\.cmr cannot be run here: it takes plans of both stages"):
            open_bundle(bundle, name)
    assert open_bundle(bundle, "auto") is bundle


def test_without_such_instructions_the_package_has_another_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmr_runtime.precision.kernels", lambda bits: [])
    for asked, found in ((None, "hand.cmr"), ("fp32", "hand.cmr"), ("int8", "hand_int8.cmr")):
        assert open_bundle(None, asked).source == found
    with pytest.raises(InputError, match=r"int16.*cannot be run here.*give 'fp32'$"):
        open_bundle(None, "int16")
    with HandMeshTracker(precision="int8") as tracker:
        assert tracker.bundle.source == "hand_int8.cmr"
