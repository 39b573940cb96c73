# SPDX-License-Identifier: Apache-2.0
"""Files of tensors and arrays: read without running what is in them, written whole or not at all."""

from __future__ import annotations

import io
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cmr_runtime.archive import MANIFEST

__all__ = ["check_finite", "read_about", "read_array", "read_arrays", "read_content", "save_content"]

#: Most bytes of arrays in a file, as it declares them.
MAX_BYTES = 64 << 20
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


#: What to do about a file that is no checkpoint of tensors.
ADVICE = "save the weights alone: torch.save({'model_state_dict': model.state_dict()}, FILE)"


def read_content(path: Path) -> Any:
    """Read what `torch.save` wrote, on the CPU; nothing but tensors and plain values is unpickled.

    Raises
    ------
    ValueError
        If the file is absent, truncated, no checkpoint, names anything else, or holds tensors that are larger than
        what it stores of them.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # what matters becomes an error
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds, in several lines, and advises to trust the file
        if _is_bundle(path):
            raise ValueError(f"{path}: is a bundle already; give it to cmr-track --model") from error
        raise ValueError(
            f"{path}: cannot be read as a checkpoint of tensors and plain values: {_fault(error)}"
        ) from error
    for name, tensor in _tensors(content):
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            kind = f"{tensor.layout} on {tensor.device}"
            raise ValueError(f"{path}: {name} is no plain tensor but {tensor.dtype}, {kind}; {ADVICE}")
        # Strides of 0 make a shape of any size from a few bytes; networks are built from shapes.
        claimed, held = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
        if claimed > held:
            shape = tuple(tensor.shape)
            raise ValueError(
                f"{path}: {name} of shape {shape} claims {claimed} bytes and holds {held}; save a copy of it"
            )
    return content


def _is_bundle(path: Path) -> bool:
    """Whether a file is what `cmr-export` writes."""
    try:
        with zipfile.ZipFile(path) as archive:
            return MANIFEST in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def _fault(error: Exception) -> str:
    """Say in one sentence what is wrong with a file that torch cannot read, and the mend."""
    if isinstance(error, OSError) and error.filename is not None:  # without one it comes from offsets in the file
        return f"{error.strerror or error}; give the file of a checkpoint"
    if named := re.search(r"GLOBAL (\S+)", str(error)):
        return f"it names {named[1]}, which could run code; {ADVICE}"
    if "TorchScript" in str(error):
        return f"it is a TorchScript archive; {ADVICE}"
    if isinstance(error, EOFError | OSError | RuntimeError):
        return "it is cut short or damaged; copy it again"
    kind = "a pickle of another kind" if isinstance(error, pickle.UnpicklingError) else type(error).__name__
    return f"it is no file of torch.save ({kind}); {ADVICE}"


def _tensors(content: Any) -> Iterator[tuple[str, Tensor]]:
    """All tensors in nested dicts and lists, by name; without recursion, as files may nest at will."""
    pending, seen = [("it", content)], set()
    while pending:
        name, value = pending.pop()
        if torch.is_tensor(value):
            yield name, value
        elif isinstance(value, Mapping | list | tuple) and id(value) not in seen:
            seen.add(id(value))  # the parts of a pickle may hold each other
            items = value.items() if isinstance(value, Mapping) else enumerate(value)
            pending += [(str(key), part) for key, part in items]


def check_finite(path: Path, weights: Mapping[Any, Any]) -> None:
    """Refuse weights that are not finite, naming the first.

    Raises
    ------
    ValueError
        If one is infinite or no number.
    """
    for name, value in weights.items():
        if torch.is_tensor(value) and not torch.isfinite(value).all():
            raise ValueError(
                f"{path}: {name} holds values that are not finite; give weights from before they were lost"
            )


def read_about(path: Path, text: Any) -> dict[str, Any]:
    """Read what a checkpoint says about itself: the JSON of an object, see `cmr_models.stages.StagedNetwork`.

    Raises
    ------
    ValueError
        If it is none, its terms are no text, or it names its sources otherwise than {name: text}.
    """
    try:
        about = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        about = None
    if (
        not isinstance(about, dict)
        or not isinstance(about.get("sources", {}), dict)
        or not all(isinstance(about.get(key, ""), str) for key in ("licence", "licence_text"))
    ):
        raise ValueError(
            f"{path}: about is {str(text)[:60]!r}, need the JSON of an object with text for licence and licence_text "
            "and sources {name: text}; the file is damaged or wrongly written"
        )
    return about


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
