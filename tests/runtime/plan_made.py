# SPDX-License-Identifier: Apache-2.0
"""Plans made by hand or at random, with random constants, and what NumPy says that they give."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from plan_numpy import run_plan

from cmr_runtime.plan.session import PlanSession, kernels
from cmr_runtime.plan.steps import Graph, read_plan

__all__ = ["CHANNELS", "RELU", "RELU6", "ROUNDED", "Made", "assert_near", "graph_of", "random_plan", "same_padding"]

#: Bits of products of whole numbers, for tests that skip where a processor does not make these.
ROUNDED = [
    pytest.param(
        bits, marks=pytest.mark.skipif(not kernels(bits), reason=f"no core, or none of its kernels for {bits} bits")
    )
    for bits in (8, 16)
]

CHANNELS = (1, 3, 5, 16, 17, 21, 24, 32, 51, 112)
RELU, RELU6 = [0, None], [0, 6]
#: Arrays of the caller, inputs and outputs, that the core takes.
MOST_ARRAYS = 10


def graph_of(table: dict[str, Any]) -> Graph:
    """Read a graph as it stands in a bundle."""
    return read_plan(json.dumps({"version": 1, "graphs": {"mesh": table}}).encode(), "test")["mesh"]


def same_padding(size: tuple[int, int], kernel: tuple[int, int], stride: int) -> list[int]:
    """TensorFlow's SAME: where the zeros are uneven, one more at the bottom and on the right."""
    totals = [max((-(-n // stride) - 1) * stride + k - n, 0) for n, k in zip(size, kernel, strict=True)]
    return [*(total // 2 for total in totals), *(total - total // 2 for total in totals)]


class Made:
    """A plan in the making: a method for each operation, with slots as arguments and as result.

    Attributes
    ----------
    table : dict
        The graph, as it stands in a plan.
    part : bytearray
        Plays the graph's file: constants at any offset, with other bytes between them.
    shapes : list of (h, w, c)
        Of the slots.
    """

    def __init__(self, *inputs: tuple[int, int, int], seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.part, self.shapes = bytearray(b"\x08"), list(inputs)
        named = [[f"in{place}", [1, c, h, w]] for place, (h, w, c) in enumerate(inputs)]
        self.table: dict[str, Any] = {"inputs": named, "steps": [], "outputs": []}

    # Constants

    def store(self, values: np.ndarray) -> list[Any]:
        self.part.extend(b"\xff" * int(self.rng.integers(4)))
        at = len(self.part)
        self.part.extend(values.astype("<i4" if values.dtype.kind == "i" else "<f4").tobytes())
        return [at, list(values.shape)]

    def weight(self, *shape: int, sums: int) -> list[Any]:
        """Store weights that keep values about as large as they are, in sums over so many."""
        return self.store(self.rng.standard_normal(shape) / np.sqrt(sums))

    def bias(self, channels: int, there: bool = True) -> list[Any] | None:
        return self.store(0.3 * self.rng.standard_normal(channels)) if there else None

    def slope(self, channels: int) -> dict[str, Any]:
        """Activation of a slope for each channel."""
        return {"slope": self.store(self.rng.uniform(-0.5, 1.5, channels))}

    def half(self, entry: list[Any]) -> list[Any]:
        """The same constant in half precision."""
        offset, shape = entry
        values = np.frombuffer(bytes(self.part), "<f4", int(np.prod(shape)), offset).astype("<f2")
        self.part.extend(values.tobytes())
        return [len(self.part) - values.nbytes, shape, "half"]

    # Steps

    def step(self, op: str, gives: tuple[int, int, int], /, **keys: Any) -> int:
        self.table["steps"].append(json.loads(json.dumps({"op": op, **keys})))  # shares nothing: some tests spoil it
        self.shapes.append(gives)
        return len(self.shapes) - 1

    def convolved(self, shape, weights, stride, pads, channels) -> tuple[int, int, int]:
        kh, kw = weights[1][2:]
        h, w = (shape[0] + pads[0] + pads[2] - kh) // stride + 1, (shape[1] + pads[1] + pads[3] - kw) // stride + 1
        assert min(h, w) > 0
        return h, w, channels

    def dense(self, shape, o, kernel=(3, 3), stride=1, pads=None, act=None, bias=True) -> tuple[dict, tuple]:
        weight = self.weight(o, shape[2], *kernel, sums=shape[2] * kernel[0] * kernel[1])
        pads = same_padding(shape[:2], kernel, stride) if pads is None else pads
        spec = {"weight": weight, "bias": self.bias(o, bias), "stride": stride, "pads": pads, "act": act}
        return spec, self.convolved(shape, weight, stride, pads, o)

    def light(self, shape, kernel=3, stride=1, pads=None, act=None, bias=True) -> tuple[dict, tuple]:
        weight = self.weight(shape[2], 1, kernel, kernel, sums=kernel * kernel)
        pads = same_padding(shape[:2], (kernel, kernel), stride) if pads is None else pads
        spec = {"weight": weight, "bias": self.bias(shape[2], bias), "stride": stride, "pads": pads, "act": act}
        return spec, self.convolved(shape, weight, stride, pads, shape[2])

    def conv(self, x, o, *, add=None, then=None, **more) -> int:
        spec, shape = self.dense(self.shapes[x], o, **more)
        return self.step("conv", shape, x=x, **spec, add=add, then=then)

    def depthwise(self, x, *, before=None, **more) -> int:
        spec, shape = self.light(self.shapes[x], **more)
        return self.step("depthwise", shape, x=x, before=before, **spec)

    def block(
        self, x, o, *, middle=None, before=None, expand=None, light=None, act=None, add=None, then=None, bias=True
    ):
        """`middle`: channels to which it expands; None: it does not. `expand` and `light`: more of those layers."""
        first, shape = (None, self.shapes[x])
        if middle is not None:
            first, shape = self.dense(shape, middle, **{"kernel": (1, 1), "act": RELU, **(expand or {})})
        second, shape = self.light(shape, **{"act": RELU, **(light or {})})
        last = {"weight": self.weight(o, shape[2], 1, 1, sums=shape[2]), "bias": self.bias(o, bias), "act": act}
        keys = {"before": before, "expand": first, "depthwise": second, "project": last, "add": add, "then": then}
        return self.step("block", (*shape[:2], o), x=x, **keys)

    def linear(self, x, o, order="oi", act=None, bias=True) -> int:
        r, _, c = self.shapes[x]
        weight = self.weight(*((o, c) if order == "oi" else (c, o)), sums=c)
        return self.step("linear", (r, 1, o), x=x, weight=weight, order=order, bias=self.bias(o, bias), act=act)

    def rows(self, x, q, order="oi", act=None, bias=True) -> int:
        r, _, c = self.shapes[x]
        weight = self.weight(*((q, r) if order == "oi" else (r, q)), sums=r)
        return self.step("rows", (q, 1, c), x=x, weight=weight, order=order, bias=self.bias(c, bias), act=act)

    def gather(self, x, v, s, each=False, scale=0.5, act=None, bias=True) -> int:
        r, _, c = self.shapes[x]
        index = self.store(self.rng.integers(0, r, v * s))
        weight = self.weight(*((v, s, 1) if each else (s, c)), sums=s)
        more = {"scale": scale, "bias": self.bias(c, bias), "act": act}
        return self.step("gather", (v, 1, c), x=x, index=index, weight=weight, **more)

    def pool(self, x, kind="max") -> int:
        h, w, c = self.shapes[x]
        return self.step("pool", (h // 2, w // 2, c), x=x, kind=kind)

    def act(self, x, act) -> int:
        return self.step("act", self.shapes[x], x=x, act=act)

    def slice(self, x, first, end) -> int:
        return self.step("slice", (*self.shapes[x][:2], end - first), x=x, **{"from": first, "to": end})

    def concat(self, *x, axis="channels") -> int:
        (h, w, c), shapes = self.shapes[x[0]], [self.shapes[part] for part in x]
        if axis == "rows":
            return self.step("concat", (sum(shape[0] for shape in shapes), w, c), x=list(x), axis=axis)
        return self.step("concat", (h, w, sum(shape[2] for shape in shapes)), x=list(x), axis=axis)

    def enlarge(self, x, act=None, add=None) -> int:
        h, w, c = self.shapes[x]
        return self.step("enlarge", (2 * h, 2 * w, c), x=x, act=act, add=add)

    def affine(self, x, scale=0.3) -> int:
        r, _, c = self.shapes[x]
        return self.step("affine", (r, 1, c), x=x, offset=self.store(self.rng.standard_normal((r, c))), scale=scale)

    def mean(self, x) -> int:
        return self.step("mean", (1, 1, self.shapes[x][2]), x=x)

    def reshape(self, x, *shape) -> int:
        return self.step("reshape", shape, x=x, shape=list(shape))

    def attend(self, maps, x, eps=1e-3) -> int:
        return self.step("attend", (self.shapes[maps][2], 1, self.shapes[x][2]), maps=maps, x=x, eps=eps)

    def output(self, slot, form="map") -> Made:
        h, w, c = self.shapes[slot]
        shape = {"map": [1, c, h, w], "blocks": [1, c // 4, 2 * h, 2 * w], "rows": [1, h * w, c], "row": [1, h * w * c]}
        self.table["outputs"].append([f"out{len(self.table['outputs'])}", slot, shape[form]])
        return self

    # What it gives

    def feed(self, scale: float = 1.0) -> dict[str, np.ndarray]:
        return {
            name: (scale * self.rng.standard_normal(shape)).astype(np.float32) for name, shape in self.table["inputs"]
        }

    def session(self, kernel: str | None = None, threads: int = 1, bits: int = 32) -> PlanSession:
        return PlanSession(graph_of(self.table), bytes(self.part), "test", threads, kernel, bits)

    def wanted(self, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        with np.errstate(over="ignore"):
            return list(run_plan(self.table, bytes(self.part), feed).values())

    def names(self) -> list[str]:
        return [name for name, *_ in self.table["outputs"]]

    def check(self, feed: dict[str, np.ndarray] | None = None, threads: tuple[int, ...] = (1, 2)) -> list[np.ndarray]:
        """Compare with NumPy on all kernels, which are to agree to the last bit, after a run on what is no number."""
        assert self.table["outputs"]
        feed = self.feed() if feed is None else feed
        wanted, spoilt = self.wanted(feed), {name: np.full_like(x, np.nan) for name, x in feed.items()}
        for count in threads:
            found: list[list[np.ndarray]] = []
            for kernel in kernels():
                session = self.session(kernel, count)
                session.run(self.names(), spoilt)
                found.append(session.run(self.names(), feed))
                assert_near(found[-1], wanted, f"{kernel}, {count} threads")
                for a, b in zip(found[0], found[-1], strict=True):
                    np.testing.assert_array_equal(a, b, err_msg=f"{kernel}, {count} threads")
        return found[0]


def assert_near(found: list[np.ndarray], wanted: list[np.ndarray], message: str = "") -> None:
    """Compare what a plan gives with NumPy's float64."""
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours.dtype, ours.shape) == (np.float32, theirs.shape)
        size = max(float(np.abs(theirs).max()), 1e-3)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * size, err_msg=message)


# At random


def _activation(rng: np.random.Generator) -> list | None:
    return [None, None, RELU, RELU6, [-0.5, 0.5], [None, 0.2], [0.1, None]][rng.integers(7)]


def _pads(rng: np.random.Generator, size: tuple[int, int], kernel: tuple[int, int], stride: int) -> list[int]:
    """TensorFlow's, or as many on each side as please, up to those with which a kernel still meets the map."""
    if rng.integers(2):
        return same_padding(size, kernel, stride)
    before = [int(rng.integers(k)) for k in kernel]
    after = [int(rng.integers(k - b)) for k, b in zip(kernel, before, strict=True)]
    if any(n + b + a < k for n, k, b, a in zip(size, kernel, before, after, strict=True)):
        return same_padding(size, kernel, stride)
    return [*before, *after]


def _added(made: Made, shape: tuple[int, ...]) -> int | None:
    """A slot that can be added to a map of this height and width, of whatever channels."""
    fits = [
        slot for slot, (h, w, _) in enumerate(made.shapes) if (h, w) == tuple(shape) or (2 * h, 2 * w) == tuple(shape)
    ]
    return int(made.rng.choice(fits)) if fits and made.rng.integers(2) else None


def _random_convolution(made: Made, op: str, x: int) -> None:
    rng, size = made.rng, made.shapes[x][:2]
    act = {"act": _activation(rng), "bias": bool(rng.integers(2))}
    kernel, stride = [(1, 1), (1, 1), (3, 3), (2, 2), (1, 3), (3, 1), (5, 5)][rng.integers(7)], int(rng.integers(1, 3))
    dense = {"kernel": kernel, "stride": stride, "pads": _pads(rng, size, kernel, stride), **act}
    light = int(rng.choice([3, 5])), int(rng.integers(1, 3))
    if op == "conv":
        _, reached = Made((*size, 1)).dense((*size, 1), 1, kernel, stride, dense["pads"])
    elif op == "block" and rng.integers(3):
        expand = dense if rng.integers(3) == 0 else act
        _, inner = Made((*size, 1)).dense((*size, 1), 1, **{"kernel": (1, 1), **expand})
    else:
        expand, inner = None, size
    if op != "conv":
        more = {"kernel": light[0], "stride": light[1], "pads": _pads(rng, inner[:2], light[:1] * 2, light[1])}
        more |= {"act": _activation(rng), "bias": bool(rng.integers(2))}
        if op == "depthwise":
            made.depthwise(x, before=_activation(rng), **more)
            return
        _, reached = Made((*inner[:2], 1)).light((*inner[:2], 1), **more)
    add = _added(made, reached[:2])
    channels = int(rng.choice(CHANNELS)) if add is None else made.shapes[add][2]
    if add is not None and channels % 16 == 0 and rng.integers(2):
        channels += int(rng.choice([1, 16, 20]))  # it is added to the first ones
    joined = {"add": add, "then": made.slope(channels) if rng.integers(3) == 0 else _activation(rng)}
    if op == "conv":
        made.conv(x, channels, **dense, **joined)
    elif expand is None:
        made.block(x, channels, before=_activation(rng), light=more, **act, **joined)
    else:
        middle = int(rng.choice([*CHANNELS, 160, 250]))
        made.block(x, channels, middle=middle, expand=expand, light=more, **act, **joined)


def _random_concat(made: Made, x: int, axis: str) -> None:
    along = {"rows": slice(1, 3), "channels": slice(0, 2)}[axis]
    fits = [slot for slot, shape in enumerate(made.shapes) if shape[along] == made.shapes[x][along]]
    chosen = [int(slot) for slot in made.rng.choice(fits, made.rng.integers(0, 3))]
    if sum(made.shapes[slot][2] for slot in [x, *chosen]) <= 400:
        made.concat(x, *chosen, axis=axis)


def _random_step(made: Made, x: int) -> None:
    rng, (h, w, c) = made.rng, made.shapes[x]
    ops = ["conv", "conv", "block", "block", "depthwise", "act", "concat", "concat", "slice", "slice"]
    ops += ["mean"] if rng.integers(3) == 0 else []
    ops += ["pool"] * 2 if h % 2 == w % 2 == 0 else []
    ops += ["linear", "rows", "gather"] * 2 if w == 1 else []
    ops += ["reshape"]
    ops += ["attend"] if h * w > 1 and c <= 24 else []
    ops += ["enlarge"] if h * w < 100 else []
    ops += ["affine"] if w == 1 else []
    op, act = str(rng.choice(ops)), _activation(rng)
    if op in ("conv", "block", "depthwise"):
        _random_convolution(made, op, x)
    elif op == "act":
        made.act(x, "sigmoid" if rng.integers(2) else act)
    elif op == "concat":
        _random_concat(made, x, str(rng.choice(["rows", "channels"])))
    elif op == "slice":
        first = int(rng.integers(c))
        made.slice(x, first, int(rng.integers(first + 1, c + 1)))
    elif op == "mean":
        made.mean(x)
    elif op == "pool":
        made.pool(x, str(rng.choice(["max", "mean"])))
    elif op == "linear":
        made.linear(x, int(rng.choice(CHANNELS)), str(rng.choice(["oi", "io"])), act, bool(rng.integers(2)))
    elif op == "rows":
        made.rows(x, int(rng.integers(1, 40)), str(rng.choice(["oi", "io"])), act, bool(rng.integers(2)))
    elif op == "gather":
        made.gather(x, int(rng.integers(1, 40)), int(rng.integers(1, 5)), bool(rng.integers(2)), 0.7, act)
    elif op == "reshape":
        shapes = [(h * w, 1, c), (1, h, w * c), (c, w, h), (1, 1, h * w * c)]
        made.reshape(x, *shapes[rng.integers(4)])
    elif op == "enlarge":
        _, add = rng.integers(2), _added(made, (2 * h, 2 * w))
        same = add is not None and made.shapes[add] == (2 * h, 2 * w, c)
        made.enlarge(x, made.slope(c) if rng.integers(2) else act, add if same else None)
    elif op == "affine":
        made.affine(x)
    elif op == "attend":
        maps = made.act(x, "sigmoid")
        fits = [slot for slot, shape in enumerate(made.shapes) if shape[:2] == (h, w)]
        made.attend(maps, int(rng.choice(fits)))


def random_plan(seed: int) -> Made:
    """A plan of some 5 to 15 steps, each of whatever slots; of these, some are outputs."""
    rng = np.random.default_rng([seed, 7])
    size = int(rng.integers(1, 19)), int(rng.integers(1, 19))
    inputs = [(*size, int(rng.choice(CHANNELS))) for _ in range(rng.integers(1, 4))]
    made = Made(*inputs, seed=seed)
    for _ in range(rng.integers(5, 16)):
        slots = len(made.shapes)
        _random_step(made, slots - 1 if rng.integers(2) else int(rng.integers(slots)))
    last = len(made.shapes) - 1
    chosen = [slot for slot in range(len(inputs), last) if rng.integers(3) == 0]
    for slot in [*chosen, last][-MOST_ARRAYS + len(inputs) :]:
        _, w, c = made.shapes[slot]
        forms = ["map"] + (["blocks"] if c % 4 == 0 else []) + (["rows"] if w == 1 else [])
        made.output(slot, str(rng.choice(forms)))
    return made
