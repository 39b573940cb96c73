# SPDX-License-Identifier: Apache-2.0
"""Plans run in NumPy, word for word as their form is described: what the engine in C is to compute."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def constant(graph: bytes, place: list[Any], dtype: str = "<f4") -> np.ndarray:
    """Read a constant from the graph's bytes."""
    offset, shape, *kind = place
    assert kind in ([], ["half"]), place
    dtype = "<f2" if kind else dtype
    return np.frombuffer(graph, dtype, int(np.prod(shape)), offset).reshape(shape)


def run_plan(
    plan: dict[str, Any], graph: bytes, feed: dict[str, np.ndarray], dtype=np.float64
) -> dict[str, np.ndarray]:
    """Outputs of one graph's plan by name."""
    slots = [feed[name].astype(dtype).reshape(shape)[0].transpose(1, 2, 0) for name, shape in plan["inputs"]]
    machine = Machine(graph, slots)
    for step in plan["steps"]:
        arguments = {{"from": "first", "to": "last"}.get(key, key): value for key, value in step.items() if key != "op"}
        result = getattr(machine, step["op"])(**arguments)
        assert result.ndim == 3, step
        assert result.dtype == dtype, step
        slots.append(result)
    return {name: output(slots[slot], shape) for name, slot, shape in plan["outputs"]}


def output(slot: np.ndarray, shape: list[int]) -> np.ndarray:
    if len(shape) != 4:
        return slot.reshape(shape)
    height, width, channels = slot.shape
    if shape[2] == 2 * height:  # DepthToSpace: blocks of 2 x 2 lie before the channels
        slot = slot.reshape(height, width, 2, 2, channels // 4).transpose(0, 2, 1, 3, 4)
        slot = slot.reshape(2 * height, 2 * width, channels // 4)
    return slot.transpose(2, 0, 1)[None].reshape(shape)


class Machine:
    """One method an operation, with the keys of its step as arguments."""

    def __init__(self, graph: bytes, slots: list[np.ndarray]) -> None:
        self.graph = graph
        self.slots = slots

    def weight(self, place, order="oi") -> np.ndarray:
        """As (outputs, inputs, ...), in the type of the slots."""
        weight = constant(self.graph, place).astype(self.slots[0].dtype)
        return weight.T if order == "io" else weight

    def acted(self, x, act) -> np.ndarray:
        if act is None:
            return x
        if act == "sigmoid":
            return 1 / (1 + np.exp(-x))
        if isinstance(act, dict):
            return np.where(x > 0, x, self.weight(act["slope"]) * x)
        low, high = act
        return np.clip(x, -np.inf if low is None else low, np.inf if high is None else high)

    def finish(self, total, bias, act, add=None, then=None) -> np.ndarray:
        total = self.acted(total if bias is None else total + self.weight(bias), act)
        if add is None:
            return self.acted(total, then)
        other = self.slots[add]
        if other.shape[:2] != total.shape[:2]:
            assert (2 * other.shape[0], 2 * other.shape[1]) == total.shape[:2]
            other = other.repeat(2, 0).repeat(2, 1)
        if missing := total.shape[2] - other.shape[2]:
            assert missing > 0
            assert other.shape[2] % 16 == 0
            other = np.pad(other, ((0, 0), (0, 0), (0, missing)))
        return self.acted(total + other, then)

    def windows(self, x, kernel, stride, pads) -> np.ndarray:
        """(H, W, C, k, k)."""
        top, left, bottom, right = pads
        padded = np.pad(x, ((top, bottom), (left, right), (0, 0)))
        return sliding_window_view(padded, kernel, (0, 1))[::stride, ::stride]

    def conv(self, x, weight, bias, stride, pads, act, add, then) -> np.ndarray:
        weight = self.weight(weight)
        windows = self.windows(self.slots[x], weight.shape[2:], stride, pads)
        return self.finish(np.tensordot(windows, weight, ((2, 3, 4), (1, 2, 3))), bias, act, add, then)

    def depthwise(self, x, weight, bias, stride, pads, act, before) -> np.ndarray:
        weight = self.weight(weight)[:, 0]
        windows = self.windows(self.acted(self.slots[x], before), weight.shape[1:], stride, pads)
        return self.finish(np.einsum("hwckl,ckl->hwc", windows, weight), bias, act)

    def block(self, x, before, expand, depthwise, project, add, then) -> np.ndarray:
        inner = Machine(self.graph, [*self.slots])
        inner.slots.append(self.slots[x] if expand is None else inner.conv(x, **expand, add=None, then=None))
        inner.slots.append(inner.depthwise(len(inner.slots) - 1, **depthwise, before=before))
        return inner.conv(len(inner.slots) - 1, **project, stride=1, pads=[0] * 4, add=add, then=then)

    def linear(self, x, weight, order, bias, act) -> np.ndarray:
        assert self.slots[x].shape[1] == 1
        return self.finish(self.slots[x] @ self.weight(weight, order).T, bias, act)

    def rows(self, x, weight, order, bias, act) -> np.ndarray:
        assert self.slots[x].shape[1] == 1
        return self.finish((self.weight(weight, order) @ self.slots[x][:, 0])[:, None], bias, act)

    def pool(self, x, kind) -> np.ndarray:
        x = self.slots[x]
        cells = x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, x.shape[2])
        return cells.max((1, 3)) if kind == "max" else cells.mean((1, 3))

    def act(self, x, act) -> np.ndarray:
        return self.acted(self.slots[x], act)

    def slice(self, x, first, last) -> np.ndarray:
        return self.slots[x][..., first:last]

    def concat(self, x, axis) -> np.ndarray:
        return np.concatenate([self.slots[k] for k in x], {"rows": 0, "channels": 2}[axis])

    def mean(self, x) -> np.ndarray:
        return self.slots[x].mean((0, 1), keepdims=True)

    def reshape(self, x, shape) -> np.ndarray:
        return self.slots[x].reshape(shape)

    def enlarge(self, x, act, add) -> np.ndarray:
        x = self.slots[x]
        for axis, size in enumerate(x.shape[:2]):
            place = (np.arange(2 * size) + 0.5) / 2 - 0.5
            first = np.floor(place).astype(int)
            share = np.expand_dims((place - first).astype(x.dtype), (1, 2) if axis == 0 else (0, 2))
            near, far = (x.take(np.clip(at, 0, size - 1), axis) for at in (first, first + 1))
            x = near * (1 - share) + far * share
        assert add is None or self.slots[add].shape == x.shape
        return self.finish(x, None, act, add)

    def affine(self, x, offset, scale) -> np.ndarray:
        assert self.slots[x].shape[1] == 1
        return (self.slots[x] + self.weight(offset)[:, None]) * scale

    def attend(self, maps, x, eps) -> np.ndarray:
        maps, x = self.slots[maps], self.slots[x]
        total = np.einsum("hwj,hwc->jc", maps, x) / (maps.sum((0, 1)) + eps)[:, None]
        return total[:, None]

    def gather(self, x, index, weight, scale, bias, act) -> np.ndarray:
        assert self.slots[x].shape[1] == 1
        weight = self.weight(weight)
        taken = self.slots[x][constant(self.graph, index, "<i4"), 0].reshape(
            -1, weight.shape[-2], self.slots[x].shape[2]
        )
        return self.finish(scale * (taken * weight).sum(1), bias, act)[:, None]
