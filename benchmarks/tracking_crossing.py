# SPDX-License-Identifier: Apache-2.0
"""Rendered clips of two hands that cross, and of one that leaves and returns: pictures of hands moved over a ground.

Right hands of the data engine, one of them mirrored to a left one where it is asked for, lie over a room's colours; the
one that comes from the left lies on top.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from cmr_models.hand import load_hand
from cmr_models.synth.engine import Engine
from cmr_runtime import Bundle, Camera, HandMeshTracker

__all__ = ["Sprite", "cross", "found", "identities", "leave", "pick", "return_after"]

Image = npt.NDArray[np.uint8]

WIDTH, HEIGHT, SIZE = 640, 480, 192
CAMERA = Camera.from_fov(60.0, WIDTH, HEIGHT)
FROM, TO = 120.0, 520.0
"""Where the hands' middles begin and end, pixels."""


class Sprite(NamedTuple):
    """A rendered hand, straight alpha, and where its middle is in the picture."""

    rgba: Image
    middle: npt.NDArray[np.float64]


def pick(seed: int, count: int) -> list[Sprite]:
    """Render hands of which most can be seen: at least 14 joints, all of them in the picture."""
    engine, found = Engine(load_hand(), size=SIZE, seed=seed), []
    while len(found) < count:
        batch = engine.render(8)
        for number in range(8):
            points = batch.keypoints[number].double().numpy()
            inside = points.min() >= 4 and points.max() <= SIZE - 5
            if inside and int(batch.visible[number].sum()) >= 14:
                found.append(Sprite(batch.rgba[number].numpy(), 0.5 * (points.min(axis=0) + points.max(axis=0))))
    return found[:count]


def found(bundle: Bundle | None, sprites: list[Sprite]) -> list[Sprite]:
    """Those hands that are found by themselves, as right and as left ones: what is missed at rest crosses nothing."""
    with HandMeshTracker(bundle, mode="image") as tracker:
        return [s for s in sprites if all(tracker.track(compose(0, (h, (320.0, 240.0)))) for h in (s, mirror(s)))]


def mirror(sprite: Sprite) -> Sprite:
    """Make a left hand of a right one."""
    flipped = np.ascontiguousarray(sprite.rgba[:, ::-1])
    return Sprite(flipped, np.array([SIZE - 1 - sprite.middle[0], sprite.middle[1]]))


def compose(seed: int, *placed: tuple[Sprite, tuple[float, float]]) -> Image:
    """Lay sprites with their middles at places over a smooth ground of a seed; the last is on top."""
    rng = np.random.default_rng(seed)
    ground = cv2.resize(
        rng.uniform(60, 190, (4, 5, 3)).astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC
    )
    for sprite, place in placed:
        shift = np.float64([[1, 0, place[0] - sprite.middle[0]], [0, 1, place[1] - sprite.middle[1]]])
        colour = sprite.rgba[..., :3].astype(np.float32) * (sprite.rgba[..., 3:] / np.float32(255))
        layer = cv2.warpAffine(np.dstack([colour, sprite.rgba[..., 3].astype(np.float32)]), shift, (WIDTH, HEIGHT))
        ground = ground * (1 - layer[..., 3:] / 255) + layer[..., :3]
    return np.clip(np.rint(ground), 0, 255).astype(np.uint8)


def cross(one: Sprite, other: Sprite, seed: int, frames: int = 45) -> list[Image]:
    """Make a clip in which two hands change places: a third of it at rest before and after."""
    way = np.clip(np.linspace(-1, 2, frames), 0, 1)
    xs = FROM + (TO - FROM) * (3 * way**2 - 2 * way**3)
    return [compose(seed, (other, (FROM + TO - x, 255.0)), (one, (x, 225.0))) for x in xs]


def identities(bundle: Bundle | None, clip: list[Image]) -> bool | None:
    """Follow two hands through a clip of `cross`.

    Returns
    -------
    bool or None
        Whether at the end both have changed places with the numbers they had; None if they were not both found while
        they rested before.
    """
    with HandMeshTracker(bundle, num_hands=2) as tracker:
        shown = [
            {h.track_id: float(h.roi.cx) for h in tracker.track(image, CAMERA, k / 30)} for k, image in enumerate(clip)
        ]
    before, after = next((each for each in shown[: len(shown) // 3] if len(each) == 2), None), shown[-1]
    if before is None:
        return None
    middle = 0.5 * (FROM + TO)
    return before.keys() == after.keys() and all((before[k] < middle) != (after[k] < middle) for k in before)


def leave(sprite: Sprite, seed: int, away: int) -> list[Image]:
    """Make a clip of a hand that is there for 20 frames, gone for `away`, and back elsewhere for 10."""
    there, back = (compose(seed, (sprite, place)) for place in ((200.0, 240.0), (420.0, 260.0)))
    return [there] * 20 + [compose(seed)] * away + [back] * 10


def return_after(bundle: Bundle | None, clip: list[Image]) -> int | None:
    """Frames until a hand of a clip of `leave` is found again (1: in the first), or None."""
    with HandMeshTracker(bundle) as tracker:
        found = [bool(tracker.track(image, CAMERA, k / 30)) for k, image in enumerate(clip)]
    return next((k + 1 for k, each in enumerate(found[-10:]) if each), None)
