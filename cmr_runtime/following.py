# SPDX-License-Identifier: Apache-2.0
"""A hand that is followed through a video: where it is expected, and how sure its side is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .roi import Roi
from .view import View, Viewer

__all__ = ["Track"]

#: A hand's side is settled once it was this probable; until then each frame is looked at from both sides.
SURE = 0.9
#: A settled side changes when the frames in a row that contradict it add up to this many nats (log-odds): two or
#: three frames that are certain, more that are in doubt.
SIDE_EVIDENCE = 8.0


@dataclass
class Track:
    """A hand that is followed: where it is expected, whether its side was ever clear, and what spoke against it."""

    roi: Roi
    sure: bool = False
    against: float = 0.0

    def look(self, viewer: Viewer, image: npt.NDArray[np.uint8], min_presence: float) -> View | None:
        """Look where the hand is expected; None if it is gone. A single frame does not change a side that was clear."""
        if not self.sure or not viewer.judges:
            view = viewer.sided(image, self.roi, min_presence)
        else:
            view = viewer(image, self.roi)
            self.against = max(0.0, self.against - _log_odds(view.prior.right)) if view.prior.right < 0.5 else 0.0
            if self.against >= SIDE_EVIDENCE:
                self.against = 0.0
                view = viewer.sided(image, self.roi, min_presence)
        self.sure = self.sure or view.prior.right >= SURE
        return view if view.presence >= min_presence else None


def _log_odds(probability: float) -> float:
    """Log-odds of a probability; certainty counts as one in two hundred for an error."""
    p = min(max(probability, 0.005), 0.995)
    return math.log(p / (1.0 - p))
