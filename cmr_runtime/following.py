# SPDX-License-Identifier: Apache-2.0
"""Hands followed through a video: looked for where they are expected, told apart where they cross, missed for a while.

A track whose hand is not seen waits for it: it is looked for further on, and a hand that a search finds takes its
identity over where it may be the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations
from operator import attrgetter
from time import perf_counter

import numpy as np
import numpy.typing as npt

from .camera import Camera
from .finding import Finder
from .motion import Motion, extent, mean_distance
from .pipeline import Pipeline, Placed
from .recall import Said
from .resting import SHOCK, SURPRISE, Rest
from .results import Hand, changed
from .roi import Roi
from .smoothing import Smoother
from .view import View, Viewer

__all__ = ["Follower", "Track"]

_Image = npt.NDArray[np.uint8]

#: What tracks are sorted by.
_NUMBER, _SEEN = attrgetter("number"), attrgetter("seen")
#: A hand's side is settled once it was this probable; until then each frame is looked at from both sides.
SURE = 0.9
#: What speaks for a settled side, nats (log-odds): so much when it is settled, two frames that are certain or more that
#: are in doubt. Looks add to it or take from it; with less the prior does not rest, and without any the side changes.
SIDE_EVIDENCE = 8.0
#: At most so much, six frames that are certain: frames that follow one another err together, and a hand that turns
#: through a view along its fingers is taken for the other one for some tenths of a second.
MOST_EVIDENCE = 32.0
#: Distance of projected joints and keypoints, over the hand's extent, beyond which there is no hand in the box. Of 381
#: boxes of hands in the unlabelled photos 0.5 % have more than 0.12; where the network mistakes something else for a
#: hand, half have more than 0.11.
MISFIT = 0.13
#: Seconds for which a hand that is not seen keeps its identity.
PATIENCE = 1.0
#: Keypoints that are this near in the mean, over the hand's extent, are those of one hand.
NEAR = 0.3
#: Where two hands overlap, one that is this far from where it is expected, in extents, is a mixture of both.
MIXED = 0.35
#: What a hand of the other side adds to the distance from where one is expected, in extents.
OTHER_SIDE = 1.0
#: Two tracks exchange their hands where this, in extents, is gained by it.
GAIN = 0.5
#: A hand found anew may be one that waits: within so many extents of where that is expected, and more by the second.
NEARBY, ROAMING = 1.0, 4.0


@dataclass(eq=False)
class Track:
    """A hand that is followed: its number, its motion, whether its side was ever clear, and what speaks for it."""

    number: int
    motion: Motion
    smoother: Smoother | None
    side: str
    seen: float
    sure: bool = False
    evidence: float = SIDE_EVIDENCE
    rest: Rest = field(default_factory=Rest)

    @property
    def sided(self) -> bool:
        """Whether enough speaks for its side."""
        return self.evidence >= SIDE_EVIDENCE

    def recalled(self, viewer: Viewer, image: _Image, roi: Roi, time: float) -> View | None:
        """Look where the hand is expected without the prior; None if that has to look."""
        settled = (self.sure or not viewer.judges) and self.sided
        said = self.rest.said
        if not (viewer.recalls and settled and said and self.rest.allowed(roi, self.motion.region, self.seen, time)):
            return None
        return viewer.recall(image, roi, said)

    def look(self, viewer: Viewer, image: _Image, roi: Roi, min_presence: float) -> View | None:
        """Look where the hand is expected; None if it is gone. A single frame does not change a side that was clear."""
        if not self.sure or not viewer.judges:
            view = viewer.sided(image, roi, min_presence)
        else:
            view = viewer(image, roi)
            if view.presence < min_presence:
                return None
            self.evidence = min(self.evidence + _log_odds(view.prior.right), MOST_EVIDENCE)
            if self.evidence <= 0.0:
                self.evidence = SIDE_EVIDENCE
                self.rest.end()
                view = viewer.sided(image, roi, min_presence)
        return view if view.presence >= min_presence else None

    def keep(self, hand: Hand, time: float) -> Hand:
        """Take over the hand of a frame; return it as the caller sees it."""
        self.motion.update(hand, time)
        if hand.handedness != self.side:
            self.side, self.evidence = hand.handedness, SIDE_EVIDENCE
        self.seen = time
        self.sure = self.sure or hand.handedness_score >= SURE
        if self.smoother is None:
            return changed(hand, track_id=self.number)
        start = perf_counter()
        shown = self.smoother(hand, time)
        times = changed(hand.times, smooth=1e3 * (perf_counter() - start))
        return changed(shown, track_id=self.number, times=times)

    def distance(self, hand: Hand, time: float) -> float:
        """How little a hand is what this track expects, in extents."""
        return self.motion.distance(hand, time) + OTHER_SIDE * (self.sure and self.side != hand.handedness)


class Follower:
    """Follows hands from frame to frame and gives each a number.

    Parameters
    ----------
    stages : Pipeline
        From a region to a hand.
    find : Finder
        Looks for more hands than are followed.
    num_hands : int
        Most hands at a time.
    min_presence : float
        Under this a hand is gone.
    smoother : callable
        Makes the smoother of a new hand; None for none.
    """

    def __init__(
        self,
        stages: Pipeline,
        find: Finder,
        num_hands: int,
        min_presence: float,
        smoother: Callable[[], Smoother | None],
    ) -> None:
        self._stages, self._find, self._smoother = stages, find, smoother
        self._num_hands, self._min_presence = num_hands, min_presence
        self.reset()

    def reset(self) -> None:
        """Forget the hands and begin to count them anew."""
        self.forget()
        self._next = 0

    def forget(self) -> None:
        """Forget the hands; the next ones have other numbers."""
        self._tracks: list[Track] = []

    def __call__(self, image: _Image, camera: Camera, metric: bool, time: float) -> list[Hand]:
        """Return the hands of the next frame, those followed longest first; `time` in seconds, always later."""
        seen, said = self._again(image, camera, metric, time)
        if len(seen) > 1:
            _tell_apart(seen, time)
        shown = {track: track.keep(hand, time) for track, hand in seen.items()}

        missing = self._num_hands - len(shown)
        if missing > 0:
            known = [track.motion.roi(time, camera) for track in shown]
            for view in self._find(image, missing, known):
                placed = self._stages.placed(image, view, camera, metric)
                hand = placed.hand
                if _misfit(placed) <= MISFIT and not any(_same(hand, other) for other in seen.values()):
                    track = self._waiting(hand, shown, time) or self._new(hand, time)
                    track.rest, track.evidence, said[hand] = Rest(), SIDE_EVIDENCE, placed.said
                    seen[track], shown[track] = hand, track.keep(hand, time)
        waiting = [track for track in self._tracks if track not in shown and time - track.seen <= PATIENCE]
        waiting.sort(key=_SEEN, reverse=True)
        self._tracks = sorted([*shown, *waiting[: self._num_hands]], key=_NUMBER)
        for track in self._tracks:
            track.rest.said = said[seen[track]] if track in shown else None
        return [shown[track] for track in self._tracks if track in shown]

    def _again(
        self, image: _Image, camera: Camera, metric: bool, time: float
    ) -> tuple[dict[Track, Hand], dict[Hand, Said]]:
        """Return hands that are seen where they are expected, those seen last first; it may be one hand twice.

        With them comes what the stages said of each.
        """
        seen: dict[Track, Hand] = {}
        said: dict[Hand, Said] = {}
        regions = {track: track.motion.roi(time, camera) for track in self._tracks}
        for track in sorted(self._tracks, key=_SEEN, reverse=True):  # those of one time stay in their order
            if len(seen) == self._num_hands:
                break
            roi, spent = regions[track], None
            others = [other for key, other in regions.items() if key is not track]
            alone = not any(map(roi.overlap, others))
            # Hands that may touch are told apart by the prior.
            view = track.recalled(self._stages.viewer, image, roi, time) if alone else None
            if view is not None:
                placed = self._stages.placed(image, view, camera, metric)
                holds = self._holds(track, placed, time)
                surprise = track.motion.surprise(placed.projected, placed.extent, time, camera)
                if not holds or surprise > SURPRISE:
                    track.rest.doubt()
                if holds and surprise <= SHOCK:
                    seen[track], said[placed.hand] = placed.hand, placed.said
                    continue
                spent = placed.hand.times
            view = track.look(self._stages.viewer, image, roi, self._min_presence)
            if view is None:
                track.rest.look(False, time)
                continue
            track.rest.look(track.sided, time, contradicted=self._stages.viewer.judges and view.prior.right < 0.5)
            placed = self._stages.placed(image, view, camera, metric)
            if self._holds(track, placed, time):
                hand = placed.hand if spent is None else changed(placed.hand, times=placed.hand.times + spent)
                seen[track], said[hand] = hand, placed.said
        return seen, said

    def _holds(self, track: Track, placed: Placed, time: float) -> bool:
        """Whether a hand may be the track's: it is one, its mesh and the image agree, and it can have come there."""
        there = placed.hand.score >= self._min_presence and _misfit(placed) <= MISFIT
        return there and track.motion.possible(placed.hand.translation, time)

    def _waiting(self, hand: Hand, shown: dict[Track, Hand], time: float) -> Track | None:
        """Return the track that may have waited for this hand."""
        near = [
            (distance, track.number, track)
            for track in self._tracks
            if track not in shown
            and (distance := track.distance(hand, time)) < NEARBY + ROAMING * min(time - track.seen, PATIENCE)
            and not (track.sure and track.side != hand.handedness)
        ]
        return min(near)[2] if near else None

    def _new(self, hand: Hand, time: float) -> Track:
        self._next += 1
        return Track(self._next - 1, Motion(), self._smoother(), hand.handedness, time)


def _misfit(placed: Placed) -> float:
    """How badly mesh and image agree, as a part of the hand's extent."""
    return placed.hand.registration.residual_2d / placed.extent


def _tell_apart(seen: dict[Track, Hand], time: float) -> None:
    """Give each of several tracks its own hand, and leave those without one out."""
    _exchange(seen, time)
    for track in _mixtures(seen, time):
        del seen[track]
    for track in _doubles(seen, time):
        del seen[track]
        track.evidence = SIDE_EVIDENCE  # what it saw was another's hand


def _exchange(seen: dict[Track, Hand], time: float) -> None:
    """Give two tracks each other's hands where these fit better to what they expect: they have crossed."""
    for one, other in combinations(list(seen), 2):
        a, b = seen[one], seen[other]
        kept = one.distance(a, time) + other.distance(b, time)
        if one.distance(b, time) + other.distance(a, time) < kept - GAIN:
            seen[one], seen[other] = b, a


def _doubles(seen: dict[Track, Hand], time: float) -> set[Track]:
    """Return tracks that look at the hand of another, which it fits better: by its side, then by its place."""

    def wrong(track: Track) -> tuple[bool, float, int]:
        hand = seen[track]
        return hand.handedness_score < 0.5, track.distance(hand, time), track.number

    doubles: set[Track] = set()
    for one, other in combinations(list(seen), 2):
        if not doubles & {one, other} and _same(seen[one], seen[other]):
            doubles.add(max(one, other, key=wrong))
    return doubles


def _mixtures(seen: dict[Track, Hand], time: float) -> set[Track]:
    """Return tracks that see something of their own hand and of another's in front of it: not where they expect it."""
    mixed: set[Track] = set()
    for one, other in combinations(list(seen), 2):
        if seen[one].roi.overlap(seen[other].roi) > 0.0:
            worse = max(one, other, key=lambda track: track.distance(seen[track], time))
            if worse.motion.distance(seen[worse], time) > MIXED:
                mixed.add(worse)
    return mixed


def _same(a: Hand, b: Hand) -> bool:
    """Whether two results show one hand: their joints lie in the same place of the image.

    Hands that cross share a region but not their joints; two results of one hand share them even where they disagree
    on its side, or were looked at in different regions.
    """
    apart = mean_distance(a.keypoints.astype(np.float64), b.keypoints.astype(np.float64))
    return apart < NEAR * max(extent(a), extent(b))


def _log_odds(probability: float) -> float:
    """Log-odds of a probability; certainty counts as one in two hundred for an error."""
    p = min(max(probability, 0.005), 0.995)
    return math.log(p / (1.0 - p))
