# SPDX-License-Identifier: Apache-2.0
"""The compiled core, where there is one: the same results as NumPy's, in a tenth of the time.

It is built with the package where there is a C compiler, and left out where there is none. Every module that uses it
has the same in NumPy; ``CMR_RUNTIME_COMPILED=0`` in the environment has them use that.
"""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ABSENT", "INTERFACE", "IN_USE", "OFF", "core", "state", "taken"]

#: Of the core that this version needs (`core/module.c`); a library left from another build is not taken.
INTERFACE = 8
#: How a `state` begins.
IN_USE, OFF, ABSENT = "in use", "switched off by CMR_RUNTIME_COMPILED=0", "absent"


def _load() -> tuple[ModuleType | None, str]:
    if os.environ.get("CMR_RUNTIME_COMPILED") == "0":
        return None, OFF
    try:
        found = import_module("._core", __package__)
    except ImportError as error:
        return None, f"{ABSENT} ({error})"
    if (interface := getattr(found, "INTERFACE", None)) != INTERFACE:
        return None, f"{ABSENT} (the one that is there has interface {interface}, not {INTERFACE})"
    return found, IN_USE


#: The extension module, or None; and what there is to say about it.
core, state = _load()


def taken(array: npt.NDArray[Any], *kinds: type[np.generic]) -> bool:
    """Whether the core takes an array as it is: one of these kinds, without gaps and in its place in memory."""
    return array.dtype in kinds and array.flags.c_contiguous and array.flags.aligned
