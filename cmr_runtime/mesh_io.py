# SPDX-License-Identifier: Apache-2.0
"""Files that other programs read: binary PLY for meshes, JSON lines for everything else."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InputError

__all__ = ["JsonLines", "write_ply"]


def write_ply(path: str | os.PathLike[str], vertices: npt.ArrayLike, faces: npt.ArrayLike) -> None:
    """Write a triangle mesh as a binary (little-endian) PLY file.

    Parameters
    ----------
    path : path
        File to write; its name ends in ``.ply``.
    vertices : (V, 3) array
        Metres.
    faces : (F, 3) array of int
        Indices of vertices.

    Raises
    ------
    InputError
        Another suffix or shape, or an index outside the vertices.
    """
    suffix = Path(path).suffix
    if suffix.lower() != ".ply":
        raise InputError(f"mesh {os.fspath(path)} has the suffix {suffix!r}; only PLY is written, give a name in .ply")
    points, triangles = np.asarray(vertices, dtype="<f4"), np.asarray(faces, dtype="<i4")
    if points.ndim != 2 or points.shape[1] != 3 or triangles.ndim != 2 or triangles.shape[1] != 3:
        raise InputError(f"mesh has shapes {points.shape} and {triangles.shape}; give (V, 3) and (F, 3)")
    if triangles.size and not 0 <= triangles.min() <= triangles.max() < len(points):
        raise InputError(f"faces index {triangles.min()} to {triangles.max()}; there are {len(points)} vertices")
    rows = np.empty(len(triangles), dtype=[("count", "u1"), ("vertex", "<i4", (3,))])
    rows["count"], rows["vertex"] = 3, triangles
    header = [
        "ply",
        "format binary_little_endian 1.0",
        "comment metres; camera frame: x right, y down, z forward",
        f"element vertex {len(points)}",
        *(f"property float {axis}" for axis in "xyz"),
        f"element face {len(triangles)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    with open(path, "wb") as file:
        file.write(("\n".join(header) + "\n").encode("ascii"))
        file.write(np.ascontiguousarray(points).tobytes())
        file.write(rows.tobytes())


class JsonLines:
    """A file of one JSON object a line, whole after every line: what was written survives an interruption.

    Parameters
    ----------
    path : path
        File to write; an old one is replaced.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = open(path, "w", encoding="utf-8")  # noqa: SIM115 - closed by `close`

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, record: Mapping[str, Any]) -> None:
        """Append an object. Values that JSON does not know raise `ValueError`, and nothing is written."""
        line = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        self._file.write(line + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        self._file.close()
