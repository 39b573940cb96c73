# SPDX-License-Identifier: Apache-2.0
"""A batched scan-line rasteriser in pure PyTorch: the same code on CPU and GPU.

Every triangle is cut into pixel rows and every row into one span of pixels, so that only covered pixels are visited.
A shared edge is cut at the same float by both of its triangles, and spans are half open: a closed mesh has no holes
and no pixel is drawn twice along an edge. The depth test is one ``scatter_reduce`` over 64-bit keys that hold the
inverse depth's bits above the triangle's number.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Fragments", "interpolate", "rasterise"]


class Fragments(NamedTuple):
    """The pixels that a surface covers, as flat lists over the whole batch (P entries).

    Attributes
    ----------
    pixel : Tensor
        (P,) int64, ascending: ``(image * height + row) * width + column``.
    image : Tensor
        (P,) int64, which image of the batch.
    face : Tensor
        (P,) int64, the triangle that is seen, as an index into ``faces``.
    weights : Tensor
        (P, 3) perspective-correct barycentric weights of the triangle's corners.
    depth : Tensor
        (P,) depth z, in the unit of the vertices.
    """

    pixel: Tensor
    image: Tensor
    face: Tensor
    weights: Tensor
    depth: Tensor


def _ragged(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Expand counts (N,) to owners and offsets: [2, 1] -> [0, 0, 1], [0, 1, 0]."""
    owner = torch.repeat_interleave(torch.arange(counts.numel(), device=counts.device), counts)
    starts = torch.cumsum(counts, 0) - counts
    return owner, torch.arange(owner.numel(), device=counts.device) - starts.index_select(0, owner)


def _spans(corners: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cut triangles (T, 3, 2) into rows: the triangle, the row, the first column and the column after the last."""
    y = corners[..., 1]
    first = torch.ceil(y.amin(1)).clamp(0, height).long()
    last = torch.ceil(y.amax(1)).clamp(0, height).long()
    triangle, offset = _ragged((last - first).clamp_min(0))
    row = first.index_select(0, triangle) + offset

    # Edges run from their upper to their lower end, so that both neighbours compute the same crossing.
    start, end = corners, corners[:, [1, 2, 0]]
    swap = (end[..., 1] < start[..., 1])[..., None]
    upper, lower = torch.where(swap, end, start), torch.where(swap, start, end)
    rise = lower[..., 1] - upper[..., 1]
    slope = (lower[..., 0] - upper[..., 0]) / torch.where(rise > 0, rise, torch.ones_like(rise))

    edge = torch.stack((upper[..., 0], upper[..., 1], lower[..., 1], slope), 1).reshape(-1, 12)
    x, top, bottom, slope = edge.index_select(0, triangle).reshape(-1, 4, 3).unbind(1)  # (N, 3) each
    line = row.to(corners.dtype)[:, None]
    active = (line >= top) & (line < bottom)
    crossing = x + (line - top) * slope
    far = torch.full_like(crossing, 1e9)
    left = torch.where(active, crossing, far).amin(1)
    right = torch.where(active, crossing, -far).amax(1)
    return triangle, row, torch.ceil(left).clamp(0, width).long(), torch.ceil(right).clamp(0, width).long()


def rasterise(
    points: Tensor, faces: Tensor, height: int, width: int, *, cull: bool = True, near: float = 1e-3
) -> Fragments:
    """Find the triangle seen at each pixel centre.

    Parameters
    ----------
    points : Tensor
        (B, R, 3): pixel x, pixel y (the centre of the top-left pixel is (0, 0)) and depth z > 0 forward.
    faces : Tensor
        (F, 3) int64, counter-clockwise seen from outside (on screen, with y down, that is clockwise in x, y).
    height, width : int
        Size of the images in pixels.
    cull : bool
        Drop triangles seen from behind.
    near : float
        Triangles with a corner nearer than this are dropped.

    Returns
    -------
    Fragments
        Covered pixels with triangle, perspective-correct weights and depth.
    """
    batch, count = points.shape[0], faces.shape[0]
    corners = points.index_select(1, faces.flatten()).reshape(batch, count, 3, 3)
    xy = corners[..., :2]
    a, b = xy[:, :, 1] - xy[:, :, 0], xy[:, :, 2] - xy[:, :, 0]
    area = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    keep = (area < 0) if cull else (area != 0)
    keep &= corners[..., 2].amin(2) > near
    low, high = xy.amin(2), xy.amax(2)
    keep &= (high[..., 0] >= 0) & (high[..., 1] >= 0) & (low[..., 0] <= width - 1) & (low[..., 1] <= height - 1)
    keep &= torch.ceil(high[..., 1]) > torch.ceil(low[..., 1])
    index = keep.flatten().nonzero()[:, 0]
    corners, image, face = corners.reshape(-1, 3, 3).index_select(0, index), index // count, index % count
    a, b = a.reshape(-1, 2).index_select(0, index), b.reshape(-1, 2).index_select(0, index)
    area = area.flatten().index_select(0, index)

    triangle, row, left, right = _spans(corners[..., :2], height, width)
    span, offset = _ragged((right - left).clamp_min(0))

    # 1/z is linear on the screen: 1/z = base + dx x + dy y. Packed per triangle, unpacked per row.
    inverse = 1.0 / corners[..., 2]
    u, v = inverse[:, 1] - inverse[:, 0], inverse[:, 2] - inverse[:, 0]
    dx = (u * b[:, 1] - v * a[:, 1]) / area
    dy = (v * a[:, 0] - u * b[:, 0]) / area
    base = inverse[:, 0] - dx * corners[:, 0, 0] - dy * corners[:, 0, 1]
    packed = torch.stack((base, dx, dy, inverse.amin(1), inverse.amax(1)), 1).index_select(0, triangle)
    base, dx, dy, lowest, highest = packed.unbind(1)
    lines = torch.stack((base + dy * row + dx * left, dx, lowest, highest), 1).index_select(0, span)
    # Slivers seen edge-on extrapolate: keep 1/z within the triangle's own.
    nearness = (lines[:, 0] + lines[:, 1] * offset).maximum(lines[:, 2]).minimum(lines[:, 3])

    address = ((image.index_select(0, triangle) * height + row) * width + left).index_select(0, span) + offset
    key = (nearness.float().contiguous().view(torch.int32).long() << 32) | triangle.index_select(0, span)
    buffer = torch.zeros(batch * height * width, dtype=torch.int64, device=points.device)
    buffer.scatter_reduce_(0, address, key, "amax")

    pixel = buffer.nonzero()[:, 0]
    seen = buffer.index_select(0, pixel) & 0xFFFFFFFF
    # Each weight is linear on the screen too; divided by z it becomes perspective-correct.
    x0, y0 = corners[:, 0, 0], corners[:, 0, 1]
    second = torch.stack((b[:, 1], -b[:, 0], b[:, 0] * y0 - b[:, 1] * x0), 1) / area[:, None]
    third = torch.stack((-a[:, 1], a[:, 0], a[:, 1] * x0 - a[:, 0] * y0), 1) / area[:, None]
    planes = torch.cat((second, third, corners[..., 2]), 1).index_select(0, seen)
    x, y = (pixel % width).to(points.dtype), (pixel // width % height).to(points.dtype)
    w1 = (planes[:, 0] * x + planes[:, 1] * y + planes[:, 2]).clamp(0, 1)
    w2 = (planes[:, 3] * x + planes[:, 4] * y + planes[:, 5]).clamp(0, 1)
    w0 = (1 - w1 - w2).clamp_min(0)
    weights = torch.stack((w0, w1, w2), 1) / planes[:, 6:9]
    depth = 1.0 / weights.sum(1)
    weights = weights * depth[:, None]
    return Fragments(pixel, pixel // (height * width), face.index_select(0, seen), weights, depth)


def interpolate(values: Tensor, faces: Tensor, fragments: Fragments) -> Tensor:
    """Blend per-vertex values over the covered pixels.

    Parameters
    ----------
    values : Tensor
        (B, R, C) values at the vertices.
    faces : Tensor
        (F, 3) int64.
    fragments : Fragments
        From `rasterise` with the same faces.

    Returns
    -------
    Tensor
        (P, C).
    """
    corner = faces.index_select(0, fragments.face) + (fragments.image * values.shape[1])[:, None]
    flat = values.reshape(-1, values.shape[2])
    return torch.nn.functional.embedding_bag(corner, flat, per_sample_weights=fragments.weights.to(flat), mode="sum")
