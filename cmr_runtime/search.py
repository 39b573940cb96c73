# SPDX-License-Identifier: Apache-2.0
"""Find hands in a whole image: overlapping windows of several sizes, scored by the prior stage, then drawn tight."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .roi import Roi
from .view import View, Viewer

__all__ = ["Search", "windows"]

#: Each size of window is this much smaller than the one before: a hand that two sizes see is 27 % off either at most.
STEP = 1.6
#: Number of window sizes below the whole image.
SIZES = 3
#: Squares that share more than this (intersection over union) show the same hand.
SAME = 0.4
#: Least `View.clarity` of a hand that is found by searching. Of 287 held-out pictures without a hand the default model
#: sees one in 19 % by presence alone, three quarters of them with a clarity under 0.21; labelled photos have over 0.3.
CLEAR = 0.2
#: Rounds in which a box is drawn around the keypoints seen in the box before.
ROUNDS = 3
#: A box that still moves more than this (intersection over union below) in the last round has found nothing.
SETTLED = 0.5


def windows(width: int, height: int) -> list[Roi]:
    """Squares, each half over its neighbours, from the one around the whole image to the smallest, large ones first."""
    sizes = [float(max(width, height))]
    sizes += [min(width, height) / STEP**k for k in range(SIZES)]
    found = []
    for size in dict.fromkeys(sizes):
        for y in _centres(height, size):
            found += [Roi(x, y, size) for x in _centres(width, size)]
    return found


class Search:
    """Searches an image at once, or a few windows per frame of a video, in turn.

    Parameters
    ----------
    min_presence : float
        A hand has at least this presence, 0 to 1.
    scale : float
        Side of a hand's box as a multiple of the larger side of its keypoints' bounding box.
    """

    def __init__(self, min_presence: float, scale: float) -> None:
        self._min_presence = min_presence
        self._scale = scale
        self._shape: tuple[int, int] = (0, 0)
        self._windows: list[Roi] = []
        self._next = 0

    def reset(self) -> None:
        """Begin the next search of a video with the largest window again."""
        self._next = 0

    def __call__(
        self,
        viewer: Viewer,
        image: npt.NDArray[np.uint8],
        count: int,
        known: Sequence[Roi] = (),
        budget: int | None = None,
    ) -> list[View]:
        """Look for hands.

        Parameters
        ----------
        viewer : Viewer
            The prior stage.
        image : (H, W, 3) uint8
            RGB.
        count : int
            Most hands to return.
        known : sequence of Roi
            Hands that are found already; they are not returned again.
        budget : int or None
            Windows to look at in this call; the next call goes on where this one stopped. None: all of them.

        Returns
        -------
        list of View
            Tight boxes, the surest first.
        """
        height, width = image.shape[:2]
        if self._shape != (height, width):
            self._shape, self._windows, self._next = (height, width), windows(width, height), 0
        total = len(self._windows)
        start, number = (0, total) if budget is None else (self._next, min(budget, total))
        self._next = (start + number) % total
        seen = [viewer(image, self._windows[(start + k) % total]) for k in range(number)]
        # A window shows its hand too large, too small or cut: half of the presence asked for is worth a closer look.
        likely = sorted((v for v in seen if v.presence >= 0.5 * self._min_presence), key=lambda v: -v.presence)
        taken = list(known)
        found: list[View] = []
        tries = (count + 1) if budget is not None else 4 * count
        for view in likely:
            box = view.closer(self._scale)
            if tries == 0 or len(found) == count:
                break
            if any(box.overlap(other) > SAME for other in taken):
                continue
            tries -= 1
            tight = self._tighten(viewer, image, view)
            if tight is not None and not any(tight.roi.overlap(other) > SAME for other in taken):
                found.append(tight)
                taken.append(tight.roi)
        return sorted(found, key=lambda v: -v.presence)

    def _tighten(self, viewer: Viewer, image: npt.NDArray[np.uint8], view: View) -> View | None:
        for _ in range(ROUNDS):
            view = viewer.sided(image, view.closer(self._scale), self._min_presence)
            if not view.presence >= 0.5 * self._min_presence:
                return None
        settled = view.roi.overlap(view.closer(self._scale)) >= SETTLED
        clear = view.presence >= self._min_presence and view.clarity >= CLEAR
        return view if settled and clear else None


def _centres(extent: int, size: float) -> list[float]:
    """Centres, pixels, of windows along one side of the image: edge to edge, at most half a window apart."""
    if size >= extent:
        return [0.5 * (extent - 1)]
    steps = math.ceil((extent - size) / (0.5 * size))
    return [float(c) for c in np.linspace(0.5 * size - 0.5, extent - 0.5 * size - 0.5, steps + 1)]
