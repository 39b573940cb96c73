# SPDX-License-Identifier: Apache-2.0
"""Hand-free squares of frames.

A background holds no hand that anyone found: it keeps clear of every detection, accepted or not, and of every box that
somebody marked, each with a margin. Faces, arms, clothes and rooms are in it on purpose.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .index import key_of
from .jpeg import Job, read
from .view import Box, View

__all__ = ["background_views", "obstacles", "plan_backgrounds"]

BACKGROUND_SCALES = (0.15, 1.0)
"""Range of a background's side as a part of the frame's height; its logarithm is drawn uniformly."""
DETECTION_MARGIN = 0.45
"""Margin around a detection's joints (skin reaches beyond them) as a part of its larger side."""
BOX_MARGIN = 0.15
"""The same around a box that somebody marked."""
CONTRAST = (4.0, 40.0)
"""Grey levels between which a background's contrast counts: bare wall below, busy above."""
TRIES = 40
"""Draws per background wanted before a frame is given up."""


def widen(box: Box, margin: float) -> Box:
    """Box with a margin on every side, given as a part of its larger side."""
    add = margin * max(box[2] - box[0], box[3] - box[1])
    return box[0] - add, box[1] - add, box[2] + add, box[3] + add


def obstacles(detections: list[Box], boxes: list[Box] | None) -> list[Box] | None:
    """List what a background of a frame must not touch.

    Parameters
    ----------
    detections : list of box
        Joints' boxes of all hands found, accepted or not.
    boxes : list of box or None
        Boxes that somebody marked; None if nobody marked the frame's hands.

    Returns
    -------
    list of box or None
        None if the frame must not be used: neither marked nor with a detection. If a frame that nobody marked has
        only one hand found, the person's other hand may hang unseen: everything further below the hand found than
        its own size is an obstacle, too.
    """
    if boxes is None and not detections:
        return None
    found = [widen(box, DETECTION_MARGIN) for box in detections] + [widen(box, BOX_MARGIN) for box in boxes or []]
    if boxes is None and len(detections) == 1:
        x0, y0, x1, y1 = detections[0]
        found.append((-1e6, y1 + max(x1 - x0, y1 - y0), 1e6, 1e6))
    return found


def background_views(
    rng: np.random.Generator, width: int, height: int, avoid: list[Box], count: int, size: int
) -> list[View]:
    """Draw squares of a frame that touch no obstacle.

    Parameters
    ----------
    rng : Generator
        Source of chance.
    width, height : int
        Of the frame in pixels.
    avoid : list of box
        From :func:`obstacles`.
    count : int
        Squares wanted; fewer come back if :data:`TRIES` draws each do not find them.
    size : int
        Side in pixels to which they are resampled.
    """
    low, high = np.log(BACKGROUND_SCALES)
    views: list[View] = []
    for _ in range(TRIES * count):
        if len(views) == count:
            break
        side = min(round(height * float(np.exp(rng.uniform(low, high)))), width, height)
        x0, y0 = int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1))
        if all(x0 + side <= a or c <= x0 or y0 + side <= b or d <= y0 for a, b, c, d in avoid):
            views.append(View(x0, y0, x0 + side, y0 + side, size, size))
    return views


def plan_backgrounds(
    folder: Path, detections: dict[str, Any], boxes: dict[str, list[Box]], skip: str, count: int, size: int, seed: int
) -> list[Job]:
    """Choose up to ``count`` background views of all frames except those of the folder ``skip``.

    Twice as many are drawn, evenly over the frames; of these, a view is kept in proportion to its contrast (standard
    deviation of its grey values, within :data:`CONTRAST`), so that bare wall does not crowd out people and things.
    """
    rng = np.random.default_rng(seed)
    frames = [name for name in sorted(detections) if Path(name).parts[0] != skip]
    each = -(-2 * count // max(len(frames), 1)) + 1
    jobs: list[Job] = []
    contrasts: list[float] = []
    for name in frames:
        avoid = obstacles([tuple(hand["box"]) for hand in detections[name]], boxes.get(key_of(name)))
        if avoid is None:
            continue
        grey = cv2.cvtColor(read(folder / name), cv2.COLOR_BGR2GRAY)
        for view in background_views(rng, grey.shape[1], grey.shape[0], avoid, each, size):
            jobs.append((name, view))
            contrasts.append(float(np.clip(grey[view.y0 : view.y1, view.x0 : view.x1].std(), *CONTRAST)))
    if len(jobs) <= count:
        return jobs
    chance = np.array(contrasts) / sum(contrasts)
    chosen = rng.choice(len(jobs), count, replace=False, p=chance)
    return [jobs[i] for i in sorted(chosen.tolist())]
