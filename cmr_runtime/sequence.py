# SPDX-License-Identifier: Apache-2.0
"""The hands of many frames as arrays in one NPZ file: frames by hands, ready for NumPy."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InputError
from .files import write_whole
from .results import Hand

__all__ = ["HandSequence"]

#: Arrays of numbers by hand, their names and where they come from; NaN where a frame has fewer hands.
_FIELDS: dict[str, Callable[[Hand], Any]] = {
    "handedness_score": lambda hand: hand.handedness_score,
    "score": lambda hand: hand.score,
    "translation": lambda hand: hand.translation,
    "sigma": lambda hand: hand.registration.sigma,
    "scale": lambda hand: hand.scale,
    "joints": lambda hand: hand.joints,
    "keypoints": lambda hand: hand.keypoints,
    "keypoint_scores": lambda hand: hand.keypoint_scores,
    "camera": lambda hand: (hand.camera.fx, hand.camera.fy, hand.camera.cx, hand.camera.cy),
}


class HandSequence:
    """Collects the hands of frames and writes them as arrays.

    With T frames, H the most hands in one of them, J joints and V vertices the file holds:

    =====================  ================  ===========================================================
    ``source``             (T,) text         image, video or webcam
    ``frame``              (T,) int64        number of the frame in its video; −1 for an image
    ``timestamp``          (T,) float64      seconds; NaN for an image
    ``found``              (T, H) bool       whether there is such a hand; where not, numbers are NaN
    ``track_id``           (T, H) int64      which hand of the video it is; −1 where nobody tells
    ``handedness``         (T, H) text       "left", "right", or "" without a hand
    ``handedness_score``   (T, H) float32    probability of the side
    ``score``              (T, H) float32    probability that there is a hand
    ``metric``             (T, H) bool       whether the camera was known
    ``translation``        (T, H, 3)         position of the root joint, metres, camera frame
    ``sigma``              (T, H, 3)         its standard deviation, metres
    ``scale``              (T, H)            size over the network's
    ``joints``             (T, H, J, 3)      metres, camera frame
    ``keypoints``          (T, H, J, 2)      pixels
    ``keypoint_scores``    (T, H, J)         0 to 1
    ``camera``             (T, H, 4)         fx, fy, cx, cy, pixels
    ``vertices``           (T, H, V, 3)      metres, camera frame; only with `vertices`
    ``faces``              (F, 3) int32      triangles of a right hand, a left one's reversed; only with `vertices`
    ``joint_parents``      (J,) int32        parent of each joint
    =====================  ================  ===========================================================

    What is not marked otherwise is float32. Without any hand H is 0, and the arrays have as many dimensions as J and V
    allow: those of ``joints`` and the like are left out.

    Parameters
    ----------
    vertices : bool
        Keep the vertices too: some 9 kB a hand.

    Examples
    --------
    >>> sequence = HandSequence()
    >>> sequence.add([], source="a.jpg")
    >>> len(sequence)
    1
    """

    def __init__(self, vertices: bool = False) -> None:
        self._fields = _FIELDS | ({"vertices": lambda hand: hand.vertices} if vertices else {})
        self._with_faces = vertices
        self._frames: list[tuple[str, int, float]] = []
        self._rows: list[list[dict[str, Any]]] = []
        self._first: dict[str, Any] = {}
        self._about: dict[str, npt.NDArray[np.int32]] = {}

    def __len__(self) -> int:
        return len(self._frames)

    def add(
        self, hands: Sequence[Hand], source: str = "", frame: int | None = None, timestamp: float | None = None
    ) -> None:
        """Append a frame; of its hands only what is written is kept.

        Raises
        ------
        InputError
            A hand of another network than those before it, or without their mesh; nothing is then appended.
        """
        rows = [self._row(hand) for hand in hands]
        first = self._first or (rows[0] if rows else {})
        for row in rows:
            for name in self._fields:
                if row[name].shape != first[name].shape:
                    raise InputError(
                        f"{name} of a hand in {source or 'this frame'} has shape {row[name].shape}, that of the hands "
                        f"before it {first[name].shape}; give hands of one network, all with or all without joints_only"
                    )
        self._frames.append((source, -1 if frame is None else frame, np.nan if timestamp is None else timestamp))
        self._rows.append(rows)
        self._first = first
        if hands and not self._about:
            self._about["joint_parents"] = hands[0].joint_parents
            if self._with_faces:
                faces = hands[0].faces
                self._about["faces"] = faces if hands[0].handedness == "right" else faces[:, ::-1]

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays by name."""
        sources, frames, timestamps = zip(*self._frames, strict=True) if self._frames else ((), (), ())
        arrays: dict[str, npt.NDArray[Any]] = {
            "source": np.array(sources, dtype=np.str_),
            "frame": np.array(frames, dtype=np.int64),
            "timestamp": np.array(timestamps, dtype=np.float64),
        }
        shape = (len(self._rows), max(map(len, self._rows), default=0))
        arrays["found"] = np.zeros(shape, dtype=np.bool_)
        arrays["metric"] = np.zeros(shape, dtype=np.bool_)
        arrays["track_id"] = np.full(shape, -1, dtype=np.int64)
        arrays["handedness"] = np.full(shape, "", dtype="U5")
        for name in self._first.keys() & self._fields.keys():
            arrays[name] = np.full((*shape, *self._first[name].shape), np.nan, dtype=np.float32)
        for t, row in enumerate(self._rows):
            for h, values in enumerate(row):
                for name, value in values.items():
                    arrays[name][t, h] = value
        return arrays | self._about

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file as a whole. Raises `OSError`, naming it, where that is not possible."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = self.arrays()
        np.savez_compressed(buffer, **arrays)
        write_whole(path, buffer.getvalue(), "sequence")

    def _row(self, hand: Hand) -> dict[str, Any]:
        row: dict[str, Any] = {name: np.asarray(take(hand), np.float32) for name, take in self._fields.items()}
        row["track_id"] = -1 if hand.track_id is None else hand.track_id
        return row | {"found": True, "metric": hand.registration.metric, "handedness": hand.handedness}
