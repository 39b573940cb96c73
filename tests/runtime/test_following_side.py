# SPDX-License-Identifier: Apache-2.0
"""Which side a followed hand has, from looks that may err."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from followed_world import World, looks

from cmr_runtime import Camera, Hand, Roi
from cmr_runtime.following import MOST_EVIDENCE, SIDE_EVIDENCE, Follower, Track
from cmr_runtime.motion import Motion
from cmr_runtime.pipeline import Placed
from cmr_runtime.resting import CONTRADICTED, RESTED


class Judge:
    """Stands for a viewer: tells how probable the side is that the crop shows, and counts looks from both sides."""

    judges, presence = True, 1.0

    def __init__(self) -> None:
        self.both = 0

    def __call__(self, right: float, roi: Roi) -> SimpleNamespace:
        return SimpleNamespace(presence=self.presence, prior=SimpleNamespace(right=right))

    def sided(self, right: float, roi: Roi, min_presence: float) -> SimpleNamespace:
        self.both += 1
        return self(right, roi)


@pytest.mark.parametrize(
    ("before", "right", "frames"),
    [
        ([], 0.001, 2),  # two certain frames
        ([0.999] * 3, 0.001, 5),  # more where a few were certain of the other side
        ([0.999] * 300, 0.001, 7),  # and so many at most
        ([0.999] * 300, 0.2, 24),
        ([0.9, 0.1] * 100, 0.001, 2),
    ],
)
def test_a_side_changes_when_what_spoke_for_it_is_outweighed(before: list[float], right: float, frames: int) -> None:
    judge, track = Judge(), Track(0, Motion(), None, "right", 0.0, sure=True)
    track.rest.looks = 9
    for each in before:
        track.look(judge, each, Roi(0.0, 0.0, 1.0), 0.5)
    assert judge.both == 0
    for k in range(frames):
        assert judge.both == 0, k
        track.look(judge, right, Roi(0.0, 0.0, 1.0), 0.5)
    assert judge.both == 1
    assert track.rest.looks == 0


def test_looks_at_what_is_no_hand_say_nothing_of_its_side() -> None:
    judge, track = Judge(), Track(0, Motion(), None, "right", 0.0, sure=True)
    judge.presence = 0.4
    for right in (0.999, 0.001, 0.001, 0.001):
        assert track.look(judge, right, Roi(0.0, 0.0, 1.0), 0.5) is None
    assert (track.evidence, judge.both) == (SIDE_EVIDENCE, 0)


class Judged(World):
    """A world whose viewer tells sides: hands are (root, side), and of a crop that shows its side as right, `right`."""

    def __init__(self, model: Hand, num_hands: int = 1) -> None:
        super().__init__(model, num_hands)
        self.right, self.told = 0.999, []
        self.viewer = self
        self._follower = Follower(self, self._find, num_hands, 0.5, lambda: None)

    judges = recalls = True

    def __call__(self, image: np.ndarray, roi: Roi) -> SimpleNamespace:
        self.looked += 1
        view = self._look(image, roi, 0.5)
        as_right = view.seen is not None and (view.seen[1] == "left") == roi.mirrored
        view.prior = SimpleNamespace(right=self.right if as_right else 1.0 - self.right)
        return view

    def sided(self, image: np.ndarray, roi: Roi, min_presence: float) -> SimpleNamespace:
        if not self.judges:
            return self(image, roi)
        looks = self(image, roi), self(image, roi.flipped())
        return max(looks, key=lambda view: view.prior.right)

    def recall(self, image: np.ndarray, roi: Roi, said: tuple) -> SimpleNamespace:
        view = self._recall(image, roi, said)
        view.prior = said[2]
        return view

    def placed(self, image: np.ndarray, view: SimpleNamespace, camera: Camera, metric: bool) -> Placed:
        found = super().placed(image, view, camera, metric)
        side, prior = (
            "left" if view.roi.mirrored else "right",
            getattr(view, "prior", SimpleNamespace(right=self.right)),
        )
        hand = dataclasses.replace(found.hand, handedness=side, handedness_score=prior.right)
        return found._replace(hand=hand, said=(*found.said, prior))


@pytest.mark.parametrize(("right", "longest"), [(0.999, 30), (0.9, 72), (0.75, 144)])
def test_a_side_that_was_wrong_is_put_right_soon_after_the_prior_looks(model: Hand, right: float, longest: int) -> None:
    world, hand, other = Judged(model), ((0.0, 0.0, 0.5), "right"), ((0.0, 0.0, 0.5), "left")
    for _ in range(40):
        world.frame(hand)
    assert looks(world, hand) == 0
    world.right = right
    waited = 0
    while not looks(world, other):
        waited += 1
    assert waited <= 30 * RESTED
    frames = 0  # a look in six while there is much evidence
    while world.frame(other)[0].handedness == "right":
        frames += 1
        assert frames <= longest
    world.right = 0.999  # and then it rests again
    assert [looks(world, other) for _ in range(8)][-1] == 0


def test_a_hand_that_is_seen_end_on_for_a_while_keeps_its_side(model: Hand) -> None:
    world, hand = Judged(model), ((0.0, 0.0, 0.5), "right")
    for _ in range(10):
        world.frame(hand)
    world.right = 0.2
    while not looks(world, hand):
        assert world._follower._tracks[0].side == "right"
    spacing = round(30 * CONTRADICTED)
    counted = [looks(world, hand) for _ in range(4 * spacing)]
    assert counted == 4 * [*[0] * (spacing - 1), 1]
    assert world._follower._tracks[0].side == "right"


def test_where_the_side_is_known_the_prior_rests_whatever_it_says_of_it(model: Hand) -> None:
    world, hand = Judged(model), ((0.0, 0.0, 0.5), "right")
    world.judges, world.right = False, 0.1
    for _ in range(10):
        world.frame(hand)
    assert [looks(world, hand) for _ in range(round(20 * RESTED))] == [0] * round(20 * RESTED)


def test_a_hand_that_is_found_anew_begins_with_little_evidence(model: Hand) -> None:
    world = Judged(model)
    for _ in range(10):
        world.frame(((0.0, 0.0, 0.5), "right"))
    (track,) = world._follower._tracks
    assert track.evidence == MOST_EVIDENCE
    for _ in range(5):
        world.frame()
    world.frame(((0.12, 0.0, 0.5), "right"))
    assert world._follower._tracks == [track]
    assert track.evidence == SIDE_EVIDENCE
    assert looks(world, ((0.12, 0.0, 0.5), "right")) > 0
