# SPDX-License-Identifier: Apache-2.0
"""The mesh that a bundle carries: template, triangles, joints, checked before use."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import BundleError

__all__ = ["Topology"]

#: Most bytes that the arrays may take once read; a guard against archives that unpack to far more than they hold.
MAX_BYTES = 64 << 20
_KEYS = ("template", "faces", "joint_regressor", "joint_parents")
_OPTIONAL = "joint_regressor"


@dataclass(frozen=True, eq=False)
class Topology:
    """Mesh of a right hand, or of what else the network knows.

    Attributes
    ----------
    template : (V, 3) float32
        Rest shape, metres.
    faces : (F, 3) int32
        Triangles, counter-clockwise seen from outside.
    joint_regressor : (J, V) float32, or None
        Joints are ``joint_regressor @ vertices``; each row sums to 1, so that joints move with the mesh. None where the
        mesh's maker keeps it; such a mesh cannot be placed in an image.
    joint_parents : (J,) int32
        Parent of each joint, which comes before it; the first (a hand's wrist) is its own parent. A hand has 21.

    Raises
    ------
    BundleError
        An array of another shape or type, or with values that cannot be.
    """

    template: npt.NDArray[np.float32]
    faces: npt.NDArray[np.int32]
    joint_regressor: npt.NDArray[np.float32] | None
    joint_parents: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        count = int(self.template.shape[0]) if self.template.ndim else 0
        _expect("template", self.template, np.float32, (count, 3))
        _expect("faces", self.faces, np.int32, (int(self.faces.shape[0]) if self.faces.ndim else 0, 3))
        joints = self.joint_parents.size
        _expect("joint_parents", self.joint_parents, np.int32, (joints,))
        if count < 3 or self.faces.shape[0] < 1:
            raise BundleError(f"topology has {count} vertices and {self.faces.shape[0]} faces; export it again")
        if self.faces.min() < 0 or self.faces.max() >= count:
            span = f"{self.faces.min()} to {self.faces.max()}"
            raise BundleError(f"topology faces index vertices {span}; the template has {count}")
        parents = self.joint_parents
        if joints == 0 or parents[0] != 0 or (parents[1:] < 0).any() or (parents[1:] >= np.arange(1, joints)).any():
            raise BundleError(
                f"topology joint_parents is {parents.tolist()}; each joint follows its parent, the first is its own"
            )
        if self.joint_regressor is not None:
            _expect("joint_regressor", self.joint_regressor, np.float32, (joints, count))
            rows = self.joint_regressor.sum(axis=1, dtype=np.float64)
            if np.abs(rows - 1.0).max() > 1e-3:
                worst = rows[np.abs(rows - 1.0).argmax()]
                raise BundleError(
                    f"a row of topology joint_regressor sums to {worst:.4f}; it must sum to 1 within 0.001"
                )
        for key, array in list(self._arrays()):
            own = array.copy()  # the caller's stays as it is
            own.setflags(write=False)
            object.__setattr__(self, key, own)

    @property
    def joints(self) -> int:
        """Number J of joints."""
        return len(self.joint_parents)

    def _arrays(self) -> Iterator[tuple[str, npt.NDArray[np.generic]]]:
        """Names and arrays, those that are there."""
        for key in _KEYS:
            if (array := getattr(self, key)) is not None:
                yield key, array

    def to_npz(self) -> bytes:
        """Pack the arrays as an uncompressed ``.npz``; the same arrays give the same bytes."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for key, array in self._arrays():
                file = io.BytesIO()
                np.save(file, array, allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{key}.npy", (1980, 1, 1, 0, 0, 0)), file.getvalue())
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, data: bytes) -> Topology:
        """Read and check the arrays; nothing in the file is executed (no pickles).

        Raises
        ------
        BundleError
            A file that is no ``.npz``, is too large, or lacks an array, or an array that does not pass the checks.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                size = sum(info.file_size for info in archive.infolist())
                names = sorted(info.filename for info in archive.infolist())
                packed = {info.compress_type for info in archive.infolist()}
            if packed - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise BundleError("topology.npz is packed in another way than stored or deflated; export it again")
            if size > MAX_BYTES:
                raise BundleError(f"topology.npz unpacks to {size} bytes; the limit is {MAX_BYTES}")
            if sorted({*names, f"{_OPTIONAL}.npy"}) != sorted(f"{key}.npy" for key in _KEYS):
                raise BundleError(
                    f"topology.npz holds {names}; it must hold exactly {sorted(_KEYS)}, and may lack {_OPTIONAL}"
                )
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                content: dict[str, Any] = {key: np.ascontiguousarray(arrays[key]) for key in arrays.files}
                return cls(**{_OPTIONAL: None, **content})
        except (
            zipfile.BadZipFile,
            ValueError,
            TypeError,
            OSError,
            EOFError,
            MemoryError,
            NotImplementedError,
            RuntimeError,
            zlib.error,
        ) as error:
            raise BundleError(f"topology.npz cannot be read ({error}); export the bundle again") from error


def _expect(name: str, array: npt.NDArray[np.generic], dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape:
        wanted = f"{np.dtype(dtype).name} {shape}"
        raise BundleError(f"topology {name} is {array.dtype} {array.shape}; it must be {wanted}")
    if not np.isfinite(array).all():
        raise BundleError(f"topology {name} holds values that are not finite; export the bundle again")
