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


def both(module: ModuleType, call: Callable[[], Any]) -> tuple[Any, Any]:
    """What a call gives with the core and without."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "core", core)
        compiled = call()
        patch.setattr(module, "core", None)
        return compiled, call()
