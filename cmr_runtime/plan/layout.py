# SPDX-License-Identifier: Apache-2.0
"""From the steps of a plan to the tables that the compiled core runs.

Everything that the core relies on is settled here: it checks nothing. Matrices of weights lie as panels of 16 columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from .maps import MOST, PANEL, Map, filled, place
from .steps import Constants

__all__ = ["DEEPEST", "FIELDS", "FREE", "KINDS", "NUMBERS", "Builder", "Layout", "Limits", "limits", "wide"]


def _words(*lines: str) -> tuple[str, ...]:
    return tuple(word for line in lines for word in line.split())


#: Columns of the core's tables, in the order of `PlanLayer` and `PlanNumbers` in core/plan.h.
FIELDS = _words(
    "kind array x h w c x_row planar out out_h out_w out_row k offsets kernel_h stride top left padded weights bias",
    "panels mid_h mid_w d_kernel d_stride d_top d_left d_weights d_bias rows chunk ring mid_c p_weights p_bias",
    "p_panels slope add add_row add_panels half then_slope partial index taps each count bits scales starts p_bits",
    "p_scales p_starts",
)
NUMBERS = _words("low high d_low d_high p_low p_high then_low then_high little p_scale p_start")
#: Kinds of layers, in the order of the enumeration there.
KINDS = _words(
    "take_planes take conv block max_pool mean_pool limit sigmoid copy mean attend rows few_rows gather reshape affine",
    "enlarge give_planes give_blocks give sigmoid_array",
)
#: What a layer has that says nothing else: what may lie somewhere lies nowhere, and products are made in floats.
_USUAL = dict.fromkeys(("array", "bias", "p_bias", "rows", "slope", "add", "then_slope", "index"), -1)
_USUAL |= {"bits": 32, "p_bits": 32}
#: Most values of one product's sum.
DEEPEST = 8192

Limits = tuple[float, float]
FREE: Limits = (-math.inf, math.inf)
_Floats = npt.NDArray[np.float32]
_Kind = TypeVar("_Kind", bound=np.generic)
_Fields = Mapping[str, float]
_EMPTY: _Fields = MappingProxyType({})


@dataclass(frozen=True)
class Layout:
    """What the core needs to run a graph.

    Attributes
    ----------
    layers : (n, len(FIELDS)) int32
    numbers : (n, len(NUMBERS)) float32
    memory, scratch, room : int
        Values of memory, of which each thread has `room` for itself from `scratch` on.
    weights : (W,) float32
    whole : (I,) int32
    """

    layers: npt.NDArray[np.int32]
    numbers: _Floats
    memory: int
    scratch: int
    room: int
    weights: _Floats
    whole: npt.NDArray[np.int32]


class Builder:
    """Collects layers and what they need.

    Attributes
    ----------
    constants : Constants
        Of the graph.
    threads : int
        That run it.
    bits : {8, 16, 32}
        Of products of whole numbers, which are made where that pays; 32 are floats.
    slots : list of Map
        That were filled so far.
    """

    def __init__(self, constants: Constants, threads: int, bits: int = 32) -> None:
        self.constants, self.threads, self.bits = constants, threads, bits
        self.slots: list[Map] = []
        self._layers: list[tuple[dict[str, float], dict[str, Map]]] = []
        self._room = 0
        self._partial = 0
        self._weights: list[npt.NDArray[Any]] = [np.zeros(PANEL, np.float32)]
        self._whole: list[npt.NDArray[Any]] = [np.arange(DEEPEST, dtype=np.int32)]
        self._kept = {"weights": PANEL, "whole": DEEPEST}

    def slot(self, slot: Any, planar: bool = False) -> Map:
        """Return a slot that was filled before; `planar`: it may lie channels first.

        Raises
        ------
        ValueError
            There is none, or it is not what can be read.
        """
        if isinstance(slot, bool) or not isinstance(slot, int) or not 0 <= slot < len(self.slots):
            raise ValueError(f"slot {slot!r} of {len(self.slots)}")
        found = self.slots[slot]
        if (found.planar and not planar) or found.sigmoid:
            raise ValueError(f"slot {slot} is for other steps")
        return found

    def add(self, kind: str, within: Limits = FREE, /, *, fields: _Fields = _EMPTY, **maps: Map) -> None:
        """Add a layer: its fields and numbers, and the maps that it reads (`x`, `add`, `index`) or writes (`out`)."""
        row = {"kind": KINDS.index(kind), "low": within[0], "high": within[1], **fields}
        self._layers.append((row, maps))

    def keep(self, values: npt.NDArray[Any]) -> int:
        """Keep constants, float32; returns where.

        With products of whole numbers, those that are not finite are refused: behind an activation with limits whole
        numbers cannot say what is no number, and what comes of it would look like any other hand.
        """
        values = values.astype(np.float32, copy=False)
        if self.bits < 32 and not np.isfinite(values).all():
            raise ValueError("constants that are not finite")
        return self._keep(values, self._weights, "weights")

    def keep_whole(self, values: npt.NDArray[Any]) -> int:
        """Keep whole numbers; returns where."""
        return self._keep(values.astype(np.int32), self._whole, "whole")

    def _keep(self, values: npt.NDArray[Any], store: list[npt.NDArray[Any]], kind: str) -> int:
        store.append(wide(values.reshape(-1)))
        at = self._kept[kind]
        self._kept[kind] += store[-1].size
        if self._kept[kind] > MOST:
            raise ValueError(f"more than {MOST} constants")
        return at

    def keep_act(self, act: Any, channels: int, slope: str, low: str, high: str) -> dict[str, float]:
        """Return the fields of an activation: limits, or a slope for each channel, under these names."""
        if isinstance(act, dict):
            kept = self.keep(wide(self.vector(act["slope"], channels)))
            return {slope: kept, low: -math.inf, high: math.inf}
        within = limits(act)
        return {low: within[0], high: within[1]}

    def keep_bias(self, entry: Any, channels: int) -> int:
        """Keep one number a channel; returns where, -1 for none."""
        return -1 if entry is None else self.keep(wide(self.vector(entry, channels)))

    def vector(self, entry: Any, channels: int) -> _Floats:
        """Return a constant of one number a channel."""
        found = self.constants(entry, 1)
        if found.shape != (channels,):
            raise ValueError(f"{found.shape} numbers for {channels} channels")
        return found

    def keep_matrix(self, matrix: _Floats, part: int = DEEPEST) -> int:
        """Keep a matrix (K, O), returns where: parts of so many rows one by one, each as panels (O / 16, rows, 16)."""
        parts = [_panels(each, 1) for each in _parts(matrix, part)]
        return self.keep(parts[0] if len(parts) == 1 else np.concatenate(parts))

    def keep_rounded(
        self, whole: npt.NDArray[np.integer[Any]], scales: _Floats, part: int = DEEPEST
    ) -> dict[str, float]:
        """Keep what `round_columns` made of a matrix (K, O); returns where, by field.

        Parts of so many rows lie one after the other, each as panels (O / 16, words, 16, values) with the 4 or 2 values
        of a word together. Kernels that take the first factor of 8 bits without a sign, 128 more, start each part's
        sums lower by what that is too much.
        """
        parts, bits = _parts(wide(whole), part), 8 * whole.itemsize
        weights = np.concatenate([_panels(each, 32 // bits) for each in parts]).view(np.float32)
        kept: dict[str, float] = {"bits": bits, "weights": self._keep(weights, self._weights, "weights")}
        kept["scales"] = self.keep(wide(scales))
        if bits == 8:
            starts = [-128 * each.sum(axis=0, dtype=np.int32) for each in parts]
            kept["starts"] = self.keep_whole(np.concatenate(starts))
        return kept

    def need(self, values: float) -> None:
        """Have so many values of memory at hand while a layer runs."""
        self._room = max(self._room, filled(int(values)))

    def need_sums(self, values: int) -> None:
        """Have so many for the sums of each thread but one."""
        self._partial = max(self._partial, values)

    def built(self) -> Layout:
        """Place all maps, and make the tables."""
        partial = place([list(maps.values()) for _, maps in self._layers])
        scratch = partial + self._partial * (self.threads - 1)
        memory = scratch + self._room * self.threads + PANEL  # the last map may be read to the end of a panel
        if memory > MOST:
            raise ValueError(f"it takes {memory} values of memory, at most {MOST} are given")
        layers = np.zeros((len(self._layers), len(FIELDS)), np.int32)
        numbers = np.zeros((len(self._layers), len(NUMBERS)), np.float32)
        for (own, maps), layer, number in zip(self._layers, layers, numbers, strict=True):
            row = _USUAL | {"partial": partial, "then_low": -math.inf, "then_high": math.inf} | own
            for name, each in maps.items():
                row |= _described(name, each)
            layer[:] = [row.get(name, 0) for name in FIELDS]
            number[:] = [row.get(name, 0.0) for name in NUMBERS]
        weights, whole = np.concatenate(self._weights), np.concatenate(self._whole)
        return Layout(layers, numbers, memory, scratch, self._room, weights, whole)


def _described(name: str, each: Map) -> dict[str, float]:
    """Return the fields that tell the core of a map."""
    if name == "x":
        place = {"x": 0, "array": each.array} if each.array >= 0 else {"x": each.start()}
        return {**place, "h": each.h, "w": each.w, "c": each.c, "x_row": each.row, "planar": int(each.planar)}
    if name == "out":
        if each.array >= 0:
            return {"array": each.array}
        return {"out": each.start(), "out_h": each.h, "out_w": each.w, "out_row": each.row}
    if name == "add":
        return {"add": each.start(), "add_row": each.row, "add_panels": filled(each.c) // PANEL}
    return {name: each.start()}


def wide(values: npt.NDArray[_Kind]) -> npt.NDArray[_Kind]:
    """Fill the last axis up to whole panels."""
    last = values.shape[-1]
    if last == filled(last):
        return values
    whole = np.zeros((*values.shape[:-1], filled(last)), values.dtype)
    whole[..., :last] = values
    return whole


def _parts(matrix: npt.NDArray[_Kind], rows: int) -> list[npt.NDArray[_Kind]]:
    if len(matrix) > DEEPEST:
        raise ValueError(f"sums over {len(matrix)} values, at most {DEEPEST} are taken")
    return [matrix[first : first + rows] for first in range(0, len(matrix), rows)]


def _panels(matrix: npt.NDArray[_Kind], together: int) -> npt.NDArray[_Kind]:
    """Return a matrix (K, O) as panels of 16 columns, of each so many rows together."""
    filled_up = np.zeros((-len(matrix) % together, matrix.shape[1]), matrix.dtype)
    rows = wide(np.concatenate([matrix, filled_up]) if len(filled_up) else matrix)
    return rows.reshape(-1, together, rows.shape[1] // PANEL, PANEL).transpose(2, 0, 3, 1).reshape(-1)


def limits(act: Any) -> Limits:
    """Return the limits of an activation."""
    low, high = (None, None) if act is None else act
    for value in (low, high):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"an activation within {act}")
    within = -math.inf if low is None else float(low), math.inf if high is None else float(high)
    if not within[0] <= within[1]:
        raise ValueError(f"an activation within {list(within)}")
    return within
