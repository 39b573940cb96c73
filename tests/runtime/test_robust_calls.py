# SPDX-License-Identifier: Apache-2.0
"""Odd calls: each is documented to work, or raises one clear error of ours; none ends the process."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from disc_bundle import draw_disc

from cmr_runtime import Bundle, Camera, CameraError, CmrError, HandMeshTracker, InputError
from cmr_runtime.smoothing import Smoothing

W, HEIGHT = 80, 60
IMAGE = draw_disc(W, HEIGHT, 40, 30, 14)
CAMERA = Camera.from_fov(60, W, HEIGHT)
CALLS = 10_000


def test_eight_thousand_pixels_are_accepted(bundle: Bundle) -> None:
    image = np.zeros((4320, 7680, 3), np.uint8)
    image[1000:2000, 3000:4000] = draw_disc(1000, 1000, 500, 500, 300)
    with HandMeshTracker(bundle, mode="image") as tracker:
        (hand,) = tracker.track(image, rois=[(3000, 1000, 4000, 2000)])
        np.testing.assert_allclose(hand.keypoints[9], (3500, 1500), atol=30)
        tracker.track(image)


@pytest.mark.parametrize(
    "view",
    [
        lambda image: image[::-1, ::-1],
        lambda image: np.asfortranarray(image),
        lambda image: np.dstack([image, image])[..., ::2],
        lambda image: np.broadcast_to(image[:1, :1], image.shape),
    ],
)
def test_any_layout_in_memory_is_accepted_and_left_alone(bundle: Bundle, view: Callable) -> None:
    image = view(IMAGE)
    before = image.copy()
    with HandMeshTracker(bundle, mode="image") as tracker:
        strided = tracker.track(image, rois=[(20, 10, 60, 50)])
        plain = tracker.track(before, rois=[(20, 10, 60, 50)])
    np.testing.assert_array_equal(image, before)
    assert [hand.vertices.tobytes() for hand in strided] == [hand.vertices.tobytes() for hand in plain]


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (1, 60), (60, 1)])
@pytest.mark.parametrize("mode", ["image", "video"])
def test_slivers_have_no_hand(bundle: Bundle, shape: tuple[int, int], mode: str) -> None:
    with HandMeshTracker(bundle, mode=mode) as tracker:
        for value in (0, 255):
            tracker.track(np.full((*shape, 3), value, np.uint8), Camera.from_fov(60, shape[1], shape[0]))


def test_a_camera_of_nan_does_not_come_to_be() -> None:
    with pytest.raises(CameraError, match="fx is nan"):
        Camera(math.nan, 100.0, 40.0, 30.0, W, HEIGHT)
    with pytest.raises(CameraError, match="not finite"):
        Camera.from_matrix(np.full((3, 3), np.nan), W, HEIGHT)


@pytest.mark.parametrize(("fx", "fy"), [(300.0, 400.0), (400.0, 300.0)])
def test_a_camera_whose_pixels_are_not_square_is_refused_with_the_size_that_mends_it(
    bundle: Bundle, fx: float, fy: float
) -> None:
    """A picture 16:9 squeezed into 4:3 has fy 4/3 of fx; nearly square pixels, as calibrations find them, are taken."""
    mended = round(HEIGHT * fx / fy)
    with HandMeshTracker(bundle, mode="image") as tracker:
        with pytest.raises(CameraError, match=f"fx {fx:g} and fy {fy:g}.*resize the image to {W}×{mended} pixels"):
            tracker.track(IMAGE, Camera(fx, fy, W / 2, HEIGHT / 2, W, HEIGHT))
        scale = mended / HEIGHT
        tracker.track(cv2.resize(IMAGE, (W, mended)), Camera(fx, fy * scale, W / 2, HEIGHT / 2 * scale, W, mended))
        tracker.track(IMAGE, Camera(fx, 1.03 * fx, W / 2, HEIGHT / 2, W, HEIGHT))


def test_cameras_of_absurd_lenses_give_a_hand_or_an_error(bundle: Bundle) -> None:
    with HandMeshTracker(bundle, mode="image") as tracker:
        for focal in (1e-6, 1e-2, 1e4, 1e9, 1e300):
            try:
                hands = tracker.track(IMAGE, Camera(focal, focal, 1e4, -1e4, W, HEIGHT), rois=[(20, 10, 60, 50)])
            except CmrError:
                continue
            assert all(np.isfinite(hand.translation).all() for hand in hands)


@pytest.mark.parametrize("box", [(-1e300, 0, 1e300, 10), (0, 0, 1e-300, 1e-300), (1e15, 1e15, 2e15, 2e15)])
def test_boxes_far_from_any_image(bundle: Bundle, box: tuple) -> None:
    with HandMeshTracker(bundle, mode="image") as tracker, pytest.raises(InputError, match="box"):
        tracker.track(IMAGE, rois=[box])


def test_an_image_of_another_size_goes_on_with_the_video(bundle: Bundle) -> None:
    with HandMeshTracker(bundle) as tracker:
        assert tracker.track(IMAGE)
        tracker.track(np.zeros((300, 20, 3), np.uint8))
        tracker.track(IMAGE)


def test_everything_after_close_says_so(bundle: Bundle) -> None:
    tracker = HandMeshTracker(bundle)
    tracker.close()
    for call in (lambda: tracker.track(IMAGE), lambda: tracker.submit(IMAGE), lambda: tracker.follow([(0, 0, 9, 9)])):
        with pytest.raises(InputError, match="closed"):
            call()
    tracker.reset()
    assert tracker.dropped == 0


class Fuzz:
    """Random calls; about half of each argument's values are in order."""

    def __init__(self, seed: int) -> None:
        self.pick = random.Random(seed)
        self._noise = np.random.default_rng(seed)

    def image(self) -> Any:
        height, width = self.pick.choice([(1, 1), (1, 7), (60, 80), (60, 80), (33, 120), (0, 5)])
        noise = self._noise.integers(0, 256, (height, width, 3), dtype=np.uint8)
        return self.pick.choice(
            [
                IMAGE, IMAGE, IMAGE, IMAGE[::-1], IMAGE[:, ::-2], IMAGE.copy(order="F"), np.zeros_like(IMAGE), noise,
                IMAGE[..., 0], IMAGE[..., :2], np.dstack([IMAGE, IMAGE[..., :1]]), IMAGE.astype(np.float32),
                IMAGE.astype(bool), IMAGE.astype(object), IMAGE.tolist(), None, "image.png", b"", 3, IMAGE[None],
                np.ma.masked_array(IMAGE), np.memmap, np.array(5, np.uint8),
            ]
        )  # fmt: skip

    def number(self) -> Any:
        return self.pick.choice(
            [
                0, 1, -1, 0.5, 40.0, 1e-300, 1e30, 1e300, -1e300, math.nan, math.inf, 10**400, True, None, "1", 1j,
                np.float32(3), np.int8(-3), np.nan, np.array([1.0]), np.complex64(1), [], object(),
            ]
        )  # fmt: skip

    def camera(self) -> Any:
        if self.pick.random() < 0.3:
            values = [self.number() for _ in range(4)]
            return Camera(*values, W, HEIGHT)
        return self.pick.choice([None, None, CAMERA, CAMERA, Camera.from_fov(170, W, HEIGHT), np.eye(3), 60, "wide"])

    def boxes(self) -> Any:
        box = [self.number() for _ in range(self.pick.choice([4, 4, 4, 3, 0]))]
        return self.pick.choice(
            [
                None,
                None,
                None,
                [],
                [(20, 10, 60, 50)],
                [box],
                [box, box],
                box,
                np.array([[20, 10, 60, 50]]),
                "box",
                5,
                {},
            ]
        )

    def timestamp(self, clock: int) -> Any:
        return self.pick.choice([None, clock, clock, clock + 0.5, self.number()])

    def options(self) -> dict[str, Any]:
        names = [
            "mode", "num_hands", "min_presence", "hand_scale", "solver", "refine", "hand_length", "side", "smoothing",
            "joints_only", "on_result",
        ]  # fmt: skip
        good = {
            "mode": ["image", "video", "live"], "num_hands": [1, 2, 3], "min_presence": [0.0, 0.5, 1.0],
            "hand_scale": [(1.0, 0.0), (1.0, 0.08), (1e-3, 1.0)], "solver": ["osqp"], "refine": [0, 1],
            "hand_length": [0.1, 0.2], "side": ["left", "right", None], "smoothing": [False, Smoothing(settling=0)],
            "joints_only": [True, False], "on_result": [print, lambda *_: 1 / 0],
        }  # fmt: skip
        chosen = self.pick.sample(names, self.pick.randrange(4))
        return {name: self.pick.choice(good[name]) if self.pick.random() < 0.8 else self.number() for name in chosen}


def _fuzz(bundle: Bundle, seed: int, calls: int) -> tuple[int, int]:
    """Number of calls that gave a result, and of those refused by our errors; any other error is raised."""
    fuzz, tracker = Fuzz(seed), HandMeshTracker(bundle)
    worked = refused = 0
    for number in range(calls):
        kind = fuzz.pick.choices(["track", "submit", "follow", "reset", "close", "new"], [60, 4, 4, 4, 1, 3])[0]
        try:
            if kind == "new":
                tracker.close()
                tracker = HandMeshTracker(bundle, **fuzz.options())
            elif kind == "track":
                hands = tracker.track(fuzz.image(), fuzz.camera(), fuzz.timestamp(number), fuzz.boxes())
                assert all(np.isfinite(hand.joints).all() and hand.translation[2] > 0 for hand in hands)
            elif kind == "submit":
                tracker.submit(fuzz.image(), fuzz.camera(), fuzz.timestamp(number))
            elif kind == "follow":
                tracker.follow(fuzz.boxes())
            else:
                getattr(tracker, kind)()
        except CmrError:
            refused += 1
        except ZeroDivisionError:
            assert kind in ("submit", "close", "new")  # of the consumer above
        else:
            worked += 1
        if kind == "close":
            tracker = HandMeshTracker(bundle)
    tracker.close()
    return worked, refused


def test_a_few_hundred_odd_calls(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    worked, refused = _fuzz(bundle, 0, 400)
    assert worked > 50
    assert refused > 100


@pytest.mark.slow
def test_ten_thousand_odd_calls(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    worked, refused = _fuzz(bundle, 1, CALLS)
    assert worked > CALLS // 8
    assert refused > CALLS // 4


LONG_VIDEO = """
import math, sys
import cv2
import numpy as np
from disc_bundle import draw_disc
from cmr_runtime import Camera, HandMeshTracker

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6

W, H, (bundle,) = 80, 60, sys.argv[1:]
camera = Camera.from_fov(60, W, H)
images = [draw_disc(W, H, 40 + 5 * math.sin(k / 5), 30, 14) for k in range(32)]
empty = np.zeros_like(images[0])
with HandMeshTracker(bundle, num_hands=2) as tracker:
    for frame in range(21_000):
        if frame == 1000:
            before = resident()
        # The hand goes now and then, so that tracks come and go as well.
        tracker.track(empty if frame % 100 > 80 else images[frame % 32], camera, frame / 30)
    print(resident() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc here to read the memory in use from")
def test_memory_does_not_grow_over_a_long_video(bundle_path: Path) -> None:
    """In a process of its own, whose heap no other test has left in pieces."""
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", LONG_VIDEO, str(bundle_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=here)
    assert float(done.stdout) < 10.0, f"grown by {float(done.stdout):.1f} MB over 20,000 frames"
