# SPDX-License-Identifier: Apache-2.0
"""Label the hands of one photo: each hand found is looked at three times, and the passes are judged."""

from __future__ import annotations

from typing import Any

import numpy as np

from .agreement import consensus
from .passes import Detector, Pass, same_hand
from .search import search
from .view import View

__all__ = ["focus_view", "label_image"]

PASSES = (("full", False), ("lite", False), ("full", True))
"""Model, and whether it sees the mirror image."""
FOCUS_SCALE = 3.0
"""Side of the crop in which a hand is labelled, as a multiple of the hand's box side."""
FOCUS_SIZE = 384
"""Side in pixels to which such a crop is resampled."""


def focus_view(hand: Pass) -> View:
    """Square crop around a hand in which it is labelled."""
    half = max(8, round(FOCUS_SCALE * hand.side / 2))
    x, y = (round(float(v) + 0.5) for v in hand.centre)
    return View(x - half, y - half, x + half, y + half, FOCUS_SIZE, FOCUS_SIZE)


def look_again(detector: Detector, image: np.ndarray, hand: Pass) -> list[Pass | None]:
    """Ask each of :data:`PASSES` about a hand that a search found; None where it does not see the hand."""
    view = focus_view(hand)
    passes = []
    for model, mirrored in PASSES:
        near = [other for other in detector(image, view, model, mirrored) if same_hand(other, hand)]
        near.sort(key=lambda other: float(np.linalg.norm(other.centre - hand.centre)))
        passes.append(near[0] if near else None)
    return passes


def label_image(detector: Detector, image: np.ndarray) -> list[dict[str, Any]]:
    """Find and judge the hands of a photo.

    Parameters
    ----------
    detector : Detector
        Or anything that is called like one.
    image : ndarray (H, W, 3) uint8
        RGB.

    Returns
    -------
    list of dict
        One per hand found, as :func:`~.agreement.consensus` gives it, with ``box`` (x0, y0, x1, y1 in pixels). Of a
        hand that is found twice, the label with the smaller disagreement is accepted, the other rejected.
    """
    hands: list[tuple[Pass, dict[str, Any]]] = []
    for candidate in search(detector, image):
        passes = look_again(detector, image, candidate)
        best = passes[0] or candidate
        hands.append((best, {**consensus(passes), "box": best.box}))
    hands.sort(key=lambda pair: (pair[1]["reason"] != "", pair[1].get("disagreement_2d", np.inf)))
    accepted: list[Pass] = []
    for hand, record in hands:
        if record["reason"] == "":
            if any(same_hand(hand, other) for other in accepted):
                record["reason"] = "found twice"
            else:
                accepted.append(hand)
    return [record for _, record in hands]
