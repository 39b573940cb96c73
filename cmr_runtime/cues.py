# SPDX-License-Identifier: Apache-2.0
"""What the network's maps say of a hand in the image: its joints, and its outline."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .compiled import core, taken
from .heatmaps import decode
from .network import MeshOutput
from .roi import Roi
from .silhouette import FEWEST, LEVEL, MARGIN, SMALLEST, contour, cut
from .view import View

__all__ = ["Cues", "read_cues"]

#: Points of an outline for which the compiled core has room, by the side of its map.
_ROOM = 32


class Cues(NamedTuple):
    """2D cues in pixels of the image; `marks` tells which points of the outline a border cuts."""

    keypoints: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]
    outline: npt.NDArray[np.float32] | None
    marks: npt.NDArray[np.bool_] | None


def read_cues(output: MeshOutput, view: View, cell_centre: float, width: int, height: int) -> Cues:
    """Refined cues of a look at an image of that size; where the mesh stage gives none, those of the prior stage."""
    S, roi = view.size, view.roi
    silhouette = view.prior.silhouette if output.silhouette is None else output.silhouette
    if core is not None and output.heatmaps is not None and silhouette is not None:
        cues = _in_core(output.heatmaps, silhouette, S, cell_centre, roi, width, height)
        if cues is not None:
            return cues
    crop_points, scores = view.pose if output.heatmaps is None else decode(output.heatmaps, S, cell_centre)
    keypoints = roi.to_image(crop_points, S)
    crop_outline = None if silhouette is None else contour(silhouette, S)
    if crop_outline is None:
        return Cues(keypoints, scores, None, None)
    outline = roi.to_image(crop_outline, S).astype(np.float32)
    return Cues(keypoints, scores, outline, cut(crop_outline, outline, S, width, height))


def _in_core(
    heatmaps: npt.NDArray[np.float32],
    silhouette: npt.NDArray[np.float32],
    S: int,
    cell_centre: float,
    roi: Roi,
    width: int,
    height: int,
) -> Cues | None:
    """Do all of it in one call of the compiled core; None for what NumPy and OpenCV have to do."""
    assert core is not None
    count, cells = len(heatmaps), len(silhouette)
    if not (taken(heatmaps, np.float32) and taken(silhouette, np.float32)):
        return None
    keypoints, scores, most = np.empty((count, 2)), np.empty(count), _ROOM * cells
    outline, marks = np.empty((most, 2), np.float32), np.empty(most, np.bool_)
    found = core.cues(
        heatmaps,
        *heatmaps.shape,
        silhouette,
        cells,
        S,
        cell_centre,
        roi.affine(S),
        (width, height),
        (LEVEL, FEWEST, SMALLEST, MARGIN),
        keypoints,
        scores,
        outline,
        marks,
    )
    if found < 0:
        return None
    if found == 0:
        return Cues(keypoints, scores, None, None)
    return Cues(keypoints, scores, outline[:found].copy(), marks[:found].copy())
