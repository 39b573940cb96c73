# SPDX-License-Identifier: Apache-2.0
"""Figures of what is said of hands whose joints are known, the same for whoever says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from .biomechanics import violations
from .camera import Camera
from .errors import InputError
from .metrics import mean_distance, mpjpe, pa_mpjpe

__all__ = ["FIGURES", "Figure", "Seen", "figures", "impossible", "measure", "table"]

_Array = npt.NDArray[np.floating[Any]]


class Seen(NamedTuple):
    """What somebody says of the hand in a photo.

    Attributes
    ----------
    keypoints : (21, 2) array
        Pixels.
    joints : (21, 3) array
        Metres, camera frame.
    relative : (21, 3) array
        The joints as they lie to each other, metres, axes of the camera, at any place: `joints`, or what somebody says
        who does not say where the hand is.
    handedness : str
        "left" or "right".
    """

    keypoints: _Array
    joints: _Array
    relative: _Array
    handedness: Literal["left", "right"]


class Figure(NamedTuple):
    """A figure over the photos in which a hand was found.

    Attributes
    ----------
    key, label, form : str
        Its name in JSON, in a table, and how a table has it.
    error : str
        What it is of: a key of `measure`.
    over : callable
        Makes one number of those of the photos.
    """

    key: str
    label: str
    form: str
    error: str
    over: Callable[[Sequence[float]], Any] = np.mean


FIGURES = (
    Figure("kp2d_px", "2D, px", "{:.2f}", "keypoints"),
    Figure("mpjpe_root_mm", "root-relative, mm", "{:.1f}", "root"),
    Figure("pa_mpjpe_mm", "PA, mm", "{:.1f}", "pa"),
    Figure("cs_mpjpe_mean_mm", "camera space mean, mm", "{:.1f}", "camera"),
    Figure("cs_mpjpe_median_mm", "camera space median, mm", "{:.1f}", "camera", np.median),
    Figure("handedness_accuracy", "handedness", "{:.1%}", "handedness"),
    Figure("impossible_hands", "impossible hands", "{:.1%}", "impossible"),
)
_COUNTS = (("images", "images", "{:d}"), ("found", "found", "{:.1%}"))


def measure(seen: Seen, truth: npt.ArrayLike, handedness: str, camera: Camera) -> dict[str, float]:
    """Measure what is said of one photo.

    Parameters
    ----------
    seen : Seen
        What is said.
    truth : (21, 3) array
        The joints, metres, camera frame.
    handedness : str
        "left" or "right".
    camera : Camera
        Of the photo.

    Returns
    -------
    dict
        `keypoints`, pixels: mean distance to the projected joints. In mm, means over the joints: `root` (aligned at
        joint 9), `pa` (after the best similarity), `camera` (as they lie in the camera frame). `handedness`: 1 where it
        is right, else 0. `impossible`: 1 where the joints violate anatomy (`violations`), else 0.
    """
    return {
        "keypoints": mean_distance(seen.keypoints, camera.project(truth)),
        "root": 1e3 * mpjpe(seen.relative, truth),
        "pa": 1e3 * pa_mpjpe(seen.relative, truth),
        "camera": 1e3 * mean_distance(seen.joints, truth),
        "handedness": float(seen.handedness == handedness),
        "impossible": float(impossible(seen.relative, seen.handedness)),
    }


def impossible(joints: npt.ArrayLike, side: Literal["left", "right"]) -> bool:
    """Whether joints (21, 3) violate anatomy, or are no hand's at all."""
    try:
        return bool(violations(joints, side))
    except InputError:
        return True


def figures(photos: Sequence[Mapping[str, float] | None]) -> dict[str, Any]:
    """Figures from the `measure` of photos, None for each in which no hand was found.

    Returns
    -------
    dict
        `images`; `found`, the share of photos that gave a hand; those of `FIGURES`, None if no photo did.
    """
    found = [photo for photo in photos if photo is not None]
    result: dict[str, Any] = {"images": len(photos), "found": round(len(found) / max(len(photos), 1), 4)}
    for figure in FIGURES:
        values = [photo[figure.error] for photo in found]
        result[figure.key] = round(float(figure.over(values)), 4) if values else None
    return result


def table(columns: Mapping[str, Mapping[str, Any]]) -> str:
    """Lay `figures` out as text, a column for each name."""
    lines = [f"{'':<24}" + "".join(f"{name:>16}" for name in columns)]
    for key, label, form in (*_COUNTS, *(figure[:3] for figure in FIGURES)):
        cells = ["–" if column[key] is None else form.format(column[key]) for column in columns.values()]
        lines.append(f"{label:<24}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)
