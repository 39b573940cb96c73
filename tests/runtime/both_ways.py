# SPDX-License-Identifier: Apache-2.0
"""The same call with the compiled core and without it."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from cmr_runtime.compiled import core

__all__ = ["Untouchable", "both"]


class Untouchable:
    """A core that must not be asked."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} of the core is called")


def both(modules: ModuleType | tuple[ModuleType, ...], call: Callable[[], Any]) -> tuple[Any, Any]:
    """What a call gives with the core and without, in these modules."""
    results = []
    with pytest.MonkeyPatch.context() as patch:
        for which in (core, None):
            for module in modules if isinstance(modules, tuple) else (modules,):
                patch.setattr(module, "core", which)
            results.append(call())
    return results[0], results[1]
