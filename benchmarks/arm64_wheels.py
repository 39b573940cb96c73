# SPDX-License-Identifier: Apache-2.0
"""What the base install comes to on aarch64: pip resolves it for that platform's tags alone, with no emulation."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from cmr_runtime.errors import CmrError

from .arm64_root import GLIBC, PYTHON

__all__ = ["CONSTRAINTS", "build", "download", "oldest_glibc", "platforms"]

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"

#: Glibc that ``manylinux2014`` stands for (PEP 599), under which there is none for aarch64.
_FIRST = 17
_TAG = re.compile(r"manylinux_2_(\d+)_aarch64|manylinux(2014)_aarch64")


def platforms() -> list[str]:
    """Tags of wheels that the root can run, the newest first (PEP 600)."""
    return [f"manylinux_2_{minor}_aarch64" for minor in range(GLIBC[1], _FIRST - 1, -1)] + ["manylinux2014_aarch64"]


def oldest_glibc(names: Iterable[str]) -> str:
    """Oldest glibc on which wheels of these file names install; a wheel with several tags takes the oldest of them."""
    needed = [_FIRST]
    for name in names:
        minors = [int(minor) if minor else _FIRST for minor, _ in _TAG.findall(name)]
        needed += [min(minors)] if minors else []
    return f"2.{max(needed)}"


def build(folder: Path) -> Path:
    """Wheel of the checkout, built by way of a source distribution, so that no earlier build gets into it.

    Raises
    ------
    CmrError
        It does not build.
    """
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "build", "--outdir", folder, ROOT], "the wheel does not build")
    (wheel,) = folder.glob("*.whl")
    return wheel


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
    _run([*pip, "--constraint", CONSTRAINTS, *requirements], "the install does not resolve to aarch64 wheels")
    return sorted(folder.glob("*.whl"), key=lambda wheel: (-wheel.stat().st_size, wheel.name))


def _run(command: Sequence[object], what: str) -> None:
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=1800)
    if done.returncode:
        told = [line for line in (done.stderr or done.stdout).splitlines() if not line.startswith("WARNING")]
        said = " ".join(" ".join(told).split())[-500:]
        raise CmrError(f"{what} (`python -m {words[2]}` of the extra 'test' needs a package index): {said}")
