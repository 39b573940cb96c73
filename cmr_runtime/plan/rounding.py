# SPDX-License-Identifier: Apache-2.0
"""Factors of products of whole numbers: a matrix's columns, and values within limits."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Range", "round_columns", "spread"]

#: Smallest and largest of the first factor by bits, with which sums stay in 32 (`PLAN_MOST_8` and `PLAN_MOST_16` in
#: core/plan.h; 8 bits have one more below 0).
_FROM, _TO = {8: -128, 16: -4095}, {8: 127, 16: 4095}
#: Whole numbers are spread over limits that are so far apart at most, and from 0 so many times as far as that. Those of
#: ReLU6 are 6 apart, and once as far; of limits much farther apart most values fill a small part.
_APART, _FAR = 16.0, 16.0


def round_columns(
    matrix: npt.NDArray[np.float32], bits: int
) -> tuple[npt.NDArray[np.integer[Any]], npt.NDArray[np.float32]]:
    """Round a matrix (K, O), each column with a scale of its own (O,); returns whole numbers and scales.

    In 8 bits the largest of a column is 127. In 16 the scale leaves room for the largest sum that can be.

    Raises
    ------
    ValueError
        A value is not finite.
    """
    most, sums = np.abs(matrix).max(axis=0), np.abs(matrix).sum(axis=0, dtype=np.float64)
    if not np.isfinite(sums).all():
        raise ValueError("weights that are not finite")
    largest: npt.NDArray[Any] = np.full_like(most, 127)
    if bits == 16:
        room = (2**31 - 1) / _TO[16] - len(matrix) / 2  # each value may be rounded up
        largest = np.floor(np.minimum(32767, room * most / np.where(sums > 0, sums, 1))).astype(np.float32)
    scales = most / np.where(most > 0, largest, 1)
    return np.rint(matrix / np.where(scales > 0, scales, 1)).astype(np.int8 if bits == 8 else np.int16), scales


class Range(NamedTuple):
    """How whole numbers stand for values within limits: ``scale * whole + middle``, and ``value / scale + start``."""

    scale: float
    start: float
    middle: float


def spread(low: float, high: float, bits: int) -> Range | None:
    """Spread whole numbers over values from `low` to `high`.

    None where these are too far apart, or so near to each other that single precision hardly tells one from the other.
    """
    if not high - low <= _APART or not max(abs(low), abs(high)) < _FAR * (high - low):
        return None
    scale = (high - low) / (_TO[bits] - _FROM[bits])
    return Range(scale, _FROM[bits] - low / scale, low - scale * _FROM[bits])
