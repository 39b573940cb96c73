# SPDX-License-Identifier: Apache-2.0
import dataclasses
import math
import sys
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest
from disc_bundle import draw_disc

from cmr_runtime import Bundle, Camera, Hand, HandMeshTracker, InputError
from cmr_runtime.view3d import HandView

IMAGE = draw_disc(320, 240, 150, 120, 40)


@pytest.fixture(scope="module")
def hand(bundle: Bundle) -> Hand:
    with HandMeshTracker(bundle, mode="image") as tracker:
        return tracker.track(IMAGE, Camera(300, 290, 170, 120, 320, 240), rois=[(70, 40, 230, 200)])[0]


@pytest.fixture
def view() -> Iterator[HandView]:
    pytest.importorskip("viser")
    with HandView(port=18080, trail=3) as view:
        yield view


def _node(view: HandView, name: str):
    return view._server.scene._handle_from_node_name.get(name)


def test_without_viser_the_mend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(InputError, match=r"pip install 'cmr-runtime\[view\]'"):
        HandView()


def test_mesh_frustum_and_trail(view: HandView, hand: Hand) -> None:
    steps = [np.array([0.01 * number, 0, 0]) for number in range(5)]
    for step in steps:
        moved = dataclasses.replace(hand, translation=hand.translation + step, track_id=0)
        view.show(IMAGE, [moved])
    np.testing.assert_array_equal(_node(view, "/hands/0/mesh").vertices, hand.vertices)
    np.testing.assert_array_equal(_node(view, "/hands/0/mesh").faces, hand.faces)
    trail = _node(view, "/hands/0/trail").points
    np.testing.assert_allclose(trail[-1], [hand.translation + steps[3], hand.translation + steps[4]], atol=1e-6)
    assert len(trail) == 3  # no more than asked for
    frustum = _node(view, "/camera")
    assert frustum.fov == pytest.approx(2 * math.atan(120 / 290))
    assert frustum.aspect == pytest.approx((320 / 300) / (240 / 290))


def test_an_image_without_a_hand_is_shown_in_the_camera_that_is_known(view: HandView, hand: Hand) -> None:
    def shown() -> tuple[float, float]:
        frustum = _node(view, "/camera")
        return 2 * math.tan(frustum.fov / 2), frustum.aspect

    pictures = []
    send = view._server.scene.add_camera_frustum
    view._server.scene.add_camera_frustum = lambda *a, image, **k: pictures.append(image) or send(*a, image=image, **k)
    grey = np.full_like(IMAGE, 90)
    view.show(grey, [])  # before the first hand: 60 degrees are assumed
    assert shown() == pytest.approx((2 * math.tan(math.radians(30)) * 240 / 320, 320 / 240))
    view.show(IMAGE, [hand])
    assert shown() == pytest.approx((240 / 290, (320 / 300) / (240 / 290)))
    view.show(grey, [])  # the hand is gone, its camera stays
    assert shown() == pytest.approx((240 / 290, (320 / 300) / (240 / 290)))
    view.show(grey, [], Camera(400, 400, 160, 120, 320, 240))
    assert shown() == pytest.approx((240 / 400, 320 / 240))
    view.show(IMAGE, [])
    assert shown() == pytest.approx((240 / 400, 320 / 240))
    view.show(grey[:200], [])  # another shape, thus another camera
    assert shown() == pytest.approx((2 * math.tan(math.radians(30)) * 200 / 320, 320 / 200))
    for picture, image in zip(pictures, [grey, IMAGE, grey, grey, IMAGE, grey[:200]], strict=True):
        np.testing.assert_array_equal(picture, image)


def test_hands_that_leave_are_taken_away_and_trails_follow_identities(view: HandView, hand: Hand) -> None:
    first, second = (
        dataclasses.replace(hand, track_id=k, translation=hand.translation + np.array([0.1 * k, 0, 0])) for k in (1, 2)
    )
    view.show(IMAGE, [first, second])
    view.show(IMAGE, [second, first])
    trail = _node(view, "/hands/0/trail").points
    assert np.linalg.norm(trail[-1][1] - trail[-1][0]) == 0  # the second hand's, which rests
    view.show(IMAGE, [second])
    assert _node(view, "/hands/1/mesh") is None
    view.show(IMAGE, [])
    assert _node(view, "/hands/0/mesh") is None
    view.show(IMAGE, [dataclasses.replace(first, vertices=np.empty((0, 3), np.float32))])
    assert _node(view, "/hands/0/mesh") is None
    assert len(_node(view, "/hands/0/trail").points) == 1  # begun anew


def test_hands_of_unrelated_pictures_share_no_trail(view: HandView, hand: Hand) -> None:
    for _ in range(2):  # single images: hands are not followed
        view.show(IMAGE, [hand])
    assert len(_node(view, "/hands/0/trail").points) == 1
    for _ in range(2):  # two videos, each with a hand 0
        view.forget()
        view.show(IMAGE, [dataclasses.replace(hand, track_id=0)])
    assert len(_node(view, "/hands/0/trail").points) == 1


def test_the_page_is_served_to_this_machine_only(view: HandView) -> None:
    assert view.url.startswith("http://localhost:")
    assert view._server.get_host() == "127.0.0.1"
    with urllib.request.urlopen(view.url, timeout=10) as page:
        assert page.status == 200
    view.close()
    view.close()
