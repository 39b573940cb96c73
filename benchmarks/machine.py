# SPDX-License-Identifier: Apache-2.0
"""What a timing must say of the machine that it was taken on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

__all__ = ["describe_machine", "processor_name"]


def processor_name(cpuinfo: str) -> str:
    """Name of the processor, from the text of ``/proc/cpuinfo`` where it has one; the architecture otherwise.

    Arm kernels give no name; a board's device tree names the board, which is what a reader wants there.
    """
    fields = dict(line.split(":", 1) for line in cpuinfo.splitlines() if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    return named.get("model name") or named.get("Model") or platform.processor() or platform.machine()


def describe_machine() -> dict[str, str | int | float | None]:
    """Processor, cores that this process may use, system, and how loaded it is (average of the last minute)."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        cpuinfo = ""
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "processor": processor_name(cpuinfo),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }
