# SPDX-License-Identifier: Apache-2.0
import pytest

import cmr_runtime
from cmr_runtime import BundleError, CameraError, CmrError, InputError


@pytest.mark.parametrize("kind", [BundleError, CameraError, InputError])
def test_every_kind_is_a_cmr_error(kind: type[Exception]) -> None:
    assert issubclass(kind, CmrError)


def test_wrong_arguments_are_value_errors_too() -> None:
    assert issubclass(InputError, ValueError)
    assert issubclass(CameraError, ValueError)


def test_public_surface_is_sorted_and_exists() -> None:
    names = cmr_runtime.__all__
    assert names == sorted(names)
    assert all(hasattr(cmr_runtime, name) for name in names)


def test_runtime_never_loads_torch() -> None:
    import subprocess
    import sys

    foreign = ("torch", "scipy", "cmr_models")
    code = f"import sys; from cmr_runtime import *; sys.exit(any(m in sys.modules for m in {foreign}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
