# SPDX-License-Identifier: Apache-2.0
import itertools

import numpy as np
import pytest
from disc_bundle import draw_disc
from hypothesis import given, settings
from hypothesis import strategies as st

from cmr_runtime import Bundle
from cmr_runtime.network import PriorStage
from cmr_runtime.search import Search, windows
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
