# SPDX-License-Identifier: Apache-2.0
"""Followed hands in a world of which all is known: a look shows the hand nearest to the region's centre."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from disc_bundle import draw_disc

from cmr_runtime import Bundle, Camera, Hand, HandMeshTracker, Roi
from cmr_runtime.finding import ROOMY
from cmr_runtime.following import MOST_EVIDENCE, SIDE_EVIDENCE, Follower, Track
from cmr_runtime.motion import HORIZON, Motion, extent
from cmr_runtime.pipeline import Placed
from cmr_runtime.resting import CONTRADICTED, DOUBTED, RESTED, TRUSTED, TURNED, Rest

W, HEIGHT = 640, 480
CAMERA = Camera.from_fov(60, W, HEIGHT)


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> Hand:
    """A right hand at (0, 0, 0.5), of which others are made."""
    image = draw_disc(W, HEIGHT, 319.5, 239.5, 40)
    with HandMeshTracker(bundle, mode="image") as tracker:
        (hand,) = tracker.track(image, CAMERA, rois=[(240, 160, 400, 320)])
    return _at(hand, (0.0, 0.0, 0.5), "right")


def _at(hand: Hand, root: tuple[float, float, float], side: str, misfit: float = 0.0) -> Hand:
    joints = (hand.joints_root + np.array(root)).astype(np.float32)
    points = CAMERA.project(joints)
    return dataclasses.replace(
        hand,
        joints=joints,
        vertices=(hand.vertices_root + np.array(root)).astype(np.float32),
        keypoints=points.astype(np.float32),
        translation=np.array(root, dtype=np.float64),
        handedness=side,
        handedness_score=1.0,
        roi=Roi.upright(points, ROOMY, mirrored=side == "left"),
        registration=dataclasses.replace(hand.registration, residual_2d=misfit * float(np.ptp(points, axis=0).max())),
    )


class World:
    """Stands for pipeline and finder. `hands` are (root, side[, misfit]); one in front hides those behind it."""

    def __init__(self, model: Hand, num_hands: int = 2) -> None:
        self.hands: list[tuple] = []
        self.searched, self.searches = 0, True
        self.looked, self.recalled, self._gone = 0, [], ((0.0, 0.0, 0.5), "right")
        self._model = model
        self.viewer = SimpleNamespace(judges=False, recalls=False, sided=self._sided, recall=self._recall)
        self._follower = Follower(self, self._find, num_hands, 0.5, lambda: None)
        self.time = 0.0

    def frame(self, *hands: tuple, dt: float = 1 / 30) -> list[Hand]:
        self.hands, self.time = list(hands), self.time + dt
        return self._follower(np.empty((HEIGHT, W, 3), np.uint8), CAMERA, True, self.time)

    def _look(self, image: np.ndarray, roi: Roi, min_presence: float) -> SimpleNamespace:
        near = []
        for hand in self.hands:
            x, y = CAMERA.project(hand[0])
            off = float(np.hypot(x - roi.cx, y - roi.cy))
            if off < 0.5 * roi.size:
                near.append((off, hand))
        # Of hands that lie one over the other, only the nearest to the camera is seen.
        in_front = [(off, hand) for off, hand in near if not any(self._hides(other, hand) for other in self.hands)]
        seen = min(in_front, key=lambda pair: pair[0])[1] if in_front else None
        return SimpleNamespace(presence=float(seen is not None), seen=seen, roi=roi, prior=SimpleNamespace(right=1.0))

    def _hides(self, other: tuple, hand: tuple) -> bool:
        a, b = CAMERA.project(other[0]), CAMERA.project(hand[0])
        return other[0][2] < hand[0][2] and float(np.hypot(*(a - b))) < 45

    def _sided(self, image: np.ndarray, roi: Roi, min_presence: float) -> SimpleNamespace:
        self.looked += 1
        return self._look(image, roi, min_presence)

    def _recall(self, image: np.ndarray, roi: Roi, said: object) -> SimpleNamespace:
        self.recalled.append((round(roi.cx), said))
        return self._look(image, roi, 0.5)

    def placed(self, image: np.ndarray, view: SimpleNamespace, camera: Camera, metric: bool) -> Placed:
        seen = view.seen or self._gone
        hand = dataclasses.replace(_at(self._model, *seen), roi=view.roi, score=view.presence)
        return Placed(hand, ("said", seen), camera.project(hand.joints), extent(hand))

    def _find(self, image: np.ndarray, count: int, known: list[Roi]) -> list[SimpleNamespace]:
        self.searched += 1
        found = []
        for hand in self.hands if self.searches else ():
            roi = _at(self._model, *hand[:2]).roi
            if all(roi.overlap(other) < 0.4 for other in known):
                found.append(SimpleNamespace(presence=1.0, seen=hand, roi=roi))
        return found[:count]


def _ids(hands: list[Hand]) -> list[int | None]:
    return [hand.track_id for hand in hands]


def test_a_fast_hand_is_looked_for_where_it_will_be(model: Hand) -> None:
    motion = Motion()
    for frame in range(10):
        motion.update(_at(model, (-0.1 + 0.02 * frame, 0.0, 0.5), "right"), frame / 30)
    expected = Roi.upright(CAMERA.project(_at(model, (0.1, 0.0, 0.5), "right").joints), ROOMY)
    roi = motion.roi(10 / 30, CAMERA)
    assert roi.cx == pytest.approx(expected.cx, abs=2)
    assert roi.size == pytest.approx(expected.size, rel=0.01)
    # Two frames were dropped: it goes on for three, and no further than for a quarter of a second.
    np.testing.assert_allclose(motion.root(12 / 30), (0.14, 0, 0.5), atol=3e-3)
    np.testing.assert_allclose(motion.root(60.0), motion.root(9 / 30 + 0.25))


def test_a_hand_keeps_its_number_and_a_second_one_gets_the_next(model: Hand) -> None:
    world = World(model)
    one, two = ((-0.15, 0.0, 0.5), "right"), ((0.15, 0.0, 0.5), "left")
    assert _ids(world.frame(one)) == [0]
    assert _ids(world.frame(one, two)) == [0, 1]
    assert _ids(world.frame(two, one)) == [0, 1]
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
        assert _ids(world.frame(((0.0, 0.0, 0.5), "right"), ((0.05, 0.0, 0.5), "left"))) in ([0], [0, 1])
    world = World(model)
    for x in np.linspace(0.2, 0.055, 20):
        ids = _ids(world.frame(((0.0, 0.0, 0.5), "right"), ((float(x), 0.0, 0.5), "left")))
    assert ids == [0, 1]


def test_what_two_overlapping_hands_give_together_is_not_followed(model: Hand) -> None:
    world, still = World(model), ((0.0, 0.0, 0.45), "right")
    for x in np.arange(0.2, 0.09, -0.02):
        assert _ids(world.frame(still, ((float(x), 0.0, 0.5), "right"))) == [0, 1]
    # Half hidden, it seems to leap back by most of a hand; alone it might.
    world.searches = False
    assert _ids(world.frame(still, ((0.17, 0.0, 0.5), "right"))) == [0]
    for _ in range(3):
        assert _ids(world.frame(still)) == [0]
    world.searches = True
    assert _ids(world.frame(still, ((-0.1, 0.0, 0.5), "right"))) == [0, 1]


def test_a_hand_that_misses_a_few_frames_keeps_its_number_and_one_long_gone_does_not(model: Hand) -> None:
    world, hand = World(model, 1), ((0.0, 0.0, 0.5), "right")
    world.frame(hand)
    for _ in range(10):
        assert world.frame() == []
    assert _ids(world.frame(((0.03, 0.0, 0.5), "right"))) == [0]
    for _ in range(40):
        world.frame()
    assert _ids(world.frame(hand)) == [1]


def test_another_side_is_another_hand(model: Hand) -> None:
    world = World(model, 1)
    world.frame(((0.0, 0.0, 0.5), "right"))
    world.frame()
    assert _ids(world.frame(((0.2, 0.1, 0.5), "left"))) == [1]


def test_a_mesh_that_does_not_fit_is_no_hand(model: Hand) -> None:
    world = World(model, 1)
    root = (0.0, 0.0, 0.5)
    assert _ids(world.frame((root, "right"))) == [0]
    assert world.frame((root, "right", 0.2)) == []
    assert _ids(world.frame((root, "right"))) == [0]
    assert World(model, 1).frame((root, "right", 0.2)) == []


def test_a_depth_that_no_hand_can_reach_is_refused_and_a_lasting_one_believed(model: Hand) -> None:
    world = World(model, 1)
    for _ in range(5):
        assert len(world.frame(((0.0, 0.0, 0.4), "right"))) == 1
    hands = [world.frame(((0.0, 0.0, 2.0), "right")) for _ in range(10)]
    # Another hand may be found there, but this one is not taken to have leapt.
    assert all(_ids(each) != [0] for each in hands[:2])
    assert len(hands[-1]) == 1


def test_numbers_begin_anew_with_another_video(model: Hand) -> None:
    world = World(model, 1)
    assert _ids(world.frame(((0.0, 0.0, 0.5), "right"))) == [0]
    world._follower.reset()
    assert _ids(world.frame(((0.2, 0.0, 0.5), "right"))) == [0]
    world._follower.forget()
    assert _ids(world.frame(((0.2, 0.0, 0.5), "right"))) == [1]


# Frames in which the prior rests


def _settled(model: Hand, *hands: tuple) -> World:
    """Return a world whose hands have been looked at often enough for the next frame to recall them."""
    world = World(model, len(hands))
    world.viewer.recalls = True
    for _ in range(1 + TRUSTED):
        assert len(world.frame(*hands)) == len(hands)
    assert world.recalled == []
    return world


def test_the_prior_rests_while_a_hand_goes_on_and_is_asked_from_time_to_time(model: Hand) -> None:
    hand = ((0.0, 0.0, 0.5), "right")
    world, rests = _settled(model, hand), round(30 * RESTED) - 1
    for k in range(3):
        assert (len(world.recalled), world.looked) == (k * rests, TRUSTED + k)
        for _ in range(rests + 1):
            assert _ids(world.frame(hand)) == [0]


def test_a_hand_that_surprises_greatly_is_looked_at_in_the_same_frame_and_the_next(model: Hand) -> None:
    still, away = ((0.0, 0.0, 0.5), "right"), ((0.04, 0.0, 0.5), "right")
    world = _settled(model, still)
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
    world = _settled(model, still)
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
    world = _settled(model, hand)
    assert world.frame((*hand, 0.2)) == []
    assert (len(world.recalled), world.looked) == (1, TRUSTED + 1)
    world.searches = False
    assert _ids(world.frame(hand)) == [0]
    assert (len(world.recalled), world.looked) == (1, TRUSTED + 2)  # nothing was said of it to recall
    world.frame(hand)
    assert len(world.recalled) == 2


def test_what_was_said_of_a_hand_last_is_recalled_of_that_hand(model: Hand) -> None:
    one, two = ((-0.15, 0.0, 0.5), "right"), ((0.15, 0.0, 0.5), "right")
    world = _settled(model, one, two)
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
    world = _settled(model, hand)
    world.searches = False
    assert world.frame() == []
    assert world.frame() == []
    assert (len(world.recalled), world.looked) == (1, TRUSTED + 2)  # the second of both frames has nothing to recall


@pytest.mark.parametrize("place", [(0.0, 0.0, 0.5), (0.2, 0.0, 0.5)])
def test_a_hand_found_again_is_looked_at_for_a_while(model: Hand, place: tuple[float, float, float]) -> None:
    world = _settled(model, ((0.0, 0.0, 0.5), "right"))
    for _ in range(10):
        world.frame()
    world.recalled.clear()
    searched, hand = place[0] > 0, (place, "right")  # where it is not expected
    for _ in range(TRUSTED + searched):
        assert _ids(world.frame(hand)) == [0]
    assert world.recalled == []
    world.frame(hand)
    assert len(world.recalled) == 1


def test_nothing_is_recalled_over_a_gap_in_time(model: Hand) -> None:
    hand = ((0.0, 0.0, 0.5), "right")
    world = _settled(model, hand)
    world.frame(hand, dt=2 * HORIZON)
    assert world.recalled == []


def test_hands_whose_regions_touch_are_told_apart_by_the_prior(model: Hand) -> None:
    near = ((-0.06, 0.0, 0.5), "right"), ((0.06, 0.0, 0.5), "right")
    world = _settled(model, *near)
    for _ in range(3):
        assert _ids(world.frame(*near)) == [0, 1]
    assert world.recalled == []


def test_a_hand_of_doubtful_side_is_always_looked_at(model: Hand) -> None:
    world, hand, keep = World(model, 1), ((0.0, 0.0, 0.5), "right"), 0.8
    world.viewer.recalls = world.viewer.judges = True
    placed = world.placed

    def doubtful(*arguments: object) -> Placed:
        found = placed(*arguments)
        return dataclasses.replace(found, hand=dataclasses.replace(found.hand, handedness_score=keep))

    world.placed = doubtful
    for _ in range(TRUSTED + 5):
        world.frame(hand)
    assert (len(world.recalled), world.looked) == (0, TRUSTED + 4)
    keep = 0.95
    world.frame(hand)
    world.frame(hand)
    assert len(world.recalled) == 1


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
        return dataclasses.replace(found, hand=hand, said=(*found.said, prior))


def _looks(world: World, *hands: tuple) -> int:
    """Looks of the prior in the next frame."""
    before = world.looked
    world.frame(*hands)
    return world.looked - before


@pytest.mark.parametrize(("right", "longest"), [(0.999, 30), (0.9, 72), (0.75, 144)])
def test_a_side_that_was_wrong_is_put_right_soon_after_the_prior_looks(model: Hand, right: float, longest: int) -> None:
    world, hand, other = Judged(model), ((0.0, 0.0, 0.5), "right"), ((0.0, 0.0, 0.5), "left")
    for _ in range(40):
        world.frame(hand)
    assert _looks(world, hand) == 0
    world.right = right
    waited = 0
    while not _looks(world, other):
        waited += 1
    assert waited <= 30 * RESTED
    frames = 0  # a look in six while there is much evidence
    while world.frame(other)[0].handedness == "right":
        frames += 1
        assert frames <= longest
    world.right = 0.999  # and then it rests again
    assert [_looks(world, other) for _ in range(8)][-1] == 0


def test_a_hand_that_is_seen_end_on_for_a_while_keeps_its_side(model: Hand) -> None:
    world, hand = Judged(model), ((0.0, 0.0, 0.5), "right")
    for _ in range(10):
        world.frame(hand)
    world.right = 0.2
    while not _looks(world, hand):
        assert world._follower._tracks[0].side == "right"
    spacing = round(30 * CONTRADICTED)
    looks = [_looks(world, hand) for _ in range(4 * spacing)]
    assert looks == 4 * [*[0] * (spacing - 1), 1]
    assert world._follower._tracks[0].side == "right"


def test_where_the_side_is_known_the_prior_rests_whatever_it_says_of_it(model: Hand) -> None:
    world, hand = Judged(model), ((0.0, 0.0, 0.5), "right")
    world.judges, world.right = False, 0.1
    for _ in range(10):
        world.frame(hand)
    assert [_looks(world, hand) for _ in range(round(20 * RESTED))] == [0] * round(20 * RESTED)


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
    assert _looks(world, ((0.12, 0.0, 0.5), "right")) > 0


def test_a_recalled_hand_that_does_not_hold_is_looked_at_in_the_next_frame_too(model: Hand) -> None:
    world, hand = _settled(model, ((0.0, 0.0, 0.5), "right")), ((0.0, 0.0, 0.5), "right")
    recall, placed = world.viewer.recall, world.placed

    def misfit(image: np.ndarray, view: SimpleNamespace, *others: object) -> Placed:
        found = placed(image, view, *others)
        off = dataclasses.replace(found.hand.registration, residual_2d=1e3)
        hand = dataclasses.replace(found.hand, registration=off) if view.recalled else found.hand
        return dataclasses.replace(found, hand=hand)

    def recalled(*arguments: object) -> SimpleNamespace:
        view = recall(*arguments)
        view.recalled = len(world.recalled) == 1  # the first one
        return view

    look = world._look
    world._look = lambda *arguments: SimpleNamespace(**vars(look(*arguments)), recalled=False)
    world.viewer.recall, world.placed = recalled, misfit
    assert [(_looks(world, hand), len(world.recalled)) for _ in range(3)] == [(1, 1), (1, 1), (0, 2)]


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
