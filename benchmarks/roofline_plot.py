# SPDX-License-Identifier: Apache-2.0
"""The roofline as a picture: multiply-adds a second over multiply-adds a byte, one point per group of operators."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cmr_runtime.errors import CmrError

__all__ = ["draw"]

MARKERS = "osD^v"


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Draw the report of `roofline.measure`; groups without multiply-adds have no place in it.

    Raises
    ------
    CmrError
        Matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise CmrError("--plot needs matplotlib; pip install 'cmr-runtime[bench]'") from None
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.add_subplot(xscale="log", yscale="log")
    points = [
        (name, group, group["multiply_adds"] / (group["weight_bytes"] + group["activation_bytes"]))
        for name, stage in report["stages"].items()
        for group in stage["groups"]
        if group["multiply_adds"]
    ]
    reach = [intensity for *_, intensity in points]
    x = np.geomspace(min(reach) / 3, max(reach) * 3, 200)
    limits = report["limits"]
    for key, label, style in (("l2", "L2 cache", "-"), ("weights", "the weights", "--"), ("memory", "memory", ":")):
        roof = 1e-9 * np.minimum(limits["product"], limits[key] * x)
        axes.plot(x, roof, style, color="0.3", label=f"{1e-9 * limits[key]:.0f} GB/s, as from {label}")
    axes.axhline(1e-9 * limits["layer"], color="0.7", linewidth=1, label="product of a layer's shape")
    groups = sorted({group["group"] for _, group, _ in points})
    for name, marker in zip(report["stages"], MARKERS, strict=False):
        for stage, group, intensity in points:
            if stage == name:
                colour = f"C{groups.index(group['group'])}"
                axes.plot(intensity, group["gmac_s"], marker, color=colour, label=f"{name}: {group['group']}")
    axes.set_xlabel("multiply-adds a byte")
    axes.set_ylabel("G multiply-adds a second")
    axes.set_title(f"{report['machine']['processor']}, threads: {report['settings']['threads']}")
    axes.grid(which="both", color="0.92")
    axes.legend(fontsize=7)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise CmrError(f"{path} cannot be written ({error}); give a file name that ends in .png or .svg") from error
