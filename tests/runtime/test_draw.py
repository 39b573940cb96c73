# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest
from disc_bundle import draw_disc

from cmr_runtime import Bundle, Camera, Hand, HandMeshTracker, InputError
from cmr_runtime.draw import FINGERS, contact_sheet, draw_hands, draw_mesh

IMAGE = draw_disc(320, 240, 150, 120, 40)


@pytest.fixture(scope="module")
def hand(bundle: Bundle) -> Hand:
    with HandMeshTracker(bundle, mode="image") as tracker:
        return tracker.track(IMAGE, Camera.from_fov(60, 320, 240), rois=[(70, 40, 230, 200)])[0]


def test_mesh_covers_the_projected_ball_and_nothing_else(hand: Hand) -> None:
    before = IMAGE.copy()
    ground = np.zeros_like(IMAGE)
    drawn = draw_hands(ground, [hand], skeleton=False, contour=False)
    np.testing.assert_array_equal(IMAGE, before)
    assert not ground.any()
    y, x = np.mgrid[:240, :320]
    centre = hand.camera.project(hand.translation)
    distance = np.hypot(x - centre[0], y - centre[1])
    radius = hand.camera.fx * 0.05 * hand.scale / hand.translation[2]
    covered = drawn.any(axis=2)
    assert covered[distance < 0.85 * radius].all()
    assert not covered[distance > 1.15 * radius].any()


def test_light_comes_from_the_upper_left(hand: Hand) -> None:
    drawn = draw_hands(np.zeros_like(IMAGE), [hand], skeleton=False, contour=False).astype(int).sum(axis=2)
    x, y = hand.camera.project(hand.translation).astype(int)
    assert drawn[y - 25 : y, x - 25 : x].mean() > drawn[y : y + 25, x : x + 25].mean()


def test_nearer_hand_is_drawn_over_the_farther_one(hand: Hand) -> None:
    moved = np.array([0, 0, 0.1], np.float32)
    far = dataclasses.replace(
        hand, vertices=hand.vertices + moved, translation=hand.translation + moved, handedness="left"
    )
    options = {"skeleton": False, "contour": False, "opacity": 1.0}
    near_first = draw_hands(np.zeros_like(IMAGE), [hand, far], **options)
    far_first = draw_hands(np.zeros_like(IMAGE), [far, hand], **options)
    np.testing.assert_array_equal(near_first, far_first)
    x, y = hand.camera.project(hand.translation).astype(int)
    assert near_first[y, x, 2] > near_first[y, x, 0]  # the right hand's colour


def test_wild_values_do_not_break_drawing(hand: Hand) -> None:
    wild = dataclasses.replace(hand, keypoints=hand.keypoints * 1e6, vertices=hand.vertices - np.float32(1.0))
    assert draw_hands(IMAGE, [wild]).shape == IMAGE.shape


def _finger_at(picture: np.ndarray, x: float, y: float) -> int:
    """Number of the finger whose colour a pixel has, more or less: lines are smoothed."""
    colour = picture[round(y), round(x)].astype(float)
    assert colour.max() > 150
    return int(np.linalg.norm(np.array(FINGERS) - colour, axis=1).argmin())


def test_each_bone_is_drawn_in_the_colour_of_its_finger(hand: Hand) -> None:
    # The wrist to the left, a finger in each row.
    points = np.array([[10, 100], *([80 + 60 * bone, 20 + 40 * finger] for finger in range(5) for bone in range(4))])
    apart = dataclasses.replace(hand, keypoints=points.astype(np.float32))
    drawn = draw_hands(np.zeros_like(IMAGE), [apart], mesh=False, contour=False)
    for finger in range(5):
        k = 1 + 4 * finger
        bones = [(points[0] + 3 * points[k]) / 4, *np.add(points[k : k + 3], (30, 0))]
        assert [_finger_at(drawn, *middle) for middle in bones] == [finger] * 4


def test_a_skeleton_is_drawn_along_its_parents(hand: Hand) -> None:
    line = np.stack([np.linspace(20, 300, 17), np.full(17, 120)], axis=1)
    # One limb; then sixteen, of which the last is on top.
    for parents, finger in ((np.maximum(np.arange(17) - 1, 0), 0), (np.zeros(17), 15 % 5)):
        body = dataclasses.replace(hand, keypoints=line.astype(np.float32), joint_parents=parents.astype(np.int32))
        drawn = draw_hands(np.zeros_like(IMAGE), [body], mesh=False, contour=False)
        assert _finger_at(drawn, *line[8:10].mean(axis=0)) == finger


def test_a_hand_without_a_contour_is_drawn_without_it(hand: Hand) -> None:
    lone = dataclasses.replace(hand, silhouette=np.empty((0, 2), np.float32))
    np.testing.assert_array_equal(draw_hands(IMAGE, [lone]), draw_hands(IMAGE, [hand], contour=False))
    assert (draw_hands(IMAGE, [lone]) != draw_hands(IMAGE, [hand])).any()


def test_zoom_and_sheet(hand: Hand) -> None:
    assert draw_hands(IMAGE, [hand], zoom=2).shape == (480, 640, 3)
    sheet = contact_sheet([IMAGE, np.full((50, 50, 3), 255, np.uint8), IMAGE])
    assert sheet.shape == (448, 448, 3)
    assert (sheet[:224, 224:] == 255).all()
    assert contact_sheet([]).size > 0


@pytest.mark.parametrize(
    ("image", "word"), [(IMAGE[..., 0], "shape"), (IMAGE / 255.0, "float64"), (None, "NoneType"), (IMAGE[:0], "empty")]
)
def test_only_rgb_images_of_bytes_are_drawn_on(hand: Hand, image: object, word: str) -> None:
    with pytest.raises(InputError, match=word):
        hand.draw(image)
    with pytest.raises(InputError, match=word):
        draw_mesh(image, hand.vertices, hand.faces, hand.camera, (255, 0, 0))
