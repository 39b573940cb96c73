# SPDX-License-Identifier: Apache-2.0
"""Followed hands keep their numbers, and what is none is not followed."""

from __future__ import annotations

import numpy as np
import pytest
from followed_world import CAMERA, World, at, ids

from cmr_runtime import Hand, Roi
from cmr_runtime.finding import ROOMY
from cmr_runtime.motion import Motion


def test_a_fast_hand_is_looked_for_where_it_will_be(model: Hand) -> None:
    motion = Motion()
    for frame in range(10):
        motion.update(at(model, (-0.1 + 0.02 * frame, 0.0, 0.5), "right"), frame / 30)
    expected = Roi.upright(CAMERA.project(at(model, (0.1, 0.0, 0.5), "right").joints), ROOMY)
    roi = motion.roi(10 / 30, CAMERA)
    assert roi.cx == pytest.approx(expected.cx, abs=2)
    assert roi.size == pytest.approx(expected.size, rel=0.01)
    # Two frames were dropped: it goes on for three, and no further than for a quarter of a second.
    np.testing.assert_allclose(motion.root(12 / 30), (0.14, 0, 0.5), atol=3e-3)
    np.testing.assert_allclose(motion.root(60.0), motion.root(9 / 30 + 0.25))


def test_a_hand_keeps_its_number_and_a_second_one_gets_the_next(model: Hand) -> None:
    world = World(model)
    one, two = ((-0.15, 0.0, 0.5), "right"), ((0.15, 0.0, 0.5), "left")
    assert ids(world.frame(one)) == [0]
    assert ids(world.frame(one, two)) == [0, 1]
    assert ids(world.frame(two, one)) == [0, 1]
    assert world.searched == 2  # no search with both hands followed


@pytest.mark.parametrize("sides", [("right", "left"), ("right", "right")])
@pytest.mark.parametrize("frames", [14, 40])
def test_hands_that_cross_keep_their_numbers(model: Hand, sides: tuple[str, str], frames: int) -> None:
    world = World(model)
    for frame in range(frames + 1):
        x = 0.2 - 0.4 * frame / frames
        hands = world.frame(((x, 0.01, 0.45), sides[0]), ((-x, -0.01, 0.55), sides[1]))
    places = {hand.track_id: float(hand.translation[0]) for hand in hands}
    assert len(places) == 2
    assert places[0] == pytest.approx(-0.2)
    assert places[1] == pytest.approx(0.2)


def test_two_tracks_in_one_hand_become_one(model: Hand) -> None:
    world = World(model)
    both = ((-0.03, 0.0, 0.5), "right"), ((0.12, 0.0, 0.5), "right")
    assert len(world.frame(*both)) == 2
    for _ in range(3):
        hands = world.frame(((0.04, 0.0, 0.5), "right"))
        assert len(hands) == 1


def test_a_hand_in_front_of_another_is_not_merged_with_it(model: Hand) -> None:
    world = World(model)
    # Their boxes overlap by more than half; their joints lie a good half of a hand apart.
    for _ in range(5):
        assert ids(world.frame(((0.0, 0.0, 0.5), "right"), ((0.05, 0.0, 0.5), "left"))) in ([0], [0, 1])
    world = World(model)
    for x in np.linspace(0.2, 0.055, 20):
        seen = ids(world.frame(((0.0, 0.0, 0.5), "right"), ((float(x), 0.0, 0.5), "left")))
    assert seen == [0, 1]


def test_what_two_overlapping_hands_give_together_is_not_followed(model: Hand) -> None:
    world, still = World(model), ((0.0, 0.0, 0.45), "right")
    for x in np.arange(0.2, 0.09, -0.02):
        assert ids(world.frame(still, ((float(x), 0.0, 0.5), "right"))) == [0, 1]
    # Half hidden, it seems to leap back by most of a hand; alone it might.
    world.searches = False
    assert ids(world.frame(still, ((0.17, 0.0, 0.5), "right"))) == [0]
    for _ in range(3):
        assert ids(world.frame(still)) == [0]
    world.searches = True
    assert ids(world.frame(still, ((-0.1, 0.0, 0.5), "right"))) == [0, 1]


def test_a_hand_that_misses_a_few_frames_keeps_its_number_and_one_long_gone_does_not(model: Hand) -> None:
    world, hand = World(model, 1), ((0.0, 0.0, 0.5), "right")
    world.frame(hand)
    for _ in range(10):
        assert world.frame() == []
    assert ids(world.frame(((0.03, 0.0, 0.5), "right"))) == [0]
    for _ in range(40):
        world.frame()
    assert ids(world.frame(hand)) == [1]


def test_another_side_is_another_hand(model: Hand) -> None:
    world = World(model, 1)
    world.frame(((0.0, 0.0, 0.5), "right"))
    world.frame()
    assert ids(world.frame(((0.2, 0.1, 0.5), "left"))) == [1]


def test_a_mesh_that_does_not_fit_is_no_hand(model: Hand) -> None:
    world = World(model, 1)
    root = (0.0, 0.0, 0.5)
    assert ids(world.frame((root, "right"))) == [0]
    assert world.frame((root, "right", 0.2)) == []
    assert ids(world.frame((root, "right"))) == [0]
    assert World(model, 1).frame((root, "right", 0.2)) == []


def test_a_depth_that_no_hand_can_reach_is_refused_and_a_lasting_one_believed(model: Hand) -> None:
    world = World(model, 1)
    for _ in range(5):
        assert len(world.frame(((0.0, 0.0, 0.4), "right"))) == 1
    hands = [world.frame(((0.0, 0.0, 2.0), "right")) for _ in range(10)]
    # Another hand may be found there, but this one is not taken to have leapt.
    assert all(ids(each) != [0] for each in hands[:2])
    assert len(hands[-1]) == 1


def test_numbers_begin_anew_with_another_video(model: Hand) -> None:
    world = World(model, 1)
    assert ids(world.frame(((0.0, 0.0, 0.5), "right"))) == [0]
    world._follower.reset()
    assert ids(world.frame(((0.2, 0.0, 0.5), "right"))) == [0]
    world._follower.forget()
    assert ids(world.frame(((0.2, 0.0, 0.5), "right"))) == [1]
