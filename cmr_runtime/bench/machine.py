# SPDX-License-Identifier: Apache-2.0
"""What a timing must say of the machine that it was taken on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

__all__ = ["describe_machine", "describe_versions", "governor", "processor_name"]

#: Packages that do the work on our side.
_PACKAGES = ("cmr-runtime", "onnxruntime", "numpy", "opencv-python-headless", "osqp")


def processor_name(cpuinfo: str) -> str:
    """Name of the processor, from the text of ``/proc/cpuinfo`` where it has one; the architecture otherwise.

    Arm kernels give no name; a board's device tree names the board, which is what a reader wants there.
    """
    fields = dict(line.split(":", 1) for line in cpuinfo.splitlines() if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    return named.get("model name") or named.get("Model") or platform.processor() or platform.machine()


def governor(folder: Path = Path("/sys/devices/system/cpu")) -> str | None:
    """Return what sets the clock of the cores, as Linux tells it: all governors in use; None where it does not tell."""
    found = {_text(path).strip() for path in folder.glob("cpu[0-9]*/cpufreq/scaling_governor")}
    return ", ".join(sorted(found - {""})) or None


def describe_machine() -> dict[str, str | int | float | None]:
    """Processor, cores that this process may use, governor, system, and its load (average of the last minute)."""
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "processor": processor_name(_text(Path("/proc/cpuinfo"))),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "governor": governor(),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def describe_versions() -> dict[str, str]:
    """Versions of Python and of `_PACKAGES`; one that is used from its sources is so called."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed as a package"
    return versions


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
