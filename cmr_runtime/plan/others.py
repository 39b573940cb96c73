# SPDX-License-Identifier: Apache-2.0
"""The steps of a plan that are no convolutions, its inputs and its outputs, laid out for the core."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .convolutions import added
from .layout import DEEPEST, Builder, limits, wide
from .maps import PANEL, Map, filled
from .steps import number, sizes_of

__all__ = [
    "act",
    "affine",
    "attend",
    "concat",
    "enlarge",
    "gather",
    "give",
    "mean",
    "pool",
    "reshape",
    "rows",
    "slice_",
    "take",
]

#: Fewer channels than this are not worth a panel of their own in a product with rows.
FEW = 5

_Step = dict[str, Any]


def take(builder: Builder, place: int, shape: tuple[int, ...], planar: bool) -> Map:
    """Lay out an input (1, C, H, W), the caller's array of that place; `planar`: it may stay as it is."""
    one, c, h, w = shape
    if one != 1:
        raise ValueError(f"an input of shape {list(shape)}")
    given = Map(h, w, c, array=place, planar=True)
    if planar:
        return given
    out = Map(h, w, c)
    builder.add("take", x=given, out=out)
    return out


def give(builder: Builder, place: int, x: Map, shape: tuple[int, ...]) -> None:
    """Lay out an output of that shape: the caller's array of that place."""
    if x.planar:
        raise ValueError("an output that is an input")
    to = Map(1, 1, 1, array=place)
    if shape == (1, x.c, x.h, x.w):
        builder.add("give_planes", x=x, out=to)
    elif len(shape) == 4 and x.c % 4 == 0 and shape == (1, x.c // 4, 2 * x.h, 2 * x.w):
        builder.add("give_blocks", x=x, out=to)
    elif len(shape) < 4 and math.prod(shape) == x.cells * x.c and shape[-1] == x.c:
        builder.add("give", x=x, out=to, fields={"count": x.cells})
    else:
        raise ValueError(f"a map {x.shape} as an output of shape {list(shape)}")
    if x.sigmoid:
        builder.add("sigmoid_array", out=to, fields={"count": math.prod(shape)})


def act(builder: Builder, step: _Step, at_the_end: bool) -> Map:
    """Lay out an activation; `at_the_end`: only outputs read it."""
    x = builder.slot(step["x"])
    if step["act"] == "sigmoid" and at_the_end:
        return Map(*x.shape, parent=x, sigmoid=True)
    out = Map(*x.shape)
    count = {"count": filled(x.c)}
    if step["act"] == "sigmoid":
        builder.add("sigmoid", fields=count, x=x, out=out)
    else:
        builder.add("limit", limits(step["act"]), fields=count, x=x, out=out)
    return out


def pool(builder: Builder, step: _Step) -> Map:
    """Lay out a pool of 2 x 2 cells."""
    x = builder.slot(step["x"])
    out = Map(x.h // 2, x.w // 2, x.c)
    builder.add({"max": "max_pool", "mean": "mean_pool"}[step["kind"]], fields={"count": filled(x.c)}, x=x, out=out)
    return out


def mean(builder: Builder, step: _Step) -> Map:
    """Lay out a mean over all cells."""
    x = builder.slot(step["x"])
    out = Map(1, 1, x.c)
    builder.add("mean", fields={"count": filled(x.c)}, x=x, out=out)
    return out


def slice_(builder: Builder, step: _Step) -> Map:
    """Take some channels: no layer, but a part of the map."""
    x = builder.slot(step["x"])
    first = number(step["from"], 0, x.c - 1)
    end = number(step["to"], first + 1, x.c)
    return Map(x.h, x.w, end - first, parent=x, offset=first)


def concat(builder: Builder, step: _Step) -> Map:
    """Put maps together: where they can, they lie in the whole from the start."""
    parts = [builder.slot(slot, planar=True) for slot in step["x"]]
    first, planar = parts[0], {part.planar for part in parts}
    along_rows = {"rows": True, "channels": False}[step["axis"]]
    same = [part.shape[1:] if along_rows else part.shape[:2] for part in parts]
    if len(set(same)) != 1 or len(planar) != 1 or (first.planar and along_rows):
        raise ValueError(f"maps {[part.shape for part in parts]} in one, along {step['axis']}")
    if along_rows:
        out = Map(sum(part.h for part in parts), first.w, first.c)
    else:
        out = Map(first.h, first.w, sum(part.c for part in parts), planar=first.planar)
    at = 0
    for part in parts:
        if first.planar:
            to = Map(part.h, part.w, part.c, planar=True, parent=out, offset=at)
            builder.add("take_planes", fields={"count": part.c * part.cells}, x=part, out=to)
            at += part.c * part.cells
            continue
        if not part.part(out, at):
            to = Map(*part.shape, parent=out, offset=at)
            builder.add("copy", fields={"count": part.c}, x=part, out=to)
        at += part.cells * out.fixed_row() if along_rows else part.c
    return out


def reshape(builder: Builder, step: _Step) -> Map:
    """See the same values, in their order, as another map."""
    x, (h, w, c) = builder.slot(step["x"]), sizes_of(step["shape"])
    if h * w * c != x.cells * x.c:
        raise ValueError(f"a map {x.shape} as one of {[h, w, c]}")
    if c == filled(c) and (x.cells == 1 or x.row == x.c):  # without gaps before and after
        x.fixed_row()
        return Map(h, w, c, parent=x, own_row=c)
    out = Map(h, w, c)
    builder.add("reshape", fields={"count": c}, x=x, out=out)
    return out


def affine(builder: Builder, step: _Step) -> Map:
    """Lay out an addition of constants, and a factor."""
    x, offset = builder.slot(step["x"]), builder.constants(step["offset"], 2)
    if offset.shape != (x.cells, x.c):
        raise ValueError(f"constants {offset.shape} for a map {x.shape}")
    out = Map(*x.shape)
    fields = {"weights": builder.keep(offset), "little": _real(step["scale"])}
    builder.add("affine", fields=fields, x=x, out=out)
    return out


def enlarge(builder: Builder, step: _Step) -> Map:
    """Lay out an enlargement to twice the height and width, between cells linearly."""
    x = builder.slot(step["x"])
    out = Map(2 * x.h, 2 * x.w, x.c)
    together = added(builder, step, out)
    if together and together["add"].shape != out.shape:
        raise ValueError(f"a map {together['add'].shape} added to one of {out.shape}")
    fields = builder.keep_act(step["act"], x.c, "slope", "low", "high") | {"count": filled(x.c)}
    builder.add("enlarge", fields=fields, x=x, out=out, **together)
    return out


def attend(builder: Builder, step: _Step) -> Map:
    """Lay out means of features, weighted by maps."""
    maps, x = builder.slot(step["maps"]), builder.slot(step["x"])
    if maps.shape[:2] != x.shape[:2]:
        raise ValueError(f"maps {maps.shape} for features {x.shape}")
    out = Map(maps.c, 1, x.c)
    fields = {"taps": maps.c, "each": maps.fixed_row(), "panels": filled(out.c) // PANEL, "little": _real(step["eps"])}
    fields["offsets"] = builder.keep_whole(np.arange(x.cells) * maps.row)
    builder.add("attend", fields=fields, x=x, index=maps, out=out)
    return out


def rows(builder: Builder, step: _Step) -> Map:
    """Lay out a product with a matrix on the left."""
    x, weight = builder.slot(step["x"]), builder.constants(step["weight"], 2)
    matrix = weight.T if {"io": True, "oi": False}[step["order"]] else weight
    if matrix.shape[1] != x.h or x.w != 1 or x.h > DEEPEST:
        raise ValueError(f"weights {matrix.shape} for a map {x.shape}, of at most {DEEPEST} rows")
    out = Map(matrix.shape[0], 1, x.c)
    fields: dict[str, float] = {"bias": builder.keep_bias(step["bias"], x.c)}
    if x.c < FEW:  # turned, so that registers hold rows
        fields |= {"panels": filled(out.h) // PANEL, "weights": builder.keep_matrix(matrix.T)}
        fields["offsets"] = builder.keep_whole(np.arange(x.h) * x.fixed_row())
        builder.need(x.c * filled(out.h))
    else:
        fields |= {"panels": filled(x.c) // PANEL, "weights": builder.keep(matrix)}
    builder.add("few_rows" if x.c < FEW else "rows", limits(step["act"]), fields=fields, x=x, out=out)
    return out


def gather(builder: Builder, step: _Step) -> Map:
    """Lay out weighted sums of rows."""
    x, weight = builder.slot(step["x"]), builder.constants(step["weight"]) * np.float32(_real(step["scale"]))
    index = builder.constants.whole(step["index"])
    each = weight.ndim == 3
    taps = weight.shape[1 if each else 0]
    count = index.size // taps
    if weight.shape != ((count, taps, 1) if each else (taps, x.c)) or index.size != count * taps or x.w != 1:
        raise ValueError(f"weights {weight.shape} and {index.size} rows to gather of a map {x.shape}")
    if index.min() < 0 or index.max() >= x.h:
        raise ValueError(f"rows {index.min()} to {index.max()} to gather of {x.h}")
    out = Map(count, 1, x.c)
    fields = {"index": builder.keep_whole(index), "taps": taps, "each": int(each), "panels": filled(x.c) // PANEL}
    fields |= {"weights": builder.keep(weight if each else wide(weight)), "bias": builder.keep_bias(step["bias"], x.c)}
    builder.add("gather", limits(step["act"]), fields=fields, x=x, out=out)
    return out


def _real(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} in place of a number")
    return float(value)
