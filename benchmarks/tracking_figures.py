# SPDX-License-Identifier: Apache-2.0
"""Figures of moving points: how they tremble, how far they lag behind, how far they are off; and a filter to compare.

A frame is at rest if all keypoints stayed within `STILL` of the hand's extent of their mean over `SPAN` frames either
way: keypoints, because they tremble least, and ours for every method, so that all are judged on the same frames.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["OneEuro", "jitter", "lag", "resting"]

FloatArray = npt.NDArray[np.float64]

STILL, SPAN = 0.05, 5


def resting(keypoints: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which frames show a hand at rest.

    Parameters
    ----------
    keypoints : (T, J, 2) array
        Pixels; NaN where there is no hand.
    """
    rest = np.zeros(len(keypoints), bool)
    for frame in range(SPAN, len(keypoints) - SPAN):
        near = keypoints[frame - SPAN : frame + SPAN + 1]
        off = np.linalg.norm(near - near.mean(axis=0), axis=-1).max()
        rest[frame] = off < STILL * np.ptp(keypoints[frame], axis=0).max()  # False for NaN
    return rest


def jitter(points: FloatArray, frames: npt.NDArray[np.bool_] | None = None) -> float:
    """Mean length of second differences, in the unit of the points.

    Parameters
    ----------
    points : (T, ..., D) array
        By frame; differences with NaN do not count.
    frames : (T,) bool array, optional
        Which frames count; default: all.
    """
    sizes = np.linalg.norm(points[2:] - 2 * points[1:-1] + points[:-2], axis=-1)
    return float(np.nanmean(sizes if frames is None else sizes[frames[1:-1]]))


def lag(seen: FloatArray, truth: FloatArray, times: FloatArray, skip: float = 0.5, most: float = 0.2) -> float:
    """Seconds by which the truth has to be held back to agree best with what is seen, both without their means.

    Parameters
    ----------
    seen, truth : (T, ...) array
        Places.
    times : (T,) array
        Seconds.
    skip, most : float
        Seconds at the start that do not count; greatest lag.
    """
    counted = times >= times[0] + max(skip, most)
    seen = seen.reshape(len(seen), -1)[counted]
    truth = truth.reshape(len(truth), -1)
    seen = seen - seen.mean(axis=0)

    def off(held: float) -> float:
        late = np.stack([np.interp(times[counted] - held, times, column) for column in truth.T], axis=1)
        return float(np.square(seen - late + late.mean(axis=0)).sum())

    candidates = np.arange(-0.05, most, 0.001)
    return float(candidates[np.argmin([off(held) for held in candidates])])


class OneEuro:
    """One-Euro filter (Casiez, Roussel and Vogel, CHI 2012) of points (..., D), each with a speed of its own.

    Parameters
    ----------
    cutoff, gain, speed_cutoff : float
        Cut-off at rest, hertz; its gain by the speed; cut-off of the speed, hertz.
    """

    def __init__(self, cutoff: float, gain: float, speed_cutoff: float) -> None:
        self._cutoff, self._gain, self._speed_cutoff = cutoff, gain, speed_cutoff

    def over(self, points: FloatArray, times: FloatArray) -> FloatArray:
        """Filter points (T, ..., D) of times (T,)."""
        value = before = points[0]
        speed, values = np.zeros_like(value), [value]
        for seen, dt in zip(points[1:], np.diff(times), strict=True):
            speed = speed + _share(self._speed_cutoff, dt) * ((seen - before) / dt - speed)
            cutoff = self._cutoff + self._gain * np.linalg.norm(speed, axis=-1, keepdims=True)
            value = value + _share(cutoff, dt) * (seen - value)
            before = seen
            values.append(value)
        return np.stack(values)


def _share(cutoff: FloatArray | float, dt: float) -> FloatArray | float:
    turns = 2 * math.pi * cutoff * dt
    return turns / (1 + turns)
