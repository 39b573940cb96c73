# SPDX-License-Identifier: Apache-2.0
"""Which stages a frame tells of: the search when it ran, smoothing when there is any."""

import numpy as np
import pytest
from disc_bundle import draw_disc

from cmr_runtime import Bundle, HandMeshTracker

HAND = draw_disc(320, 240, 150, 120, 40)
EMPTY = np.zeros_like(HAND)
BOX = (80, 50, 220, 190)


def test_a_search_is_told_in_the_frames_in_which_it_ran(bundle: Bundle) -> None:
    with HandMeshTracker(bundle) as tracker:
        assert tracker.track(EMPTY) == []
        assert tracker.detect_ms > 0  # nothing was found, but it took its time
        (found,) = tracker.track(HAND)
        assert found.times.detect == tracker.detect_ms > 0
        (followed,) = tracker.track(HAND)
        assert followed.times.detect == tracker.detect_ms == 0
        assert followed.times.smooth > 0


def test_all_hands_of_a_frame_tell_of_its_search(bundle: Bundle) -> None:
    two = np.maximum(HAND, draw_disc(320, 240, 270, 60, 30))
    with HandMeshTracker(bundle, num_hands=3, smoothing=False) as tracker:
        tracker.track(HAND)
        hands = tracker.track(two)
        assert len(hands) == 2
        assert {hand.times.detect for hand in hands} == {tracker.detect_ms}
        assert {hand.times.smooth for hand in hands} == {0.0}


def test_a_callers_boxes_are_not_searched_for(bundle: Bundle) -> None:
    with HandMeshTracker(bundle, mode="image") as tracker:
        (searched,) = tracker.track(HAND)
        assert searched.times.detect == tracker.detect_ms > 0
        (boxed,) = tracker.track(HAND, rois=[BOX])
        assert boxed.times.detect == tracker.detect_ms == 0


def test_boxes_to_follow_count_as_a_search(bundle: Bundle) -> None:
    with HandMeshTracker(bundle) as tracker:
        tracker.follow([BOX])
        (found,) = tracker.track(HAND)
        assert found.times.detect > 0
        assert found.times.total == pytest.approx(sum(vars(found.times).values()))
