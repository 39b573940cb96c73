# SPDX-License-Identifier: Apache-2.0
"""Rendered clips of a moving hand with known truth: what following it, and recalling it from frame to frame, costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from cmr_models.hand import load_hand
from cmr_models.synth.engine import Engine, compose
from cmr_models.synth.objects import NONE, Things, superellipsoid
from cmr_models.synth.rng import Rng
from cmr_models.synth.view import View
from cmr_runtime import Bundle, HandMeshTracker
from cmr_runtime.metrics import mean_distance

from .tracking_scenes import CAMERA, ROOT, Motion, move

__all__ = ["film", "followed"]

Image = npt.NDArray[np.uint8]

SIDE = CAMERA.height
"""Of the rendered picture, pixels: the image's middle square."""

CHUNK = 15
"""Frames that are rendered at a time."""


def film(seed: int, hertz: float, seconds: float) -> tuple[list[Image], Motion]:
    """Render the hand of `move`, the same in look and light throughout, over a smooth ground."""
    hand = load_hand()
    motion, engine = move(seed, hertz, seconds, hand=hand), Engine(hand, SIDE, supersample=1, seed=seed)
    looks = engine.shader.sample(Rng(seed), Rng(~seed), 1)
    colours = np.random.default_rng(seed).uniform(60, 190, (4, 5, 3)).astype(np.float32)
    size, left = (CAMERA.width, CAMERA.height), (CAMERA.width - SIDE) // 2
    ground = cv2.resize(colours, size, interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
    images = []
    for start in range(0, len(motion.times), CHUNK):
        part = slice(start, start + CHUNK)
        angles, rotation = motion.angles[part], torch.from_numpy(motion.rotation[part]).float()
        count = len(angles)
        shape = motion.shape.expand(count, -1)
        posed = engine.model(angles, shape)
        root = torch.from_numpy(motion.joints[part, ROOT]).float()
        offset = root - (rotation @ posed.joints[:, ROOT, :, None])[..., 0]
        view = View(rotation, offset, torch.full((count,), CAMERA.fx))
        drawn = engine.draw(angles, shape, posed, view, _repeated(looks, count), _nothing(count)).rgba
        for rgba in drawn:
            image = ground.copy()
            middle = torch.from_numpy(image[:, left : left + SIDE])
            image[:, left : left + SIDE] = compose(rgba, middle).numpy()
            images.append(image)
    return images, motion


def followed(bundle: Bundle | None, clips: Sequence[tuple[list[Image], Motion]], **options: Any) -> dict[str, float]:
    """Follow the hand of each clip; errors against the truth, in the mean over the frames in which it is seen.

    Returns
    -------
    dict
        ``seen_%``: of the frames; ``px``: of the keypoints; ``root_mm``: of joints relative to the root; ``camera_mm``:
        of joints; ``jump_mm``: 95th percentile of the change of the error relative to the root, frame to frame. Of
        hands that are never seen the share alone.
    """
    errors, jumps, frames = [], [], 0
    for images, motion in clips:
        last = None
        with HandMeshTracker(bundle, smoothing=False, **options) as tracker:
            for k, image in enumerate(images):
                frames += 1
                hands = tracker.track(image, CAMERA, k / 30)
                if not hands:
                    last = None
                    continue
                hand, truth = hands[0], motion.joints[k]
                relative = hand.joints_root - (truth - truth[ROOT])
                pixels = mean_distance(hand.keypoints, CAMERA.project(truth))
                errors.append(
                    (pixels, mean_distance(hand.joints_root, truth - truth[ROOT]), mean_distance(hand.joints, truth))
                )
                if last is not None:
                    jumps.append(np.linalg.norm(relative - last, axis=1).mean())
                last = relative
    seen = {"seen_%": 100 * len(errors) / frames}
    if not jumps:
        return seen
    px, root, camera = np.mean(errors, axis=0)
    return seen | {
        "px": float(px),
        "root_mm": 1e3 * float(root),
        "camera_mm": 1e3 * float(camera),
        "jump_mm": 1e3 * float(np.quantile(jumps, 0.95)),
    }


def _repeated(looks: Any, count: int) -> Any:
    """One hand's looks for each of its frames; they are tuples of tuples of tensors, one row for a hand."""
    if isinstance(looks, torch.Tensor):
        return looks.expand(count, *looks.shape[1:])
    return type(looks)(*(_repeated(each, count) for each in looks))


def _nothing(count: int) -> Things:
    """No object in any frame: all of it is behind the camera."""
    vertices = len(superellipsoid()[0])
    black = torch.zeros(count, 3)
    behind = torch.tensor([0.0, 0.0, -1.0]).expand(count, vertices, 3)
    kind = torch.full((count,), NONE)
    return Things(behind, torch.zeros(count, vertices), kind, black, black, torch.zeros(count))
