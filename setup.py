# SPDX-License-Identifier: Apache-2.0
"""The compiled core; all else is in pyproject.toml.

Without a C compiler the package is built without it. With ``CMR_RUNTIME_CORE=required`` in the environment the build
fails then: for wheels that are given away.
"""

import os
import sysconfig
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


class BuildCore(build_ext):
    """Chooses the options by the compiler that is used."""

    def build_extensions(self) -> None:
        """Build, without fused multiply-adds: results then do not depend on the compiler's choice."""
        microsoft = self.compiler.compiler_type == "msvc"
        for extension in self.extensions:
            extension.extra_compile_args = (
                ["/O2", "/std:c11"] if microsoft else ["-O3", "-std=c11", "-ffp-contract=off"]
            )
            extension.libraries = [] if microsoft else ["m"]
        super().build_extensions()


core = Extension(
    "cmr_runtime._core",
    sorted(glob("cmr_runtime/core/*.c")),
    depends=sorted(glob("cmr_runtime/core/*.h")),
    py_limited_api=True,
    optional=os.environ.get("CMR_RUNTIME_CORE") != "required",
)
# Python without its global lock has no stable ABI before 3.15.
if not sysconfig.get_config_var("Py_GIL_DISABLED"):
    setup(
        ext_modules=[core],
        cmdclass={"build_ext": BuildCore},
        options={"bdist_wheel": {"py_limited_api": "cp311"}},
    )
else:
    setup()
