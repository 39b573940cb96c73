# SPDX-License-Identifier: Apache-2.0
import dataclasses
import math

import numpy as np
import pytest
from disc_bundle import OFFSETS, draw_disc
from disc_detector import JOINTS, SIZE, make_detector
from hypothesis import given, settings
from hypothesis import strategies as st

from cmr_runtime import Bundle, BundleError, Roi
from cmr_runtime import detect as module
from cmr_runtime.detect import Detector, Palm, merge


def with_detector(bundle: Bundle, graph: bytes | None, size: int | None = SIZE) -> Bundle:
    return dataclasses.replace(bundle, detector=graph, detector_size=size)


@pytest.fixture(scope="module")
def detector(bundle: Bundle) -> Detector:
    return Detector(with_detector(bundle, make_detector()))


def whole(image: np.ndarray) -> Roi:
    height, width = image.shape[:2]
    return Roi((width - 1) / 2, (height - 1) / 2, max(width, height))


@pytest.mark.parametrize(("cx", "cy", "radius"), [(160, 120, 60), (60, 190, 30), (290, 40, 25)])
def test_a_disc_is_a_palm_where_it_lies_in_the_image(detector: Detector, cx: float, cy: float, radius: float) -> None:
    image = draw_disc(320, 240, cx, cy, radius)
    (palm,) = detector(image, whole(image), 0.5)
    assert (palm.cx, palm.cy) == pytest.approx((cx, cy), abs=1.0)
    assert palm.size == pytest.approx(2 * radius, rel=0.05)
    assert palm.angle == pytest.approx(0.0, abs=0.02)  # the wrist lies below the middle knuckle
    np.testing.assert_allclose(palm.keypoints, [cx, cy] + radius * OFFSETS[list(JOINTS)], atol=0.05 * radius + 1)


@pytest.mark.parametrize("angle", [0.0, 0.7, -2.0])
def test_regions_may_be_turned_and_reach_outside(detector: Detector, angle: float) -> None:
    image = draw_disc(320, 240, 30, 40, 28)
    (palm,) = detector(image, Roi(20, 30, 150, angle), 0.5)
    assert (palm.cx, palm.cy) == pytest.approx((30, 40), abs=1.0)
    # In the turned region the disc's wrist is again below: the hand is turned as the region is.
    assert math.remainder(palm.angle - angle, 2 * math.pi) == pytest.approx(0.0, abs=0.02)


def test_nothing_bright_is_no_palm(detector: Detector) -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    assert detector(image, whole(image), 0.5) == []


def test_closer_corrects_what_the_whole_image_shows_badly(detector: Detector) -> None:
    image = draw_disc(320, 240, 200, 100, 20)
    off = Palm(205.0, 96.0, 30.0, 0.3, 0.4, np.zeros((7, 2)))
    palm = detector.closer(image, off, 0.5)
    assert palm is not None
    assert (palm.cx, palm.cy, palm.size) == pytest.approx((200, 100, 40), abs=1.5)
    # Nothing is there, or it is another palm.
    assert detector.closer(image, dataclasses.replace(off, cx=60.0), 0.5) is None
    assert detector.closer(image, dataclasses.replace(off, cx=150.0), 0.5) is None


@pytest.mark.parametrize("angle", [0.0, 0.5 * math.pi, 2.5])
def test_the_hand_lies_beyond_the_palm(angle: float) -> None:
    up = np.array([math.sin(angle), -math.cos(angle)])
    roi = Palm(100.0, 80.0, 50.0, angle, 0.9, np.zeros((7, 2))).roi
    assert (roi.size, roi.angle, roi.mirrored) == (50.0 * module.HAND_SCALE, angle, False)
    np.testing.assert_allclose([roi.cx - 100.0, roi.cy - 80.0], 50.0 * module.HAND_SHIFT * up, atol=1e-9)


def test_distance_is_of_the_same_joints_in_sizes_of_the_palm() -> None:
    joints = np.random.default_rng(0).uniform(0, 100, (21, 2))
    palm = Palm(0.0, 0.0, 40.0, 0.0, 1.0, joints[list(JOINTS)] + [0.0, 10.0])
    assert palm.distance(joints) == pytest.approx(0.25)


def test_merging_averages_overlapping_boxes_by_score() -> None:
    boxes = np.array([[10.0, 10, 4, 4, 1], [11.0, 10, 4, 4, 4], [30.0, 10, 4, 4, 7]])
    merged = merge(boxes, np.array([0.3, 0.6, 0.9]))
    assert [score for _, score in merged] == [0.9, 0.6]
    np.testing.assert_allclose(merged[0][0], boxes[2])
    np.testing.assert_allclose(merged[1][0], (boxes[0] + 2 * boxes[1]) / 3)


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    shared = 1.0
    for k in (0, 1):
        low, high = max(a[k] - a[k + 2] / 2, b[k] - b[k + 2] / 2), min(a[k] + a[k + 2] / 2, b[k] + b[k + 2] / 2)
        shared *= max(0.0, high - low)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 12), st.integers(0, 10_000))
def test_merging_takes_every_box_into_one_group(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = np.column_stack([rng.uniform(0, 20, (count, 2)), rng.uniform(2, 8, (count, 2))])
    scores = rng.uniform(0.1, 1.0, count)
    # By the definition: again and again the best box left takes those that overlap it.
    left = sorted(range(count), key=lambda k: -scores[k])
    expected = []
    while left:
        group = [k for k in left if k == left[0] or _iou(boxes[k], boxes[left[0]]) > 0.3]
        expected.append((np.average(boxes[group], axis=0, weights=scores[group]), scores[left[0]]))
        left = [k for k in left if k not in group]
    merged = merge(boxes, scores)
    assert len(merged) == len(expected)
    for (box, score), (mean, best) in zip(merged, expected, strict=True):
        assert score == best
        np.testing.assert_allclose(box, mean)


def test_boxes_that_are_no_boxes_are_dropped(detector: Detector) -> None:
    class Broken:
        def run(self, names, feed):
            boxes = np.tile(np.linspace(0.2, 0.8, 18, dtype=np.float32), (1, 3, 1))
            boxes[0, 0, 7] = np.nan
            boxes[0, 1, 2] = -0.1
            return boxes, np.full((1, 3), 0.9, np.float32)

    image = np.zeros((64, 64, 3), np.uint8)
    broken = object.__new__(Detector)
    broken.__dict__ = {**detector.__dict__, "_session": Broken()}
    assert len(broken(image, whole(image), 0.5)) == 1


def test_a_bundle_without_a_detector(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"hand\.cmr has no detector; export it with `cmr-export --detector"):
        Detector(bundle)


@pytest.mark.parametrize(
    ("graph", "size", "word"),
    [
        (b"no graph", SIZE, "does not load"),
        (make_detector(), 32, "image of detector"),
        (make_detector(values=16), SIZE, "boxes of detector"),
        (make_detector(scores=2), SIZE, "1 boxes and 2 scores"),
    ],
)
def test_a_graph_of_another_form(bundle: Bundle, graph: bytes, size: int, word: str) -> None:
    with pytest.raises(BundleError, match=word):
        Detector(with_detector(bundle, graph, size))
