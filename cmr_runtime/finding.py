# SPDX-License-Identifier: Apache-2.0
"""Where to look in an image: at a caller's boxes, else where a search finds hands, else in the middle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter

import numpy as np
import numpy.typing as npt

from .detect import Detector
from .results import Hand
from .roi import Roi
from .search import Search
from .view import View, Viewer

__all__ = ["ROOMY", "SCALE", "Finder"]

_Image = npt.NDArray[np.uint8]

#: Side of a hand's box as a multiple of the larger side of its keypoints' bounding box. On held-out photos keypoints
#: err least from 1.3 to 1.4 (at 1.5 by 6 % more, at 1.7 by 14 % more).
SCALE = 1.4
#: The same while a hand is searched for, or followed: room for fingers that are not seen yet, and for motion. In boxes
#: of 1.4, 27 of 34 rendered pairs of hands that cross keep their identities; in those of 1.5 35 of 36.
ROOMY = 1.5
#: A caller's box is drawn again if the hand in it is turned by more than this, radians, or if it overlaps its successor
#: by less than this. On held-out photos in boxes of 1.3 to 2.4 sides, keypoints err by 7 % less than with 0.5 and 0.4;
#: stricter limits bring no more.
ASKEW, FITTING = 0.25, 0.75
#: Windows searched per frame of a video.
BUDGET = 8


class Finder:
    """Looks for hands that are not known yet.

    Parameters
    ----------
    viewer : Viewer
        The prior stage.
    detector : Detector or None
        Says where palms are, see `Search`.
    min_presence : float
        A hand has at least this.
    refine : int
        Rounds in which a caller's box may be drawn again.

    Attributes
    ----------
    boxes : list of Roi
        A caller's boxes, to be looked at in the place of the next search.
    searched_ms : float
        Time of the last call beyond what its views tell, milliseconds; 0 if it looked at nothing. Whoever begins a
        frame sets it to 0.
    """

    def __init__(self, viewer: Viewer, detector: Detector | None, min_presence: float, refine: int) -> None:
        self._viewer, self._min_presence, self._refine = viewer, min_presence, refine
        self._search = Search(min_presence, ROOMY, detector)
        self.boxes: list[Roi] = []
        self.searched_ms = 0.0

    def reset(self) -> None:
        """Forget the boxes and begin the next search from its start."""
        self.boxes = []
        self._search.reset()

    def __call__(self, image: _Image, count: int, known: Sequence[Roi] | None = None) -> list[View]:
        """Return views of hands in an image.

        Parameters
        ----------
        image : (H, W, 3) uint8
            RGB.
        count : int
            Most hands to return.
        known : sequence of Roi or None
            In a video the hands that are followed; only a part of each frame is searched then. None: all of the image.
        """
        start = perf_counter()
        boxes, self.boxes = self.boxes, []
        if boxes or not self._viewer.detects:
            boxes = boxes or ([] if known else [_middle(image)])
            views, looked = self.look(image, boxes[:count]), bool(boxes)
        else:
            views = self._search(self._viewer, image, count, known or (), None if known is None else BUDGET)
            if known is None:
                views = [self._tighter(image, view) for view in views]
            looked = not self._search.paused
        told = sum(view.crop_ms + view.prior_ms for view in views)
        self.searched_ms = max(1e3 * (perf_counter() - start) - told, 0.0) if looked else 0.0
        return views

    def timed(self, hand: Hand) -> Hand:
        """Return the hand with the time of the search in its frame."""
        return replace(hand, times=replace(hand.times, detect=self.searched_ms)) if self.searched_ms else hand

    def look(self, image: _Image, boxes: Sequence[Roi]) -> list[View]:
        """Return views of the boxes that show a hand, in their order."""
        views = [self._look_closer(image, box) for box in boxes]
        return [view for view in views if view.presence >= self._min_presence]

    def _tighter(self, image: _Image, view: View) -> View:
        """Look once more at a hand that was searched for, in a tight box; a video goes on with roomy ones anyway.

        Keypoints in unlabelled frames err by 3 % less.
        """
        better = self._viewer(image, view.closer(SCALE))
        return better.with_time_of(view) if better.presence >= self._min_presence else view

    def _look_closer(self, image: _Image, box: Roi) -> View:
        """Look at a box, drawn again around what is seen in it where the hand lies askew or fits it badly."""
        view = self._viewer.sided(image, box, self._min_presence)
        for _ in range(self._refine):
            if not view.presence >= self._min_presence:
                break
            better = view.closer(SCALE)
            turn = math.remainder(better.angle - view.roi.angle, 2 * math.pi)
            if abs(turn) < ASKEW and better.overlap(view.roi) > FITTING:
                break
            view = self._viewer.sided(image, better, self._min_presence)
        return view


def _middle(image: _Image) -> Roi:
    """Return the largest square in the middle."""
    height, width = image.shape[:2]
    return Roi(0.5 * (width - 1), 0.5 * (height - 1), min(width, height))
