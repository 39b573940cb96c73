# SPDX-License-Identifier: Apache-2.0
"""Files of tensors: read without running what is in them, written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

__all__ = ["read_content", "save_content"]


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


def save_content(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values; a reader finds the old file or the new one."""
    temporary = path.with_suffix(path.suffix + ".tmp")
    torch.save(content, temporary)
    temporary.replace(path)
