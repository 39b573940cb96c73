# SPDX-License-Identifier: Apache-2.0
"""A picture of a report: the time of each frame, and how times are distributed. Drawn with Matplotlib."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..errors import InputError
from .report import Report

__all__ = ["draw"]


def draw(report: Report, path: str | os.PathLike[str]) -> None:
    """Write a picture; its suffix says in which form (``.png``, ``.svg``, ``.pdf``).

    Raises
    ------
    InputError
        Matplotlib is not installed, or does not write that form.
    OSError
        The file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("--plot needs matplotlib; install it: pip install 'cmr-runtime[bench]'") from None
    path = Path(path)
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in formats:
        raise InputError(f"--plot is {path}; give a file name that ends in one of .{', .'.join(sorted(formats))}")
    frames, shares = figure.subplots(1, 2)
    for entry in report.entries:
        ms = np.array(entry.samples.ms)
        found = np.array(entry.samples.detecting)
        (line,) = frames.plot(ms, linewidth=0.8, label=entry.name)
        frames.plot(np.flatnonzero(found), ms[found], ".", markersize=3, color=line.get_color())
        shares.plot(np.sort(ms), np.linspace(0, 100, len(ms)), color=line.get_color(), label=entry.name)
    frames.set(xlabel="frame (a dot: searched for hands)", ylabel="ms", ylim=(0, None))
    shares.set(xlabel="ms", ylabel="% of frames within", xlim=(0, None))
    shares.legend(fontsize="small")
    machine, clip = report.machine, report.settings
    figure.suptitle(f"{machine.processor}, {report.date}; {clip.clip}, {clip.width}×{clip.height}", fontsize="medium")
    figure.savefig(path, dpi=130)
