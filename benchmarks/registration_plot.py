# SPDX-License-Identifier: Apache-2.0
"""A picture of the benchmark: mean error over joint noise, one panel per silhouette, drawn with OpenCV."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cmr_runtime.errors import CmrError

from .registration_scenes import DISTANCES, SILHOUETTES

__all__ = ["draw"]

SIDE, MARGIN, LEGEND = 420, 60, 70
LOW_MM, HIGH_MM = 0.1, 300.0
COLOURS = {
    "ours": (30, 30, 200),
    "ours, 2D only": (60, 150, 240),
    "ours, 1D only": (60, 180, 60),
    "SLSQP": (160, 90, 30),
    "PnP": (150, 150, 150),
}
BLACK, GREY = (40, 40, 40), (225, 225, 225)


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Write a PNG of the cells without outliers and with an exact mesh; errors on a logarithmic scale."""
    panels = [_panel(report, silhouette) for silhouette in SILHOUETTES]
    if not cv2.imwrite(str(path), np.hstack(panels)):
        raise CmrError(f"{path} cannot be written; give a file name that ends in .png in a folder that exists")


def _panel(report: Mapping[str, Any], silhouette: str) -> np.ndarray:
    cells = [cell for cell in report["cells"] if _shown(cell["condition"], silhouette)]
    most = max(cell["condition"]["noise"] for cell in cells) or 1.0
    canvas = np.full((SIDE, SIDE + LEGEND, 3), 255, np.uint8)

    def at(noise: float, error: float) -> tuple[int, int]:
        share = np.log(min(max(error, LOW_MM), HIGH_MM) / LOW_MM) / np.log(HIGH_MM / LOW_MM)
        inner = SIDE - 2 * MARGIN
        return round(MARGIN + inner * noise / most), round(SIDE - MARGIN - inner * share)

    for error in (0.1, 1, 10, 100):
        cv2.line(canvas, at(0, error), at(most, error), GREY, 1)
        _write(canvas, f"{error:g}", (8, at(0, error)[1] + 4), BLACK)
    for noise in sorted({cell["condition"]["noise"] for cell in cells}):
        _write(canvas, f"{noise:g}", (at(noise, LOW_MM)[0] - 4, SIDE - MARGIN + 18), BLACK)
    _write(canvas, f"{silhouette}: mean root error in mm over joint noise in px", (8, 18), BLACK)
    for row, (name, colour) in enumerate(COLOURS.items()):
        points = [at(cell["condition"]["noise"], cell["solvers"][name]["mean"]) for cell in cells]
        cv2.polylines(canvas, [np.array(points)], False, colour, 2, cv2.LINE_AA)
        _write(canvas, name, (SIDE - MARGIN + 12, MARGIN + 16 * row), colour)
    return canvas


def _shown(condition: Mapping[str, Any], silhouette: str) -> bool:
    plain = condition["outliers"] == 0 and condition["mesh"] == "exact" and condition["silhouette"] == silhouette
    return plain and tuple(condition["distance"]) == DISTANCES


def _write(canvas: np.ndarray, text: str, place: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, 1, cv2.LINE_AA)
