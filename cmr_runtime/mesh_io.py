# SPDX-License-Identifier: Apache-2.0
"""Files that other programs read: PLY, OBJ and GLB for meshes, JSON lines for everything else."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InputError
from .files import write_error, write_whole

__all__ = ["MESH_FORMATS", "JsonLines", "write_mesh"]

#: Suffixes of mesh files, without the dot.
MESH_FORMATS = ("ply", "obj", "glb")
_FRAME = "metres; camera frame: x right, y down, z forward"
#: From the camera frame to the axes of glTF (x right, y up, z towards the viewer).
_TO_GLTF = np.diag([1.0, -1.0, -1.0, 1.0])


def write_mesh(path: str | os.PathLike[str], vertices: npt.ArrayLike, faces: npt.ArrayLike) -> None:
    """Write a triangle mesh in the form that the name's suffix says.

    The vertices are stored as they are, in metres. PLY (binary) and OBJ (text) know no axes, and programs may show a
    mesh of the camera frame upside down. GLB defines its axes; its root node turns the camera frame into them.

    Parameters
    ----------
    path : path
        File to write; its name ends in ``.ply``, ``.obj`` or ``.glb``.
    vertices : (V, 3) array
        Metres, camera frame (x right, y down, z forward).
    faces : (F, 3) array of int
        Indices of vertices, counter-clockwise seen from outside.

    Raises
    ------
    InputError
        Another suffix or shape, no vertex, values that are not finite, faces that are no whole numbers, an index
        outside the vertices, or a GLB without trimesh
        (``pip install 'cmr-runtime[mesh]'``).
    OSError
        The file cannot be written.
    """
    suffix = Path(path).suffix
    form = suffix.lower().removeprefix(".")
    if not suffix or form not in MESH_FORMATS:
        raise InputError(f"mesh {os.fspath(path)} has the suffix {suffix!r}; give a name in .ply, .obj or .glb")
    points, triangles = np.asarray(vertices, dtype="<f4"), np.asarray(faces)
    if points.ndim != 2 or points.shape[1] != 3 or triangles.ndim != 2 or triangles.shape[1] != 3:
        raise InputError(f"mesh has shapes {points.shape} and {triangles.shape}; give (V, 3) and (F, 3)")
    if not len(points):
        raise InputError("mesh has no vertices; a tracker of joints alone gives none")
    if not np.isfinite(points).all():
        raise InputError("mesh holds vertices that are not finite; give finite metres")
    if triangles.size and triangles.dtype.kind not in "iu":
        raise InputError(f"faces are {triangles.dtype}; give whole numbers")
    if triangles.size and not 0 <= triangles.min() <= triangles.max() < len(points):
        raise InputError(f"faces index {triangles.min()} to {triangles.max()}; there are {len(points)} vertices")
    data = {"ply": _ply, "obj": _obj, "glb": _glb}[form](points, triangles.astype("<i4"))
    write_whole(path, data, "mesh")


def _ply(points: npt.NDArray[np.float32], triangles: npt.NDArray[np.int32]) -> bytes:
    """Binary PLY, little-endian."""
    rows = np.empty(len(triangles), dtype=[("count", "u1"), ("vertex", "<i4", (3,))])
    rows["count"], rows["vertex"] = 3, triangles
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment {_FRAME}",
        f"element vertex {len(points)}",
        *(f"property float {axis}" for axis in "xyz"),
        f"element face {len(triangles)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    return ("\n".join(header) + "\n").encode("ascii") + points.tobytes() + rows.tobytes()


def _obj(points: npt.NDArray[np.float32], triangles: npt.NDArray[np.int32]) -> bytes:
    """Wavefront OBJ; its indices begin at 1, and 9 digits give a float32 back exactly."""
    lines = [f"# {_FRAME}"]
    lines += [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in points.tolist()]
    lines += [f"f {a} {b} {c}" for a, b, c in (triangles + 1).tolist()]
    return ("\n".join(lines) + "\n").encode("ascii")


def _glb(points: npt.NDArray[np.float32], triangles: npt.NDArray[np.int32]) -> bytes:
    try:
        import trimesh
    except ImportError:
        raise InputError("GLB files need trimesh: pip install 'cmr-runtime[mesh]', or write .ply or .obj") from None
    mesh = trimesh.Trimesh(points, triangles, process=False)
    scene: Any = trimesh.Scene()
    scene.add_geometry(mesh, node_name="hand", geom_name="hand", transform=_TO_GLTF)
    data: bytes = scene.export(file_type="glb", include_normals=True)
    return data


class JsonLines:
    """A file of one JSON object a line, whole after every line: what was written survives an interruption.

    Parameters
    ----------
    path : path
        File to write; an old one is replaced.

    Raises
    ------
    OSError
        Here or later: the file cannot be written, for instance because the disk is full.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        try:
            self._file = open(path, "wb", buffering=0)  # noqa: SIM115 - closed by `close`
        except OSError as error:
            raise write_error("JSON lines", path, error) from error
        self._size = 0

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, record: Mapping[str, Any]) -> None:
        """Append an object. Values that JSON does not know raise `ValueError`, and nothing is written."""
        line = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
        data = line.encode("utf-8")
        size = len(data)
        start = self._size
        try:
            while data:  # unbuffered files may take a part, then say that the disk is full
                data = data[self._file.write(data) :]
        except BaseException as error:
            with contextlib.suppress(OSError):  # what is no file on a disk has no length
                self._file.seek(start)  # else zeros would stand before the next line
                self._file.truncate()
            if isinstance(error, OSError):
                raise write_error("JSON lines", self._path, error) from error
            raise
        self._size = start + size

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        self._file.close()
