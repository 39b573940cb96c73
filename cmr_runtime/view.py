# SPDX-License-Identifier: Apache-2.0
"""What the prior stage sees in a region of the image, shown to it as a right hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from time import perf_counter
from typing import Literal

import numpy as np
import numpy.typing as npt

from .heatmaps import decode
from .network import PriorOutput, PriorStage
from .recall import Recall, Said
from .roi import Roi

__all__ = ["View", "Viewer"]

_Shown = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class View:
    """A region and what the prior stage says about it.

    Attributes
    ----------
    roi : Roi
        The region, mirrored or not.
    prior : PriorOutput
        In the crop of the region.
    size : int
        Side of that crop, pixels.
    crop_ms, prior_ms : float
        Time spent, milliseconds.
    cell_centre : float
        Where in its cell the peak of a heat map lies, in cells.
    recalled : bool
        Whether the prior did not look, and its output is what was recalled of the last frame.
    """

    roi: Roi
    prior: PriorOutput
    size: int
    crop_ms: float
    prior_ms: float
    cell_centre: float = 0.5
    recalled: bool = False

    @property
    def presence(self) -> float:
        """Probability that there is a hand, in a recalled view as told before; of a silent network the clarity."""
        return self.clarity if self.prior.presence is None else self.prior.presence

    @property
    def right(self) -> float:
        """Probability that the hand in the image (not in a mirrored crop) is a right one; 0.5 if nothing tells."""
        return 1.0 - self.prior.right if self.roi.mirrored else self.prior.right

    @cached_property
    def pose(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Joints that the prior stage sees, (J, 2) pixels of the crop, and scores, (J,); J = 0 if it gives none."""
        if self.prior.heatmaps is not None:
            return decode(self.prior.heatmaps, self.size, self.cell_centre)
        points = np.empty((0, 2)) if self.prior.keypoints is None else self.prior.keypoints.astype(np.float64)
        return points * self.size - 0.5, np.ones(len(points))

    @property
    def keypoints(self) -> npt.NDArray[np.float64]:
        """Joints, (J, 2), as the prior stage has them, pixels of the image."""
        return self.roi.to_image(self.pose[0], self.size)

    def closer(self, scale: float) -> Roi:
        """Return the region drawn again around what is seen in it, upright; `scale` as for `Roi.upright`.

        Without joints it stays as it is.
        """
        if not len(self.pose[0]):
            return self.roi
        return Roi.upright(self.keypoints, scale, self.roi.angle, self.roi.mirrored)

    def with_time_of(self, other: View) -> View:
        """Return this view with the time of another look at the same hand added."""
        return replace(self, crop_ms=self.crop_ms + other.crop_ms, prior_ms=self.prior_ms + other.prior_ms)

    @property
    def clarity(self) -> float:
        """Mean height of the joints' peaks, 0 to 1: what only resembles a hand has no clear joints. 1 without peaks."""
        scores = self.pose[1]
        return float(scores.mean()) if len(scores) else 1.0


class Viewer:
    """Looks at regions of an image with the prior stage.

    Parameters
    ----------
    prior : PriorStage
        The first stage of the network.
    side : {"left", "right"} or None
        Of every hand, if the caller knows it. None leaves it to the network; one that does not tell sees right hands.
    recall : Recall or None
        Stands in for the prior where a hand went on as expected.

    Attributes
    ----------
    detects : bool
        Whether the network tells a hand from what is none, so that an image can be searched with it.
    judges : bool
        Whether sides are judged by looking; otherwise each crop is mirrored as the one side wants it.
    recalls : bool
        Whether a look can take up the last one's cues.
    """

    def __init__(
        self, prior: PriorStage, side: Literal["left", "right"] | None = None, recall: Recall | None = None
    ) -> None:
        self._prior, self._recall = prior, recall
        self._mirrored = side == "left"
        self.detects = "presence" in prior.shapes
        self.judges = side is None and "right" in prior.shapes
        self.recalls = recall is not None

    def __call__(self, image: npt.NDArray[np.uint8], roi: Roi) -> View:
        """Look at a region as it is, or mirrored as the known side wants it. `image` is (H, W, 3) RGB."""
        return self._look(image, roi, self._prior.run)

    def recall(self, image: npt.NDArray[np.uint8], roi: Roi, said: Said) -> View:
        """Look at a region where a hand went on, without the prior: for a viewer that `recalls`."""
        assert self._recall is not None
        return self._look(image, roi, partial(self._recall.run, said=said), recalled=True)

    def _look(
        self, image: npt.NDArray[np.uint8], roi: Roi, stage: Callable[[_Shown], PriorOutput], recalled: bool = False
    ) -> View:
        if not self.judges and roi.mirrored != self._mirrored:
            roi = roi.flipped()
        start = perf_counter()
        shown = self._prior.sampled(image, roi)
        middle = perf_counter()
        prior = stage(shown)
        times = 1e3 * (middle - start), 1e3 * (perf_counter() - middle)
        return View(roi, prior, self._prior.size, *times, self._prior.cell_centre, recalled)

    def sided(self, image: npt.NDArray[np.uint8], roi: Roi, min_presence: float) -> View:
        """Look at a region as it is and in the mirror, and return the look that shows more of a right hand.

        The mesh stage knows right hands only. Two looks are compared rather than one judged, so that a network that
        leans to one side does not mistake the other. Without a hand (presence under `min_presence`), or where sides are
        not judged, there is no second look.
        """
        view = self(image, roi)
        if not (self.judges and view.presence >= min_presence):
            return view
        other = self(image, roi.flipped())
        chosen = other if other.prior.right > view.prior.right else view
        return chosen.with_time_of(view if chosen is other else other)
