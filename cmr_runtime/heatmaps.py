# SPDX-License-Identifier: Apache-2.0
"""Heat maps to keypoints with scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .compiled import core, taken

__all__ = ["decode"]

# Half the window around the peak, cells: two on each side see a peak of usual width and little of its neighbours.
_REACH = 2
# Below this share of the peak a cell counts as background of the centroid.
_BACKGROUND = 0.25
_EPS = 1e-6
_RIDGE = 1e-9 * np.eye(5)

_OFFSETS = np.arange(-_REACH, _REACH + 1)
_DJ, _DI = (grid.ravel() for grid in np.meshgrid(_OFFSETS, _OFFSETS))
_BASIS = np.stack([_DJ**0, _DJ, _DI, _DJ**2, _DI**2], axis=1).astype(np.float64)  # (window, 5)
_PRODUCTS = (_BASIS[:, :, None] * _BASIS[:, None, :]).reshape(len(_BASIS), -1)


def decode(
    heatmaps: npt.NDArray[np.floating], S: int, cell_centre: float = 0.5
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Position and height of the peak of each map.

    A Gaussian is fitted to the cells around each map's maximum: its logarithm is a parabola, found by least squares
    weighted by the squared probability (Guo, IEEE Signal Processing Magazine 28(5), 2011). Unlike a centroid it is not
    pulled inwards where the border of the map cuts the peak. Peaks that no Gaussian fits get the centroid of the cells
    that rise above the background. The smallest value of a map counts as its floor and is taken off first.

    Parameters
    ----------
    heatmaps : (K, H, H) array
        Probabilities.
    S : int
        Side of the crop that the maps cover, pixels.
    cell_centre : float
        Where in its cell the peak of a map lies, in cells: 0.5 in its middle, 0 where the network was trained with maps
        whose cell j stands for position j S / H, measured from the crop's edge.

    Returns
    -------
    keypoints : (K, 2) float64
        Pixels of the crop, at most one cell away from the map's largest cell.
    scores : (K,) float64
        Probability of the largest cell, 0 to 1.
    """
    count, rows, columns = heatmaps.shape
    if core is not None and taken(heatmaps, np.float32):
        points, heights = np.empty((count, 2)), np.empty(count)
        if core.decode_heatmaps(heatmaps, count, rows, columns, S, cell_centre, points, heights):
            return points, heights
    flat = heatmaps.reshape(count, -1)
    best = flat.argmax(axis=1)
    first = np.arange(count)[:, None] * flat.shape[1]
    scores = np.minimum(np.maximum(flat.take(best + first[:, 0]).astype(np.float64), 0.0), 1.0)
    i, j = np.divmod(best, columns)

    at_i, at_j = i[:, None] + _DI, j[:, None] + _DJ
    row, column = np.minimum(np.maximum(at_i, 0), rows - 1), np.minimum(np.maximum(at_j, 0), columns - 1)
    inside = (at_i == row) & (at_j == column)
    cells = flat.take(first + row * columns + column)
    floor = np.minimum.reduce(flat, axis=1).astype(np.float64)[:, None]
    height = np.maximum(scores[:, None] - floor, _EPS)
    window = np.where(inside, cells - floor, 0.0)  # (K, window)

    moments = (np.maximum(window - _BACKGROUND * height, 0.0) + _EPS * inside) @ _BASIS[:, :3]
    offset = moments[:, 1:] / moments[:, :1]

    weight = np.square(window / height)
    normal = (weight @ _PRODUCTS).reshape(-1, 5, 5) + _RIDGE
    logs = np.log(np.maximum(window, _EPS))
    fit = np.linalg.solve(normal, (weight * logs @ _BASIS)[..., None])[..., 0]
    peak = -0.5 * fit[:, 1:3] / np.minimum(fit[:, 3:], -_EPS)
    fits = (fit[:, 3:] < -1e-3) & (np.abs(peak) <= 1.0)  # false for NaN
    offset = np.where(fits[:, :1] & fits[:, 1:], peak, np.minimum(np.maximum(offset, -1.0), 1.0))

    offset[:, 0] += j
    offset[:, 1] += i
    offset += cell_centre
    offset *= (S / columns, S / rows)
    offset -= 0.5
    return offset, scores
