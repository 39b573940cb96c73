# SPDX-License-Identifier: Apache-2.0
"""What counts as a number where a caller gives one: no text, and no truth value."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import Any

__all__ = ["is_number", "pair"]


def is_number(value: Any) -> bool:
    """Whether it is a real number that a float holds, be it infinite or none at all; True and False are no numbers."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True


def pair(values: Any) -> tuple[float, float] | None:
    """Return two numbers as floats; None of anything else."""
    found = list(values) if isinstance(values, Iterable) and not isinstance(values, str | bytes) else []
    if len(found) != 2 or not all(map(is_number, found)):
        return None
    return float(found[0]), float(found[1])
