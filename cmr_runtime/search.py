# SPDX-License-Identifier: Apache-2.0
"""Find hands in a whole image: a detector, or windows seen by the prior stage, say where; the prior stage decides."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

import numpy as np
import numpy.typing as npt

from .detect import Detector, Palm
from .roi import Roi
from .view import View, Viewer

__all__ = ["CLEAR", "SAME", "Search", "tiles", "windows"]

_Image = npt.NDArray[np.uint8]
#: A box that may show a hand, and what takes a closer look at it.
_Guess = tuple[Roi, Callable[[], View | None]]

#: Each size of window is this much smaller than the one before: a hand that two sizes see is 27 % off either at most.
STEP = 1.6
#: Number of window sizes below the whole image.
SIZES = 3
#: Squares that share more than this (intersection over union) show the same hand.
SAME = 0.4
#: Least `View.clarity` of a hand that is found by searching. In 2 % of pictures of held-out scenes without a hand the
#: default model sees one by presence alone.
CLEAR = 0.2
#: A palm's box is widened by this, since a spread thumb may reach out of it. On hands of unlabelled photos factors from
#: 1 to 1.3 give keypoints of the same median error.
ROOM = 1.1
#: Rounds in which a box is drawn around the keypoints seen in the box before: from a window, and from a palm.
ROUNDS, PALM_ROUNDS = 3, 2
#: Closer looks at an image of its own, where few hands are wanted; 4 for each where more are.
LOOKS = 8
#: Smallest hand, larger side of its joints' box in pixels: of less the prior stage sees nothing but blur.
SMALLEST = 20.0
#: A box that still moves more than this (intersection over union below) in the last round has found nothing.
SETTLED = 0.5

#: Least score of a palm at first sight, and of the same palm seen close up. One that is plain at first sight needs no
#: second: with and without it the same 294 of 356 labelled hands are found, and 5 of 1,000 hand-free crops pass.
GLIMPSE, PALM, PLAIN = 0.3, 0.6, 0.9
#: A side that is this probable is not asked again in the next round: the same hands on the same sides come of it.
TOLD = 0.9
#: A palm is a hand if its joints are clear in the prior stage (`View.clarity`), or less clear but where the detector
#: has them (`Palm.distance`): two networks rarely agree on joints where there are none.
CLEAR_ALONE, AGREE = 0.3, 0.35
#: Least `View.presence` of a palm's hand. By the default model 8 of 1,200 hand-free crops pass, and 471 of 473 hands in
#: the frames of these; 27 and 471 with a presence of 0.5.
CERTAIN = 0.99
#: Tiles of the second pass have this part of the image's shorter side, and overlap by `TILE_OVERLAP` of theirs: a hand
#: of 8 % of the image's height is 31 pixels of the detector's input there, and one of twice that is whole in some tile.
TILE, TILE_OVERLAP = 0.5, 1.0 / 3.0
#: Smaller tiles, pixels, would show no hand that the prior stage can make something of.
TILE_LEAST = 128
#: Windows of the prior stage that take as long as one run of the detector.
DETECTOR_COST = 4
#: In a video in which hands are known, the detector looks for more in one of so many calls.
EVERY = 5


def windows(width: int, height: int) -> list[Roi]:
    """Squares, each half over its neighbours, from the one around the whole image to the smallest, large ones first."""
    sizes = [float(max(width, height))]
    sizes += [size for k in range(SIZES) if (size := min(width, height) / STEP**k) >= SMALLEST]
    return list(chain.from_iterable(_cover(width, height, size, 0.5) for size in dict.fromkeys(sizes)))


def tiles(width: int, height: int) -> list[Roi]:
    """Squares of one size that cover the image, for hands too small to be seen in the whole of it."""
    size = TILE * min(width, height)
    return _cover(width, height, size, TILE_OVERLAP) if size >= TILE_LEAST else []


class Search:
    """Searches an image at once, or a part of it per frame of a video, in turn.

    With a detector the whole image is looked at first, and where hands are missing then, tiles of it. In a video it
    looks at every frame while no hand is known, and else once in several frames.

    Parameters
    ----------
    min_presence : float
        A hand has at least this presence, 0 to 1.
    scale : float
        Side of a hand's box as a multiple of the larger side of its keypoints' bounding box.
    detector : Detector or None
        Says where palms are; None has windows of several sizes looked at by the prior stage.

    Attributes
    ----------
    paused : bool
        Whether the last call was one of those in which the detector does not look.
    """

    def __init__(self, min_presence: float, scale: float, detector: Detector | None = None) -> None:
        self._min_presence = min_presence
        self._scale = scale
        self._detector = detector
        self._shape: tuple[int, int] = (0, 0)
        self._regions: list[Roi] = []
        self.reset()

    def reset(self) -> None:
        """Begin the next search of a video with the largest window or the first tile again."""
        self._next = self._calls = 0
        self.paused = False

    def __call__(
        self,
        viewer: Viewer,
        image: _Image,
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
            Windows to look at in this call, or what takes as long; the next call goes on where this one stopped. None:
            all of them.

        Returns
        -------
        list of View
            Tight boxes, the surest first.
        """
        height, width = image.shape[:2]
        if self._shape != (height, width):
            self._shape, self._next = (height, width), 0
            self._regions = (windows if self._detector is None else tiles)(width, height)
        found = _Found(known, count, max(4 * count, LOOKS) if budget is None else count + 1)
        if self._detector is None:
            found.extend(self._by_windows(viewer, image, self._turn(budget)))
            return found.views
        self._calls += 1
        self.paused = budget is not None and bool(known) and self._calls % EVERY != 0
        if self.paused:
            return []
        whole = Roi(0.5 * (width - 1), 0.5 * (height - 1), max(width, height))
        found.extend(self._by_palms(self._detector, viewer, image, [whole]))
        if not found.complete:
            parts = self._turn(None if budget is None else max(1, budget // DETECTOR_COST - 1))
            found.extend(self._by_palms(self._detector, viewer, image, parts))
        return found.views

    def _turn(self, number: int | None) -> list[Roi]:
        """Return the next regions of a video, or all of them."""
        total = len(self._regions)
        start, number = (0, total) if number is None else (self._next, min(number, total))
        self._next = (start + number) % max(total, 1)
        return [self._regions[(start + k) % total] for k in range(number)]

    def _by_windows(self, viewer: Viewer, image: _Image, regions: Sequence[Roi]) -> Iterable[_Guess]:
        seen = [viewer(image, region) for region in regions]
        # A window shows its hand too large, too small or cut: half of the presence asked for is worth a closer look.
        likely = sorted((v for v in seen if v.presence >= 0.5 * self._min_presence), key=lambda v: -v.presence)
        for view in likely:
            box = view.closer(self._scale)
            yield box, partial(self._tighten, viewer, image, box, ROUNDS)

    def _by_palms(self, detector: Detector, viewer: Viewer, image: _Image, regions: Sequence[Roi]) -> Iterable[_Guess]:
        palms = [palm for region in regions for palm in detector(image, region, GLIMPSE)]
        for palm in sorted(palms, key=lambda palm: -palm.score):
            yield palm.roi, partial(self._confirm, detector, viewer, image, palm)

    def _confirm(self, detector: Detector, viewer: Viewer, image: _Image, palm: Palm) -> View | None:
        """Return a tight view of a palm's hand if both networks see it, and its joints alike or clearly."""
        closer = palm if palm.score >= PLAIN else detector.closer(image, palm, PALM)
        if closer is None:
            return None
        box = replace(closer.roi, size=ROOM * closer.roi.size)
        view = self._tighten(viewer, image, box, PALM_ROUNDS)
        if view is None or view.presence < CERTAIN:
            return None
        return view if view.clarity >= CLEAR_ALONE or closer.distance(view.keypoints) <= AGREE else None

    def _tighten(self, viewer: Viewer, image: _Image, box: Roi, rounds: int) -> View | None:
        """Draw a box tight in so many rounds; None if it does not settle on a clear hand."""
        told = False
        for _ in range(rounds):
            view = viewer(image, box) if told else viewer.sided(image, box, self._min_presence)
            if not view.presence >= 0.5 * self._min_presence:
                return None
            told = view.presence >= self._min_presence and view.prior.right >= TOLD  # under it one side alone was asked
            box = view.closer(self._scale)
        settled = view.roi.overlap(box) >= SETTLED and box.size >= SMALLEST * self._scale
        clear = view.presence >= self._min_presence and view.clarity >= CLEAR
        return view if settled and clear else None


class _Found:
    """Hands found so far, each once, besides those that are known; closer looks are counted."""

    def __init__(self, known: Sequence[Roi], count: int, tries: int) -> None:
        self._taken, self._count, self._tries = list(known), count, tries
        self._views: list[View] = []

    @property
    def views(self) -> list[View]:
        """The surest first."""
        return sorted(self._views, key=lambda view: -view.presence)

    @property
    def complete(self) -> bool:
        return self._tries == 0 or len(self._views) == self._count

    def extend(self, guesses: Iterable[_Guess]) -> None:
        """Look closer at one guess after the other until there are hands enough, or looks were."""
        for box, look in guesses:
            if self.complete:
                return
            if self._is_new(box):
                self._tries -= 1
                view = look()
                if view is not None and self._is_new(view.roi):
                    self._views.append(view)
                    self._taken.append(view.roi)

    def _is_new(self, box: Roi) -> bool:
        return all(box.overlap(other) <= SAME for other in self._taken)


def _cover(width: int, height: int, size: float, overlap: float) -> list[Roi]:
    """Squares of one size that cover the image, neighbours sharing at least a part `overlap` of their sides."""
    return [Roi(x, y, size) for y in _centres(height, size, overlap) for x in _centres(width, size, overlap)]


def _centres(extent: int, size: float, overlap: float) -> list[float]:
    """Centres, pixels, along one side of the image: edge to edge."""
    if size >= extent:
        return [0.5 * (extent - 1)]
    steps = math.ceil((extent - size) / ((1.0 - overlap) * size))
    return [float(c) for c in np.linspace(0.5 * size - 0.5, extent - 0.5 * size - 0.5, steps + 1)]
