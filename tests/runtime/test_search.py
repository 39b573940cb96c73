# SPDX-License-Identifier: Apache-2.0
import dataclasses
import itertools

import numpy as np
import pytest
from disc_bundle import draw_disc
from disc_detector import SIZE, make_detector
from hypothesis import given, settings
from hypothesis import strategies as st

from cmr_runtime import Bundle, Roi
from cmr_runtime.detect import Detector
from cmr_runtime.network import PriorStage
from cmr_runtime.search import Search, tiles, windows
from cmr_runtime.view import Viewer


@pytest.fixture
def viewer(bundle: Bundle) -> Viewer:
    return Viewer(PriorStage(bundle))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 2000), st.integers(1, 2000))
def test_windows_cover_the_image_from_large_to_small(width: int, height: int) -> None:
    found = windows(width, height)
    assert found[0].size == max(width, height)
    sizes = [roi.size for roi in found]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(found)) == len(found)
    # The smallest windows reach all four edges and leave no gaps.
    small = [roi for roi in found if roi.size == sizes[-1]]
    for extent, centres in ((width, {r.cx for r in small}), (height, {r.cy for r in small})):
        ordered = sorted(centres)
        assert ordered[0] - sizes[-1] / 2 <= -0.5 + 1e-6
        assert ordered[-1] + sizes[-1] / 2 >= extent - 0.5 - 1e-6
        assert all(b - a <= 0.5 * sizes[-1] + 1e-6 for a, b in itertools.pairwise(ordered))


@pytest.mark.parametrize(("cx", "cy", "radius"), [(160, 120, 90), (60, 60, 30), (270, 180, 22)])
def test_finds_a_disc(viewer: Viewer, cx: float, cy: float, radius: float) -> None:
    found = Search(0.5, 1.7)(viewer, draw_disc(320, 240, cx, cy, radius), 1)
    assert len(found) == 1
    assert np.hypot(found[0].roi.cx - cx, found[0].roi.cy - cy) < 0.1 * found[0].roi.size


def test_two_discs_are_two_hands_and_known_ones_are_left_out(viewer: Viewer) -> None:
    image = np.maximum(draw_disc(400, 160, 70, 80, 30), draw_disc(400, 160, 330, 80, 30, "left"))
    found = Search(0.5, 1.7)(viewer, image, 2)
    assert sorted(round(view.roi.cx / 10) * 10 for view in found) == [70, 330]
    rest = Search(0.5, 1.7)(viewer, image, 2, known=[found[0].roi])
    assert [round(view.roi.cx) for view in rest] == [round(found[1].roi.cx)]


def test_nothing_to_find(viewer: Viewer) -> None:
    assert Search(0.5, 1.7)(viewer, np.zeros((240, 320, 3), np.uint8), 2) == []


def test_budget_goes_round_all_windows(bundle: Bundle, viewer: Viewer) -> None:
    seen = []

    class Spy(Viewer):
        def __call__(self, image, roi):
            seen.append(roi)
            return super().__call__(image, roi)

    spy = Spy(PriorStage(bundle))
    search, image = Search(0.5, 1.7), np.zeros((240, 320, 3), np.uint8)
    total = windows(320, 240)
    calls = -(-len(total) // 4)
    for _ in range(calls):
        before = len(seen)
        search(spy, image, 1, budget=4)
        assert len(seen) - before <= 4
    assert seen[: len(total)] == total
    search.reset()
    search(spy, image, 1, budget=1)
    assert seen[-1] == total[0]


@pytest.fixture(scope="module")
def detector(bundle: Bundle) -> Detector:
    return Detector(dataclasses.replace(bundle, detector=make_detector(), detector_size=SIZE))


class Counting:
    """A detector that counts how often it looks, apart from closer looks."""

    def __init__(self, detector: Detector) -> None:
        self._detector, self.regions = detector, []

    def __call__(self, image, region, min_score):
        self.regions.append(region)
        return self._detector(image, region, min_score)

    def closer(self, image, palm, min_score):
        return self._detector.closer(image, palm, min_score)


class Doubtful(Counting):
    """A detector to which no palm is plain at first sight, so that each is looked at again; it counts that, too."""

    def __init__(self, detector: Detector, score: float = 0.8) -> None:
        super().__init__(detector)
        self._score, self.closer_looks = score, 0

    def __call__(self, image, region, min_score):
        palms = super().__call__(image, region, min_score)
        return [dataclasses.replace(palm, score=min(palm.score, self._score)) for palm in palms]

    def closer(self, image, palm, min_score):
        self.closer_looks += 1
        return super().closer(image, palm, min_score)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 2000), st.integers(1, 2000))
def test_tiles_show_a_small_hand_whole_wherever_it_is(width: int, height: int) -> None:
    found = tiles(width, height)
    if min(width, height) < 256:
        assert found == []  # such tiles would only blow up what the whole image shows already
        return
    size = min(width, height) / 2
    assert {roi.size for roi in found} == {size}
    hand = 0.16 * min(width, height)  # twice the smallest hand that is promised
    rng = np.random.default_rng(width * 2000 + height)
    for x, y in rng.uniform([0, 0], [width - hand, height - hand], (20, 2)):
        reach = 0.5 * (size - hand) + 1e-6
        middle = x + 0.5 * hand - 0.5, y + 0.5 * hand - 0.5
        assert any(abs(roi.cx - middle[0]) <= reach and abs(roi.cy - middle[1]) <= reach for roi in found)


@pytest.mark.parametrize(("cx", "cy", "radius"), [(300, 160, 120), (90, 100, 40), (560, 270, 14)])
def test_a_detector_finds_a_disc(viewer: Viewer, detector: Detector, cx: float, cy: float, radius: float) -> None:
    (view,) = Search(0.5, 1.7, detector)(viewer, draw_disc(640, 320, cx, cy, radius), 1)
    assert np.hypot(view.roi.cx - cx, view.roi.cy - cy) < 0.1 * view.roi.size
    assert view.roi.size == pytest.approx(1.7 * 2 * radius, rel=0.15)


def test_what_the_whole_image_confuses_is_found_in_tiles(viewer: Viewer, detector: Detector) -> None:
    image = np.maximum(draw_disc(640, 320, 90, 100, 24), draw_disc(640, 320, 550, 220, 24, "left"))
    search = Search(0.5, 1.7, detector)
    found = search(viewer, image, 2)
    assert sorted(round(view.roi.cx / 10) * 10 for view in found) == [90, 550]
    rest = search(viewer, image, 2, known=[found[0].roi])
    assert [round(view.roi.cx) for view in rest] == [round(found[1].roi.cx)]


def test_no_tiles_where_the_whole_image_gives_hands_enough(viewer: Viewer, detector: Detector) -> None:
    counting = Counting(detector)
    assert len(Search(0.5, 1.7, counting)(viewer, draw_disc(640, 320, 300, 160, 90), 1)) == 1
    assert len(counting.regions) == 1


def test_what_looks_more_like_a_palm_than_the_hand_does_not_hide_it(viewer: Viewer, detector: Detector) -> None:
    class Distracted(Counting):
        """Five places in front of the hand's, at which there is nothing on a closer look."""

        def __call__(self, image, region, min_score):
            palms = super().__call__(image, region, min_score)
            decoys = [
                dataclasses.replace(p, cx=40.0 + 120 * k, cy=20.0, size=10.0, score=1.0)
                for p in palms
                for k in range(5)
            ]
            return [*decoys, *palms]

    image = draw_disc(640, 320, 300, 200, 60)
    (view,) = Search(0.5, 1.7, Distracted(detector))(viewer, image, 1)
    assert np.hypot(view.roi.cx - 300, view.roi.cy - 200) < 0.1 * view.roi.size


def test_both_networks_must_see_the_hand(viewer: Viewer, detector: Detector) -> None:
    image = draw_disc(640, 320, 300, 160, 90)

    class Elsewhere(Doubtful):
        """Keypoints of a hand that is turned upside down."""

        def closer(self, image, palm, min_score):
            palm = super().closer(image, palm, min_score)
            turned = palm and 2 * np.array([palm.cx, palm.cy]) - palm.keypoints
            return palm and dataclasses.replace(palm, keypoints=turned)

    class Blurred(Viewer):
        """The joints' peaks are low, but for the detector's agreement too low."""

        height = 0.3

        def __call__(self, image, roi):
            view = super().__call__(image, roi)
            return dataclasses.replace(
                view, prior=dataclasses.replace(view.prior, heatmaps=self.height * view.prior.heatmaps)
            )

    class Faint(Blurred):
        height = 0.1

    stage = viewer._prior
    blurred, faint = Blurred(stage), Faint(stage)
    assert blurred(image, Roi(300, 160, 306)).clarity == pytest.approx(0.3, abs=0.05)
    for detect, look, hands in (
        (detector, viewer, 1),
        (Elsewhere(detector), viewer, 1),  # clear joints speak for themselves
        (detector, blurred, 1),
        (Elsewhere(detector), blurred, 0),
        (detector, faint, 0),
    ):
        assert len(Search(0.5, 1.7, detect)(look, image, 1)) == hands


@pytest.mark.parametrize(("score", "looks"), [(0.95, 0), (0.85, 1)])
def test_only_a_palm_in_doubt_is_looked_at_close_up(
    viewer: Viewer, detector: Detector, score: float, looks: int
) -> None:
    doubtful = Doubtful(detector, score)
    (view,) = Search(0.5, 1.7, doubtful)(viewer, draw_disc(640, 320, 300, 160, 60), 1)
    assert doubtful.closer_looks == looks
    assert np.hypot(view.roi.cx - 300, view.roi.cy - 160) < 0.1 * view.roi.size


@pytest.mark.parametrize(("right", "mirrored"), [(0.95, [False, True, True]), (0.6, [False, True, True, False])])
def test_a_side_that_is_told_clearly_is_not_asked_again(
    viewer: Viewer, detector: Detector, right: float, mirrored: list[bool]
) -> None:
    class Told(Viewer):
        """A left hand, which looks like a right one in the mirror, with that probability."""

        def __call__(self, image, roi):
            asked.append(roi.mirrored)
            view = super().__call__(image, roi)
            seen = dataclasses.replace(view.prior, right=right if roi.mirrored else 1.0 - right)
            return dataclasses.replace(view, prior=seen)

    asked: list[bool] = []
    look = Told(viewer._prior)
    look.judges = True
    (view,) = Search(0.5, 1.7, detector)(look, draw_disc(640, 320, 300, 160, 60), 1)
    assert asked == mirrored
    assert view.roi.mirrored


def test_a_side_is_told_by_two_looks_only(viewer: Viewer, detector: Detector) -> None:
    class Dim(Viewer):
        """At first there is hardly a hand, so that the mirror is not asked; one look alone calls it a right one."""

        def __call__(self, image, roi):
            asked.append(roi.mirrored)
            view = super().__call__(image, roi)
            seen = dataclasses.replace(view.prior, right=0.95, presence=0.4 if len(asked) == 1 else 1.0)
            return dataclasses.replace(view, prior=seen)

    asked: list[bool] = []
    look = Dim(viewer._prior)
    look.judges = True
    assert len(Search(0.5, 1.7, detector)(look, draw_disc(640, 320, 300, 160, 60), 1)) == 1
    assert asked == [False, False, True]


def test_what_is_too_small_to_be_read_is_no_hand(viewer: Viewer, detector: Detector) -> None:
    found = [len(Search(0.5, 1.7, detector)(viewer, draw_disc(400, 260, 200, 130, r), 1)) for r in (8, 13)]
    assert found == [0, 1]


def test_a_video_without_hands_goes_round_the_tiles(viewer: Viewer, detector: Detector) -> None:
    counting, image = Counting(detector), np.zeros((320, 640, 3), np.uint8)
    search, parts = Search(0.5, 1.7, counting), tiles(640, 320)
    for _ in parts:
        before = len(counting.regions)
        assert search(viewer, image, 1, budget=8) == []
        assert len(counting.regions) - before == 2
    assert counting.regions[1::2] == parts
    search.reset()
    search(viewer, image, 1, budget=8)
    assert counting.regions[-2:] == [counting.regions[0], parts[0]]


def test_a_video_with_hands_is_looked_at_now_and_then(viewer: Viewer, detector: Detector) -> None:
    counting = Counting(detector)
    search = Search(0.5, 1.7, counting)
    image = np.maximum(draw_disc(640, 320, 90, 100, 40), draw_disc(640, 320, 550, 220, 40))
    known, counts = [Roi(90, 100, 136)], []
    found = []
    for _ in range(80):
        before = len(counting.regions)
        found += search(viewer, image, 1, known, budget=8)
        counts.append(len(counting.regions) - before)
    assert [k for k, count in enumerate(counts) if count] == list(range(4, 80, 5))
    assert {round(view.roi.cx) for view in found} == {550}


def test_a_strip_is_not_cut_into_crumbs():
    assert len(windows(1, 5000)) == 1
    assert all(roi.size >= 20 for roi in windows(30, 400))
