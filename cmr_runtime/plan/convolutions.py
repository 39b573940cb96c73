# SPDX-License-Identifier: Apache-2.0
"""The steps of a plan that are convolutions, laid out for the core."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .layout import Builder, limits, wide
from .maps import PANEL, Map, filled
from .rounding import round_columns, spread
from .steps import number

__all__ = ["added", "block", "conv", "depthwise", "linear"]

#: Bytes that a block keeps at a time: about what a first cache holds, 32 to 128 kB. On a Xeon with 48 kB the default
#: network takes least time from 48,000 to 80,000.
CLOSE = 56_000
#: Largest map that a block expands as a whole, pixels.
WHOLE = 100

#: Largest stride and pad.
_FAR = 4096

#: Cells that are rounded at a time for a product of whole numbers (`PLAN_ROUNDED` in core/plan.h).
ROUNDED = 100
#: Multiply-adds of a cell from which a product of whole numbers is quicker, with what rounding the cell's values takes.
#: What gives maps is narrower. Products of rows (`linear`), which give positions, stay in float, too: few of a frame's
#: multiply-adds, they would bring half of the jitter that eight bits cost, and 0.3 mm of error.
WORTH = 1024

_Step = dict[str, Any]
_Fields = dict[str, Any]
_Floats = npt.NDArray[np.float32]


def conv(builder: Builder, step: _Step) -> Map:
    """Lay out a dense convolution."""
    x = builder.slot(step["x"], planar=True)
    fields, (h, w, c), room = _convolution(builder, x, step)
    builder.need(room)
    out = Map(h, w, c)
    fields |= builder.keep_act(step["act"], c, "slope", "low", "high")
    builder.add("conv", fields=fields | _after(builder, step, out), x=x, out=out, **added(builder, step, out))
    return out


def linear(builder: Builder, step: _Step) -> Map:
    """Lay out a product with a matrix on the right."""
    x, weight = builder.slot(step["x"]), builder.constants(step["weight"], 2)
    matrix = weight if {"io": True, "oi": False}[step["order"]] else weight.T
    if matrix.shape[0] != x.c or x.w != 1:
        raise ValueError(f"weights {matrix.shape} for a map {x.shape}")
    out = Map(x.h, 1, matrix.shape[1])
    fields = {"k": x.c, "offsets": 0, "kernel_h": 1, "stride": 1, "panels": filled(out.c) // PANEL}
    fields |= {"weights": builder.keep_matrix(matrix), "bias": builder.keep_bias(step["bias"], out.c)}
    builder.add("conv", limits(step["act"]), fields=fields, x=x, out=out)
    return out


def depthwise(builder: Builder, step: _Step) -> Map:
    """Lay out a depthwise convolution: a block that neither expands nor projects."""
    x = builder.slot(step["x"])
    fields, (h, w) = _depthwise(builder, x.shape, step)
    out = Map(h, w, x.c)
    _share(builder, fields, out, whole=False)
    builder.add("block", limits(step["before"]), fields=fields, x=x, out=out)
    return out


def block(builder: Builder, step: _Step) -> Map:
    """Lay out an expanding, a depthwise and a projecting convolution, of which the first may lack."""
    x, project = builder.slot(step["x"], planar=step["expand"] is not None), step["project"]
    fields: _Fields = {}
    shape, room, within, whole = x.shape, 0, limits(step["before"]), False
    if step["expand"] is not None:
        if step["before"] is not None:
            raise ValueError("an activation before a convolution")
        fields, shape, room = _convolution(builder, x, step["expand"])
        within = limits(step["expand"]["act"])
        pointwise = fields["k"] == x.c and fields["stride"] == 1 and not fields["padded"]
        whole = pointwise and shape[0] * shape[1] <= WHOLE
    middle, (h, w) = _depthwise(builder, shape, step["depthwise"])
    weight = builder.constants(project["weight"], 4)
    if weight.shape[1:] != (shape[2], 1, 1):
        raise ValueError(f"weights {weight.shape} behind {shape[2]} channels")
    out = Map(h, w, weight.shape[0])
    fields |= middle | {"p_panels": filled(out.c) // PANEL}
    fields |= builder.keep_act(project["act"], out.c, "slope", "p_low", "p_high") | _after(builder, step, out)
    matrix = weight[:, :, 0, 0].T
    bits = builder.bits if matrix.size >= WORTH else 32
    _share(builder, fields, out, whole and not fields["half"], room, bits)
    bias = None if project["bias"] is None else builder.vector(project["bias"], out.c)
    fields |= _projection(builder, matrix, bias, bits, fields)
    builder.add("block", within, fields=fields, x=x, out=out, **added(builder, step, out))
    return out


def added(builder: Builder, step: _Step, out: Map) -> dict[str, Map]:
    """Return what is added to a layer's map: a map of its size or half of that, of its channels or its first ones."""
    if step["add"] is None:
        return {}
    add = builder.slot(step["add"])
    same = add.h == out.h and add.w == out.w
    if not (same or _half(add, out)) or not (add.c == out.c or (add.c < out.c and add.c % PANEL == 0)):
        raise ValueError(f"a map {add.shape} added to one of {out.shape}")
    return {"add": add}


def _after(builder: Builder, step: _Step, out: Map) -> _Fields:
    """Return the fields of what comes after a layer's own activation."""
    fields = builder.keep_act(step["then"], out.c, "then_slope", "then_low", "then_high")
    half = step["add"] is not None and _half(builder.slot(step["add"]), out)
    return {**fields, "half": int(half)}


def _projection(builder: Builder, matrix: _Floats, bias: _Floats | None, bits: int, fields: _Fields) -> _Fields:
    """Keep what a block projects its channels with, chunk by chunk; returns its fields.

    Of products of whole numbers the depthwise convolution gives such at once, if its activation has limits.
    """
    part = fields["chunk"] * PANEL
    kept: _Fields = {}
    if bits == 32:
        kept["p_weights"] = builder.keep_matrix(matrix, part)
    else:
        whole, scales = round_columns(matrix, bits)
        kept = {f"p_{name}": at for name, at in builder.keep_rounded(whole, scales, part).items()}
        if (within := spread(fields["d_low"], fields["d_high"], bits)) is not None:
            kept |= {"p_scale": within.scale, "p_start": within.start}
            bias = (0 if bias is None else bias) + within.middle * scales * whole.sum(axis=0)
    return {**kept, "p_bias": -1 if bias is None else builder.keep(wide(bias))}


def _rounded(k: int, bits: int) -> int:
    """Return the values of memory for the rounded cells of a product over so many values; none for one of floats."""
    return ROUNDED * filled(k) * bits // 32 if bits < 32 else 0


def _half(add: Map, out: Map) -> bool:
    return (2 * add.h, 2 * add.w) == (out.h, out.w)


def _convolution(builder: Builder, x: Map, spec: _Step) -> tuple[_Fields, tuple[int, int, int], int]:
    """Return the fields of a convolution, the shape of its map, and the values of memory that it needs meanwhile."""
    weight = builder.constants(spec["weight"], 4)
    o, i, kh, kw = weight.shape
    stride, (top, left, bottom, right) = number(spec["stride"], 1, _FAR), _pads(spec)
    h, w = _reach(x.h, kh, stride, top + bottom), _reach(x.w, kw, stride, left + right)
    if i != x.c:
        raise ValueError(f"weights of {i} channels for a map of {x.c}")
    matrix = weight.transpose(1, 2, 3, 0) if x.planar else weight.transpose(2, 3, 1, 0)
    bare = top == left == bottom == right == 0
    padded = 0 if bare else max(left + x.w, (w - 1) * stride + kw)
    row, (dy, dx, c) = padded or x.w, np.ogrid[:kh, :kw, :i]
    if x.planar:  # sums run over channels first, as the values lie
        offsets = ((c * kh + dy if padded else c * x.h + dy) * row + dx).transpose(2, 0, 1)
    else:
        offsets = (dy * row + dx) * x.fixed_row() + c
    matrix, room = matrix.reshape(kh * kw * i, o), kh * padded * (i if x.planar else x.row)
    whole = matrix.size >= WORTH and kh == kw == 1 and bare and not x.planar
    bits = builder.bits if whole else 32
    if bits == 32:
        product: _Fields = {"weights": builder.keep_matrix(matrix)}
    else:
        product = builder.keep_rounded(*round_columns(matrix, bits))
    fields = {
        **product,
        "k": kh * kw * i,
        "offsets": builder.keep_whole(offsets),
        "kernel_h": kh,
        "stride": stride,
        "top": top,
        "left": left,
        "padded": padded,
        "bias": builder.keep_bias(spec["bias"], o),
        "panels": filled(o) // PANEL,
    }
    return fields, (h, w, o), _rounded(i, bits) or room


def _depthwise(builder: Builder, shape: tuple[int, int, int], spec: _Step) -> tuple[_Fields, tuple[int, int]]:
    """Return the fields of a depthwise convolution, and height and width of what it gives."""
    (h, w, c), weight = shape, builder.constants(spec["weight"], 4)
    size, stride, pads = weight.shape[-1], number(spec["stride"], 1, 2), _pads(spec)
    top, left, bottom, right = pads
    if weight.shape != (c, 1, size, size) or size not in (3, 5) or max(top + bottom, left + right) >= size:
        raise ValueError(f"depthwise weights {weight.shape}, stride {stride}, pads {pads}, for {c} channels")
    reached = _reach(h, size, stride, top + bottom), _reach(w, size, stride, left + right)
    taps = wide(weight.reshape(c, size * size).T).reshape(size * size, -1, PANEL).transpose(1, 0, 2)
    bias = np.zeros(c, np.float32) if spec["bias"] is None else builder.vector(spec["bias"], c)
    fields = {"mid_h": h, "mid_w": w, "mid_c": c, "d_kernel": size, "d_stride": stride, "d_top": top, "d_left": left}
    fields |= {"d_weights": builder.keep(taps), "d_bias": builder.keep(wide(bias))}
    fields["d_low"], fields["d_high"] = limits(spec["act"])
    return fields, reached


def _share(builder: Builder, fields: _Fields, out: Map, whole: bool, room: int = 0, bits: int = 32) -> None:
    """Choose how many panels of channels a block has at a time, and how many rows of them.

    `bits`: of the products that project them.
    """
    h, w, kernel = fields["mid_h"], fields["mid_w"], fields["d_kernel"]
    panels = filled(fields["mid_c"]) // PANEL
    ring, band = (h, out.h) if whole else (kernel, 1)
    across = w + kernel - 1
    cells = ring * across + (band * out.w if "p_panels" in fields else 0)
    parts = -(-panels // max(2, CLOSE // (cells * PANEL * 4)))  # products take two panels at a time
    if whole:
        parts = -(-parts // builder.threads) * builder.threads  # which share them
    chunk = -(-panels // parts)
    chunk += chunk % 2 if 1 < chunk < panels else 0
    channels = chunk * PANEL
    fields |= {"chunk": chunk, "ring": ring}
    if whole:
        builder.need_sums(out.size)
        at = np.arange(h * w)
        fields["rows"] = builder.keep_whole(at // w * (across * channels) + at % w * channels)
    builder.need(filled(cells * channels + room) + _rounded(channels, bits))


def _reach(size: int, kernel: int, stride: int, padding: int) -> int:
    """Return the cells of a convolution along an axis."""
    if size + padding < kernel:
        raise ValueError(f"a kernel of {kernel}, stride {stride}, on {size} + {padding} cells")
    return (size + padding - kernel) // stride + 1


def _pads(spec: _Step) -> tuple[int, int, int, int]:
    top, left, bottom, right = (number(pad, 0, _FAR) for pad in spec["pads"])
    return top, left, bottom, right
