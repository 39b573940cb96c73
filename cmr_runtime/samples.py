# SPDX-License-Identifier: Apache-2.0
"""Photos with known cameras and joints: the folders that `cmr-eval` reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .camera import Camera
from .errors import CmrError, InputError

__all__ = ["FORMAT", "Sample", "read_samples"]

#: The annotations, for the help of the command.
FORMAT = (
    'annotations.json: [{"image": FILE, "handedness": "left", "K": 3x3, "joints_camera_m": 21x3}, ...]; '
    "cameras.json: without joints.\n"
    "K in pixels; joints in metres, camera frame (z forward): wrist, then thumb to little finger, from palm to tip."
)


@dataclass(frozen=True, eq=False)
class Sample:
    """A photo with its camera, and its joints, (21, 3) metres in the camera frame, where they are known."""

    path: Path
    matrix: npt.NDArray[np.float64]
    handedness: str
    joints: npt.NDArray[np.float64] | None


def read_samples(folder: Path, limit: int | None = None) -> list[Sample]:
    """Read ``annotations.json`` (with joints) or ``cameras.json`` (without) of a folder.

    Each is a list of ``{image, handedness, K}``, the former also with ``joints_camera_m``.

    Raises
    ------
    InputError
        Neither file is there, it lists no photo, or an entry lacks something; the entry is named.
    """
    names = [name for name in ("annotations.json", "cameras.json") if (folder / name).is_file()]
    if not names:
        raise InputError(f"{folder} holds neither annotations.json nor cameras.json; give a folder that does")
    path = folder / names[0]
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not isinstance(entries, list):
        raise InputError(f"{path} is no list of photos")
    if not entries:
        raise InputError(f"{path} lists no photo; give at least one entry")
    samples = []
    for number, entry in enumerate(entries[:limit]):
        try:
            joints = None
            if names[0] == "annotations.json":
                joints = np.array(entry["joints_camera_m"], dtype=np.float64).reshape(21, 3)
            matrix = np.array(entry["K"], dtype=np.float64).reshape(3, 3)
            samples.append(Sample(folder / entry["image"], matrix, str(entry["handedness"]), joints))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"entry {number} of {path} is incomplete or of another form: {error!r}") from error
        _check(samples[-1], f"entry {number} of {path}")
    return samples


def _check(sample: Sample, entry: str) -> None:
    """Refuse what figures would be wrong with."""
    known = sample.joints
    if known is not None and sample.handedness not in ("left", "right"):
        raise InputError(f'{entry} has handedness {sample.handedness!r}; give "left" or "right"')
    if known is not None and not (np.isfinite(known).all() and known[:, 2].min() > 0):
        raise InputError(
            f"{entry} has joints that are not finite or not in front of the camera; give metres, z forward, and leave "
            "out photos whose joints are not all known"
        )
    try:
        Camera.from_matrix(sample.matrix, 1, 1)
    except CmrError as error:
        raise InputError(f"{entry}: {error}") from error
