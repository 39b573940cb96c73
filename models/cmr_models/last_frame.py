# SPDX-License-Identifier: Apache-2.0
"""What the last frame of a video may have shown, for pictures that are not of one: how the hand has moved since."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from .batches import Mix

__all__ = ["PARTS", "last_frames"]

#: What moves by itself: each finger, and the rest.
PARTS = 6


def last_frames(present: Sequence[bool], mix: Mix, random: np.random.Generator) -> dict[str, torch.Tensor]:
    """Draw which samples of a batch recall a last frame, and what.

    Returns
    -------
    dict
        ``recalled`` (B,) bool; ``source`` (B,), of which sample the maps are: its own, or another's where there is no
        hand, or where the wrong one was followed; ``moved`` (B, 6, 2, 3) float32, see `network.recall.recalled`.
    """
    count, shown = len(present), np.flatnonzero(present)
    far = np.where(random.random(count) < mix.jumps, 3.0, 1.0)[:, None]
    shift = 2 * far * random.normal(0, mix.moved[0], (count, 2))  # the grid's side is 2
    turn, zoom = (far * random.normal(0, mix.moved[1:], (count, 2))).T
    zoom = np.exp(zoom)
    moved = np.zeros((count, PARTS, 2, 3), np.float32)
    moved[..., 0, 0] = moved[..., 1, 1] = (zoom * np.cos(turn))[:, None]
    moved[..., 1, 0] = (zoom * np.sin(turn))[:, None]
    moved[..., 0, 1] = -moved[..., 1, 0]
    moved[..., 2] = shift[:, None]
    moved[:, :-1, :, 2] += 2 * far[:, None] * random.normal(0, mix.fingers, (count, PARTS - 1, 2))
    source, wrong = np.arange(count), random.random(count) < mix.wrong
    if len(shown):
        source = np.where(wrong | ~np.asarray(present), random.choice(shown, count), source)
    return {
        "recalled": torch.from_numpy(random.random(count) < mix.recalled),
        "source": torch.from_numpy(source),
        "moved": torch.from_numpy(moved),
    }
