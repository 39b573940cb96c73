# SPDX-License-Identifier: Apache-2.0
"""Read the reference implementation's mesh files as arrays, without running anything that they hold.

``transform.pkl`` is a pickle of dense arrays and SciPy matrices. It is read with an unpickler that knows no more than
the few names that such a file needs; the matrices become plain containers.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy._core.multiarray import _reconstruct
from numpy._core.numeric import _frombuffer

from ..checkpoints import MAX_BYTES, read_array

__all__ = ["BODY_PARENTS", "Assets", "asset_files", "check_regressor", "read_assets", "read_transform"]

#: The 17 joints of Human3.6M: pelvis, right leg, left leg, torso, neck, nose, head, left arm, right arm.
BODY_PARENTS = np.array([0, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15], np.int32)
#: Rows of ``j_reg.npy`` (wrist; index, middle, little, ring finger, thumb, three each; their five tips) in the order of
#: the heat maps (wrist; thumb, index, middle, ring, little finger, each from the palm to the tip).
FROM_MANO = (0, 13, 14, 15, 20, 1, 2, 3, 16, 4, 5, 6, 17, 10, 11, 12, 19, 7, 8, 9, 18)


class SparseColumns:
    """State of a SciPy matrix in compressed columns, as its pickle sets it."""

    indices: np.ndarray
    indptr: np.ndarray
    data: np.ndarray
    _shape: tuple[int, int]

    def rows(self, entries: int) -> tuple[np.ndarray, np.ndarray]:
        """Columns and values (R, entries) of each row, filled up with weight 0.

        Raises
        ------
        ValueError
            If the state is inconsistent, a row has more entries, or there are more rows than entries.
        """
        height, width = (int(n) for n in self._shape)
        counts = np.diff(_numbers(self.indptr, np.int64))
        row, value = _numbers(self.indices, np.int64), _numbers(self.data, np.float32)
        # The shape is what the file says of itself: arrays of its size are made only once its content bears it out.
        if (
            (width,) != counts.shape
            or counts.min(initial=0) < 0
            or not row.shape == value.shape == (counts.sum(),)
            or not 0 <= row.min(initial=0) <= row.max(initial=0) < height <= len(row)
        ):
            raise ValueError(f"a sparse matrix of shape {self._shape} is inconsistent")
        column = np.repeat(np.arange(width), counts)
        order = np.argsort(row, kind="stable")
        row, column, value = row[order], column[order], value[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        if place.max() >= entries:
            raise ValueError(f"a row of a sparse matrix has {place.max() + 1} entries; the limit is {entries}")
        index, weight = np.zeros((height, entries), np.int32), np.zeros((height, entries), np.float32)
        index[row, place], weight[row, place] = column, value
        return index, weight


def _numbers(value: object, dtype: type[np.generic]) -> np.ndarray:
    """Take an array of numbers, not nested lists nor a view of repeated memory: both grow without bound when copied."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu" or value.nbytes > MAX_BYTES:
        kind = type(value).__name__
        raise ValueError(f"holds a {kind} where an array of numbers belongs, of {MAX_BYTES} bytes at most")
    return value.astype(dtype)


def _encode(text: str, encoding: str) -> bytes:
    """Make bytes in the way of Python 3 where it writes the pickles of Python 2, which know none."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"encodes {type(text).__name__} as {encoding!r}; need text as 'latin1'")
    return text.encode("latin1")


#: All that a file may name: arrays, and SciPy's matrix under the module names of its old and new versions.
_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("scipy.sparse.csc", "csc_matrix"): SparseColumns,
    ("scipy.sparse._csc", "csc_matrix"): SparseColumns,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"names {module}.{name}, which no file of arrays needs")
        return _KNOWN[module, name]


class Assets(NamedTuple):
    """Arrays of one mesh; fields as in `hierarchy.MeshHierarchy`."""

    vertices: tuple[np.ndarray, ...]
    faces: tuple[np.ndarray, ...]
    down_index: tuple[np.ndarray, ...]
    up_index: tuple[np.ndarray, ...]
    up_weight: tuple[np.ndarray, ...]
    joint_regressor: np.ndarray | None


def read_transform(path: Path) -> dict[str, Any]:
    """Read ``transform.pkl``: lists ``vertices``, ``face``, ``down_transform``, ``up_transform``, finest first.

    Raises
    ------
    ValueError
        If the file is missing, too large, no such pickle, or names anything but arrays and sparse matrices.
    """
    if not path.is_file():
        held = sorted(p.name for p in path.parent.glob("*")) if path.parent.is_dir() else "no folder"
        raise ValueError(f"{path}: not found (there is {held}); copy it from the reference implementation's template")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path}: {path.stat().st_size} bytes; the limit is {MAX_BYTES}")
    try:
        with path.open("rb") as stream:
            content = _ArrayUnpickler(stream, encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises nearly anything
        raise ValueError(f"{path}: refused as a file of arrays: {error}") from error
    wanted = ("vertices", "face", "down_transform", "up_transform")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in wanted):
        raise ValueError(f"{path}: need lists {list(wanted)}; copy the file from the reference implementation")
    return content


def read_assets(directory: Path, joints: int) -> Assets:
    """Read the hand (21 joints) or the body (17 joints) from the reference implementation's template folder.

    Raises
    ------
    ValueError
        If a file is missing, refused or inconsistent, or ``joints`` is neither.
    """
    if joints not in (len(FROM_MANO), len(BODY_PARENTS)):
        raise ValueError(f"joints is {joints}; need {len(FROM_MANO)} (hand) or {len(BODY_PARENTS)} (body)")
    path, regressor = asset_files(directory, joints)
    content = read_transform(path)
    try:
        down = [matrix.rows(1)[0][:, 0] for matrix in content["down_transform"]]
        up = [matrix.rows(3) for matrix in content["up_transform"]]
        vertices = tuple(_numbers(v, np.float32).reshape(-1, 3) for v in content["vertices"])
        faces = tuple(_numbers(f, np.int32).reshape(-1, 3) for f in content["face"])
    except (AttributeError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}; copy the file from the reference implementation") from error
    if not len(vertices) == len(faces) == len(up) + 1 == len(down) + 1:
        found = len(vertices), len(faces), len(down), len(up)
        raise ValueError(f"{path}: {found} vertex and face lists, down- and up-samplings; need L + 1, L + 1, L, L")
    return Assets(
        vertices=vertices,
        faces=faces,
        down_index=tuple(down),
        up_index=tuple(index for index, _ in up),
        up_weight=tuple(weight for _, weight in up),
        joint_regressor=None if regressor is None else _read_regressor(regressor, joints),
    )


def asset_files(directory: Path, joints: int) -> tuple[Path, Path | None]:
    """Return the files that `read_assets` reads: the mesh, and the joint regressor if it is there."""
    if joints == len(BODY_PARENTS):
        return directory / "transform_body.pkl", next(iter(sorted(directory.glob("J_regressor_h36m*.npy"))), None)
    regressor = directory / "j_reg.npy"
    return directory / "transform.pkl", regressor if regressor.is_file() else None


def _read_regressor(path: Path, joints: int) -> np.ndarray:
    array = read_array(path).astype(np.float32)
    if array.ndim != 2 or len(array) < joints:
        raise ValueError(f"{path}: shape {array.shape}; need {joints} rows, one for each joint")
    array = array[list(FROM_MANO)] if joints == len(FROM_MANO) else array[:joints]
    check_regressor(path, array)
    return array


def check_regressor(path: Path, array: np.ndarray) -> None:
    """Refuse rows that do not sum to 1: their joints would not move with the mesh.

    Raises
    ------
    ValueError
        If a value is not finite, or a row is off by more than 0.001, the limit of bundles.
    """
    if not np.isfinite(array).all():
        raise ValueError(f"{path}: holds values that are not finite; copy the joint regressor again")
    sums = array.sum(axis=1, dtype=np.float64)
    worst = sums[np.abs(sums - 1).argmax()]
    if abs(worst - 1) > 1e-3:
        raise ValueError(f"{path}: a row sums to {worst:.4f}; each row of a joint regressor must sum to 1 within 0.001")
