# SPDX-License-Identifier: Apache-2.0
"""The compiled core; all else is in pyproject.toml. Without a C compiler the package is built without it."""

import sys
from glob import glob

from setuptools import Extension, setup

windows = sys.platform == "win32"
core = Extension(
    "cmr_runtime._core",
    sorted(glob("cmr_runtime/core/*.c")),
    depends=sorted(glob("cmr_runtime/core/*.h")),
    # No fused multiply-add: results then do not depend on the compiler's choice.
    extra_compile_args=["/O2", "/std:c11"] if windows else ["-O3", "-std=c11", "-ffp-contract=off"],
    libraries=[] if windows else ["m"],
    py_limited_api=True,
    optional=True,
)
setup(ext_modules=[core], options={"bdist_wheel": {"py_limited_api": "cp311"}})
