# SPDX-License-Identifier: Apache-2.0
"""When the prior rests over a followed hand, and when it looks."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from followed_world import CAMERA, World, ids, looks, settled

from cmr_runtime import Hand, Roi
from cmr_runtime.motion import HORIZON
from cmr_runtime.pipeline import Placed
from cmr_runtime.resting import DOUBTED, RESTED, TRUSTED, TURNED, Rest


def test_the_prior_rests_while_a_hand_goes_on_and_is_asked_from_time_to_time(model: Hand) -> None:
    hand = ((0.0, 0.0, 0.5), "right")
    world, rests = settled(model, hand), round(30 * RESTED) - 1
    for k in range(3):
        assert (len(world.recalled), world.looked) == (k * rests, TRUSTED + k)
        for _ in range(rests + 1):
            assert ids(world.frame(hand)) == [0]


def test_a_hand_that_surprises_greatly_is_looked_at_in_the_same_frame_and_the_next(model: Hand) -> None:
    still, away = ((0.0, 0.0, 0.5), "right"), ((0.04, 0.0, 0.5), "right")
    world = settled(model, still)
    (easy,) = world.frame(still)
    assert (len(world.recalled), world.looked) == (1, TRUSTED)
    (hand,) = world.frame(away)
    assert (len(world.recalled), world.looked) == (2, TRUSTED + 1)
    assert hand.translation[0] == pytest.approx(0.04)
    assert hand.times.mesh == pytest.approx(2 * easy.times.mesh)  # it was looked at twice
    for _ in range(DOUBTED - 1):
        world.frame(away)
    assert (len(world.recalled), world.looked) == (2, TRUSTED + DOUBTED)
    world.frame(away)
    assert (len(world.recalled), world.looked) == (3, TRUSTED + DOUBTED)


def test_a_hand_that_surprises_a_little_is_looked_at_in_the_next_frames(model: Hand) -> None:
    still, away = ((0.0, 0.0, 0.5), "right"), ((0.008, 0.0, 0.5), "right")
    world = settled(model, still)
    (easy,) = world.frame(still)
    (hand,) = world.frame(away)
    assert (len(world.recalled), world.looked) == (2, TRUSTED)
    assert hand.translation[0] == pytest.approx(0.008)
    assert hand.times.mesh == pytest.approx(easy.times.mesh)  # it was looked at once
    for _ in range(DOUBTED):
        world.frame(away)
    assert (len(world.recalled), world.looked) == (2, TRUSTED + DOUBTED)
    world.frame(away)
    assert (len(world.recalled), world.looked) == (3, TRUSTED + DOUBTED)


def test_a_hand_that_does_not_fit_its_image_is_looked_at_in_the_same_frame_and_the_next(model: Hand) -> None:
    hand = ((0.0, 0.0, 0.5), "right")
    world = settled(model, hand)
    assert world.frame((*hand, 0.2)) == []
    assert (len(world.recalled), world.looked) == (1, TRUSTED + 1)
    world.searches = False
    assert ids(world.frame(hand)) == [0]
    assert (len(world.recalled), world.looked) == (1, TRUSTED + 2)  # nothing was said of it to recall
    world.frame(hand)
    assert len(world.recalled) == 2


def test_what_was_said_of_a_hand_last_is_recalled_of_that_hand(model: Hand) -> None:
    one, two = ((-0.15, 0.0, 0.5), "right"), ((0.15, 0.0, 0.5), "right")
    world = settled(model, one, two)
    left, right = (round(float(CAMERA.project(hand[0])[0])) for hand in (one, two))
    world.frame(one, two)
    assert all(said == ("said", one if abs(x - left) < abs(x - right) else two) for x, said in world.recalled)
    assert len(world.recalled) == 2
    moved = ((-0.15, 0.001, 0.5), "right"), ((0.15, 0.001, 0.5), "right")
    world.frame(*moved)
    world.frame(*moved)
    later = world.recalled[4:]
    assert len(later) == 2
    assert all(said[1] == moved[abs(x - left) > abs(x - right)] for x, said in later)


def test_a_hand_that_is_gone_is_not_recalled(model: Hand) -> None:
    hand = ((0.0, 0.0, 0.5), "right")
    world = settled(model, hand)
    world.searches = False
    assert world.frame() == []
    assert world.frame() == []
    assert (len(world.recalled), world.looked) == (1, TRUSTED + 2)  # the second of both frames has nothing to recall


@pytest.mark.parametrize("place", [(0.0, 0.0, 0.5), (0.2, 0.0, 0.5)])
def test_a_hand_found_again_is_looked_at_for_a_while(model: Hand, place: tuple[float, float, float]) -> None:
    world = settled(model, ((0.0, 0.0, 0.5), "right"))
    for _ in range(10):
        world.frame()
    world.recalled.clear()
    searched, hand = place[0] > 0, (place, "right")  # where it is not expected
    for _ in range(TRUSTED + searched):
        assert ids(world.frame(hand)) == [0]
    assert world.recalled == []
    world.frame(hand)
    assert len(world.recalled) == 1


def test_nothing_is_recalled_over_a_gap_in_time(model: Hand) -> None:
    hand = ((0.0, 0.0, 0.5), "right")
    world = settled(model, hand)
    world.frame(hand, dt=2 * HORIZON)
    assert world.recalled == []


def test_hands_whose_regions_touch_are_told_apart_by_the_prior(model: Hand) -> None:
    near = ((-0.06, 0.0, 0.5), "right"), ((0.06, 0.0, 0.5), "right")
    world = settled(model, *near)
    for _ in range(3):
        assert ids(world.frame(*near)) == [0, 1]
    assert world.recalled == []


def test_a_hand_of_doubtful_side_is_always_looked_at(model: Hand) -> None:
    world, hand, keep = World(model, 1), ((0.0, 0.0, 0.5), "right"), 0.8
    world.viewer.recalls = world.viewer.judges = True
    placed = world.placed

    def doubtful(*arguments: object) -> Placed:
        found = placed(*arguments)
        return found._replace(hand=dataclasses.replace(found.hand, handedness_score=keep))

    world.placed = doubtful
    for _ in range(TRUSTED + 5):
        world.frame(hand)
    assert (len(world.recalled), world.looked) == (0, TRUSTED + 4)
    keep = 0.95
    world.frame(hand)
    world.frame(hand)
    assert len(world.recalled) == 1


def test_a_recalled_hand_that_does_not_hold_is_looked_at_in_the_next_frame_too(model: Hand) -> None:
    world, hand = settled(model, ((0.0, 0.0, 0.5), "right")), ((0.0, 0.0, 0.5), "right")
    recall, placed = world.viewer.recall, world.placed

    def misfit(image: np.ndarray, view: SimpleNamespace, *others: object) -> Placed:
        found = placed(image, view, *others)
        off = dataclasses.replace(found.hand.registration, residual_2d=1e3)
        hand = dataclasses.replace(found.hand, registration=off) if view.recalled else found.hand
        return found._replace(hand=hand)

    def recalled(*arguments: object) -> SimpleNamespace:
        view = recall(*arguments)
        view.recalled = len(world.recalled) == 1  # the first one
        return view

    look = world._look
    world._look = lambda *arguments: SimpleNamespace(**vars(look(*arguments)), recalled=False)
    world.viewer.recall, world.placed = recalled, misfit
    assert [(looks(world, hand), len(world.recalled)) for _ in range(3)] == [(1, 1), (1, 1), (0, 2)]


def test_rest_needs_a_region_that_is_as_it_was() -> None:
    rest, region = Rest(said="said"), Roi(100.0, 100.0, 80.0, angle=3.1)
    assert not rest.allowed(region, region, 0.0, 0.03)
    for frame in range(TRUSTED):
        rest.look(True, frame / 30)
    time = TRUSTED / 30
    allowed = lambda **change: rest.allowed(dataclasses.replace(region, **change), region, time - 0.03, time)  # noqa: E731
    assert allowed()
    assert allowed(cx=300.0)  # wherever the hand goes, in its crop it lies where it lay
    assert allowed(angle=3.1 + 0.5 * TURNED - 2 * np.pi)
    for change in ({"angle": 3.1 - 2 * TURNED}, {"size": 60.0}, {"size": 110.0}, {"mirrored": True}):
        assert not allowed(**change)
    rest.look(False, time)
    assert not allowed()
