# SPDX-License-Identifier: Apache-2.0
"""Files of tensors and arrays: read without running what is in them, written whole or not at all."""

from __future__ import annotations

import io
import zipfile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["read_array", "read_arrays", "read_content", "save_content"]

#: Most bytes of arrays in a file, as it declares them.
MAX_BYTES = 64 << 20
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_content(path: Path) -> Any:
    """Read what `torch.save` wrote, on the CPU; nothing but tensors and plain values is unpickled.

    Raises
    ------
    ValueError
        If the file is absent, truncated, no checkpoint, or names anything else.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds, in several lines, and advises to trust the file
        kind = type(error).__name__
        raise ValueError(f"{path}: cannot be read as a checkpoint of tensors and plain values ({kind})") from error


def read_array(path: Path) -> np.ndarray:
    """Read a ``.npy`` file of numbers; memory is taken only for what the file really holds.

    Raises
    ------
    ValueError
        If the file is absent, too large, damaged, or no such array.
    """
    try:
        _limit(path.stat().st_size)
        return _array(path.read_bytes())
    except Exception as error:  # a damaged header raises nearly anything
        raise ValueError(f"{path}: no .npy array of numbers as numpy.save writes it ({error})") from error


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read a ``.npz`` file of numbers; memory is taken only for what the file really holds.

    Raises
    ------
    ValueError
        If the file is absent, too large, damaged, or no such archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _limit(sum(entry.file_size for entry in entries))
            arrays = {}
            for entry in entries:
                if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError(f"{entry.filename} is compressed in another way than NumPy's")
                with archive.open(entry) as stream:  # read() without a number would inflate more than is declared
                    arrays[entry.filename.removesuffix(".npy")] = _array(stream.read(entry.file_size))
        return arrays
    except Exception as error:  # a damaged archive raises nearly anything
        raise ValueError(f"{path}: no .npz archive of numbers as numpy.savez writes it ({error})") from error


def _limit(size: int) -> None:
    if size > MAX_BYTES:
        raise ValueError(f"{size} bytes; the limit is {MAX_BYTES}")


def _array(data: bytes) -> np.ndarray:
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"version {version} of the format; need one of {list(_HEADERS)}")
    shape, _, dtype = _HEADERS[version](stream)
    declared, held = prod(shape) * dtype.itemsize, len(data) - stream.tell()
    if dtype.kind not in "fiu" or declared != held:
        raise ValueError(f"its header declares {dtype} {shape}, {declared} bytes; it holds {held}")
    return np.load(io.BytesIO(data), allow_pickle=False)


def save_content(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values; a reader finds the old file or the new one."""
    temporary = path.with_suffix(path.suffix + ".tmp")
    torch.save(content, temporary)
    temporary.replace(path)
