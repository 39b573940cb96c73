# SPDX-License-Identifier: Apache-2.0
"""The wheels, this machine's and one compiled here for aarch64, and what the base install comes to there.

pip resolves it for that platform's tags alone, with no emulation.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cmr_runtime.errors import CmrError

from .arm64_root import COMPILER, GLIBC, PYTHON

__all__ = ["CONSTRAINTS", "build", "cross_build", "download", "oldest_glibc", "platforms"]

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"

#: The compiled core in a wheel. Where it does not compile, a wheel is built without it and without a word.
_CORE = "cmr_runtime/_core.abi3.so"
#: Tag of a wheel that is compiled here and promises nothing of other distributions.
_OURS = "linux_aarch64"

#: Glibc that ``manylinux2014`` stands for (PEP 599), under which there is none for aarch64.
_FIRST = 17
_TAG = re.compile(r"manylinux_2_(\d+)_aarch64|manylinux(2014)_aarch64")


def platforms() -> list[str]:
    """Tags of wheels that the root can run, the newest first (PEP 600), and of the one that is compiled here."""
    minors = range(GLIBC[1], _FIRST - 1, -1)
    return [*(f"manylinux_2_{minor}_aarch64" for minor in minors), "manylinux2014_aarch64", _OURS]


def oldest_glibc(names: Iterable[str]) -> str:
    """Oldest glibc on which wheels of these file names install; a wheel with several tags takes the oldest of them."""
    needed = [_FIRST]
    for name in names:
        minors = [int(minor) if minor else _FIRST for minor, _ in _TAG.findall(name)]
        needed += [min(minors)] if minors else []
    return f"2.{max(needed)}"


def build(folder: Path) -> Path:
    """Wheel of the checkout for this machine, built by way of a source distribution: no earlier build gets into it.

    Raises
    ------
    CmrError
        It does not build, or holds no compiled core.
    """
    return _build(folder, {}, "gcc python3-dev")


def cross_build(folder: Path) -> Path:
    """Wheel of the checkout for aarch64, with this machine's headers of Python: the stable ABI is the same on both.

    Raises
    ------
    CmrError
        It does not build, or holds no compiled core.
    """
    environment = {
        "CC": COMPILER,
        "LDSHARED": f"{COMPILER} -shared",
        # In place of this Python's own flags, which may be those of its processor.
        "CFLAGS": f"-DNDEBUG -fwrapv -I{shlex.quote(str(_headers(folder.with_name('headers'))))}",
        "_PYTHON_HOST_PLATFORM": "linux-aarch64",
    }
    return _build(folder, environment, "gcc-aarch64-linux-gnu libc6-dev-arm64-cross")


def _build(folder: Path, environment: Mapping[str, str], packages: str) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    told = _run([sys.executable, "-m", "build", "--outdir", folder, ROOT], "the wheel does not build", environment)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        if _CORE not in archive.namelist():
            why = next((line.strip() for line in told.splitlines() if "error:" in line), "no word of the compiler")
            raise CmrError(f"{wheel.name} has no compiled core ({why}); install with `apt-get install {packages}`")
    return wheel


def _headers(folder: Path) -> Path:
    """Folder in which Debian's headers of Python, which include those of the processor, find this machine's."""
    version = f"python{sysconfig.get_python_version()}"
    ours = Path(sysconfig.get_path("include")).parent / str(sysconfig.get_config_var("MULTIARCH")) / version
    theirs = folder / COMPILER.removesuffix("-gcc") / version
    theirs.mkdir(parents=True, exist_ok=True)
    (theirs / "pyconfig.h").write_text(f'#include "{ours / "pyconfig.h"}"\n', "utf-8")
    return folder


def download(requirements: Sequence[object], folder: Path) -> list[Path]:
    """Wheels for aarch64 of these requirements and of all that they need, in a folder that is made anew.

    Parameters
    ----------
    requirements : sequence
        As pip takes them; versions are those of ``constraints.txt``.
    folder : Path
        Where they come to lie.

    Returns
    -------
    list of Path
        The largest first.

    Raises
    ------
    CmrError
        Something has no wheel for aarch64, or no index answers.
    """
    shutil.rmtree(folder, ignore_errors=True)
    tags = [word for platform in platforms() for word in ("--platform", platform)]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", folder]
    pip += ["--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON, *tags]
    _run([*pip, "--constraint", CONSTRAINTS, *requirements], "the install does not resolve to aarch64 wheels", {})
    return sorted(folder.glob("*.whl"), key=lambda wheel: (-wheel.stat().st_size, wheel.name))


def _run(command: Sequence[object], what: str, environment: Mapping[str, str]) -> str:
    """Return all that a module of Python says, with so much more in its environment."""
    words, told = [str(word) for word in command], {**os.environ, **environment}
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=1800, env=told)
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if not line.startswith("WARNING")]
        said = " ".join(" ".join(lines).split())[-500:]
        raise CmrError(f"{what} (`python -m {words[2]}` of the extra 'test' needs a package index): {said}")
    return done.stdout + done.stderr
