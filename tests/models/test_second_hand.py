# SPDX-License-Identifier: Apache-2.0
"""Second hands: most of the first one stays free and in the middle, and its silhouette loses what is hidden."""

import numpy as np
import pytest
from fake_data import centroid

from cmr_models import second_hand as module
from cmr_models.second_hand import FARTHER, FRONT, HIDDEN, SCALE, TAKEN, join, over, second_hand

SIZE = 160
SQUARE = np.stack(np.meshgrid(np.linspace(-1, 1, 7), np.linspace(-1, 1, 3)), -1).reshape(-1, 2)  # 21 joints


def square(middle: tuple[float, float], half: float, colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """An opaque square as a hand's layer, and joints all over it."""
    layer = np.zeros((SIZE, SIZE, 4), np.float32)
    (x0, y0), (x1, y1) = np.round(np.subtract(middle, half)).astype(int), np.round(np.add(middle, half)).astype(int)
    layer[y0 : y1 + 1, x0 : x1 + 1] = [*colour, 255]
    return layer, SQUARE * half + middle


OTHER = square((70, 85), 45, (255, 0, 0))


def placed(seed: int, first: np.ndarray, joints: np.ndarray, front: bool = True) -> np.ndarray:
    outline = first[..., 3].astype(np.uint8)
    return second_hand(*OTHER, first, joints, outline, front, np.random.default_rng(seed))


def test_layers_may_be_joined_before_they_are_laid_over_a_picture():
    random = np.random.default_rng(0)
    alpha = random.uniform(0, 255, (2, 9, 9, 1))
    a, b = np.concatenate([random.uniform(0, 1, (2, 9, 9, 3)) * alpha, alpha], -1)
    picture = random.uniform(0, 255, (9, 9, 3))
    np.testing.assert_allclose(over(over(a, b), picture), over(a, over(b, picture)))
    clear, opaque = np.zeros((9, 9, 4)), np.full((9, 9, 4), 255.0)
    np.testing.assert_array_equal(over(clear, picture), picture)
    np.testing.assert_array_equal(over(opaque, picture), opaque[..., :3])


@pytest.mark.parametrize("front", [True, False])
@pytest.mark.parametrize("middle", [(80, 80), (45, 100), (150, 80)])
def test_the_first_hand_stays_mostly_free(front, middle):
    """Counted in the picture: black first hand, black ground, red second one."""
    first, joints = square(middle, 40, (0, 0, 0))
    x0, y0, x1, y1 = np.array([*np.subtract(middle, 40), *np.add(middle, 41)]).clip(0, SIZE)
    taken, hidden, seen = [], [], []
    for seed in range(60):
        layer = placed(seed, first, joints, front)
        black = np.zeros((SIZE, SIZE, 3))
        picture = over(layer, over(first, black)) if front else over(first, over(layer, black))
        red = picture[..., 0] / max(layer[layer[..., 3] > 254][:, 0].max(initial=1), 1)
        taken.append(red[y0:y1, x0:x1].mean())
        hidden.append((red * (first[..., 3] > 0)).sum() / (first[..., 3] > 0).sum())
        seen.append(red.mean())
    assert max(taken) < TAKEN + 0.01
    assert max(hidden) < (HIDDEN + 0.01 if front else 1e-6)
    assert np.mean(np.array(seen) > 0.01) > 0.7  # and it is in the picture
    if front:
        assert np.mean(np.array(hidden) > 0.02) > 0.2


def test_photos_count_what_lies_between_the_joints_as_the_hand():
    first, joints = square((80, 80), 40, (0, 0, 0))
    picture = first[..., :3]
    layers = [second_hand(*OTHER, picture, joints, None, True, np.random.default_rng(seed)) for seed in range(60)]
    hidden = [layer[40:121, 40:121, 3].mean() / 255 for layer in layers]
    assert 0.1 < max(hidden) < TAKEN + 0.01  # here the box is the hull


def test_a_second_hand_is_turned_scaled_mirrored_and_farther_from_the_middle(monkeypatch):
    """Read off three dots of one colour each, which lie on it."""
    monkeypatch.setattr(module, "SAME_COLOUR", 0.0)
    joints = SQUARE * 50 + 80
    corners = np.array([[30.0, 30.0], [130.0, 30.0], [30.0, 130.0]])
    y, x = np.mgrid[:SIZE, :SIZE]
    dots = np.stack([255 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 32) for cx, cy in corners], -1)
    other = np.dstack([dots, dots.max(-1)]).astype(np.float32)
    half, middle = 14, np.array([75.0, 84.0])
    first, keypoints = np.zeros((SIZE, SIZE, 4), np.float32), SQUARE * half + middle
    scales, turns, mirrored, off = [], [], [], []
    for seed in range(200):
        outline = np.zeros((SIZE, SIZE), np.uint8)
        layer = second_hand(other, joints, first, keypoints, outline, True, np.random.default_rng(seed))
        found = [centroid(layer[..., k], np.array([80, 80]), 200) for k in range(3)]
        if min(np.min(found), SIZE - 1 - np.max(found)) < 8:
            continue  # a dot is cut
        linear = np.stack([found[1] - found[0], found[2] - found[0]], 1) / 100
        scales.append(np.sqrt(abs(np.linalg.det(linear))) * 50 / half)
        mirrored.append(np.linalg.det(linear) < 0)
        turns.append(np.arctan2(*linear[::-1, 1]))
        off.append(np.linalg.norm((found[1] + found[2]) / 2 - 79.5) / (2 * half))
        np.testing.assert_allclose(linear.T @ linear, np.eye(2) * abs(np.linalg.det(linear)), atol=2e-3)
    assert len(scales) > 100
    assert SCALE[0] - 0.02 < min(scales) < 0.75
    assert 1.1 < max(scales) < SCALE[1] + 0.02
    assert np.mean(mirrored) == pytest.approx(0.5, abs=0.12)
    assert np.histogram(turns, 4, (-np.pi, np.pi))[0].min() > 5
    assert min(off) > np.linalg.norm(middle - 79.5) / (2 * half) + FARTHER - 0.02


def test_its_arm_points_outwards(monkeypatch):
    monkeypatch.setattr(module, "TURN", 0.0)
    joints = SQUARE * 30 + 80
    joints[0], joints[9] = (80, 110), (80, 80)  # the wrist is below the knuckle
    other = np.zeros((SIZE, SIZE, 4), np.float32)
    other[76:85, 76:85, 0] = other[106:115, 76:85, 1] = 255
    other[..., 3] = other.max(-1)
    first, keypoints = np.zeros((SIZE, SIZE, 4), np.float32), SQUARE * 25 + 79.5
    for seed in range(30):
        layer = second_hand(other, joints, first, keypoints, first[..., 0], True, np.random.default_rng(seed))
        if layer[..., 0].sum() and layer[..., 1].sum():
            knuckle, wrist = (centroid(layer[..., k], np.array([80, 80]), 200) - 79.5 for k in (0, 1))
            assert np.linalg.norm(wrist) > np.linalg.norm(knuckle)


def test_some_second_hands_have_the_first_ones_colour():
    first, joints = square((80, 80), 30, (60, 120, 90))
    other, points = square((80, 80), 45, (120, 120, 120))
    colours = set()
    for seed in range(60):
        layer = second_hand(other, points, first, joints, None, True, np.random.default_rng(seed))
        assert (layer[..., :3] <= layer[..., 3:]).all()  # colour times alpha
        inside = layer[layer[..., 3] > 254.9]
        colours |= {tuple(np.round(colour).astype(int)) for colour in inside[:1, :3]}
    assert colours == {(60, 120, 90), (120, 120, 120)}


def test_a_silhouette_loses_what_is_hidden_and_nothing_else(monkeypatch):
    """The share of each pixel that is seen to be red is hidden; behind the first hand, nothing is."""
    monkeypatch.setattr(module, "SAME_COLOUR", 0.0)
    first, joints = square((80, 80), 40, (0, 255, 0))
    outline = first[..., 3].astype(np.uint8)
    outline[60:70, 60:70] = 130  # half hidden by something of its own
    blue = np.tile([0.0, 0.0, 255.0], (SIZE, SIZE, 1))
    fronts = []
    for seed in range(40):
        layer, left, behind = join(*OTHER, first, joints, outline, blue, np.random.default_rng(seed))
        picture = over(layer, behind)
        red = picture[..., 0] * (first[..., 3] > 0) / 255
        np.testing.assert_allclose(left, outline * (1 - red), atol=0.51)
        np.testing.assert_array_equal(outline[40:121, 40:121].min(), 130)  # the caller's is as it was
        np.testing.assert_allclose(picture.sum(-1), 255, atol=1e-3)
        fronts.append(behind is blue)
        if not fronts[-1]:
            np.testing.assert_array_equal(left, outline)
    assert np.mean(fronts) == pytest.approx(FRONT, abs=0.2)
