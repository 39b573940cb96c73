# SPDX-License-Identifier: Apache-2.0
"""What the prior stage sees in a region of the image, shown to it as a right hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from time import perf_counter

import numpy as np
import numpy.typing as npt

from .heatmaps import decode
from .network import PriorOutput, PriorStage
from .roi import Roi

__all__ = ["View", "Viewer"]


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
    """

    roi: Roi
    prior: PriorOutput
    size: int
    crop_ms: float
    prior_ms: float

    @property
    def presence(self) -> float:
        """Probability that there is a hand."""
        return self.prior.presence

    @property
    def right(self) -> float:
        """Probability that the hand in the image (not in a mirrored crop) is a right one."""
        return 1.0 - self.prior.right if self.roi.mirrored else self.prior.right

    @cached_property
    def _decoded(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        return decode(self.prior.heatmaps, self.size)

    @property
    def keypoints(self) -> npt.NDArray[np.float64]:
        """Joints, (21, 2), as the prior's heat maps have them, pixels of the image."""
        return self.roi.to_image(self._decoded[0], self.size)

    def closer(self, scale: float) -> Roi:
        """Return the region drawn again around what is seen in it, upright; `scale` as for `Roi.upright`."""
        return Roi.upright(self.keypoints, scale, self.roi.angle, self.roi.mirrored)

    @property
    def clarity(self) -> float:
        """Mean height of the joints' peaks, 0 to 1: what only resembles a hand has no clear joints."""
        return float(self._decoded[1].mean())


class Viewer:
    """Looks at regions of an image with the prior stage."""

    def __init__(self, prior: PriorStage) -> None:
        self._prior = prior

    def __call__(self, image: npt.NDArray[np.uint8], roi: Roi) -> View:
        """Look at a region as it is. `image` is (H, W, 3) RGB."""
        start = perf_counter()
        crop = roi.crop(image, self._prior.size)
        middle = perf_counter()
        prior = self._prior(crop)
        return View(roi, prior, self._prior.size, 1e3 * (middle - start), 1e3 * (perf_counter() - middle))

    def sided(self, image: npt.NDArray[np.uint8], roi: Roi, min_presence: float) -> View:
        """Look at a region as it is and in the mirror, and return the look that shows more of a right hand.

        The mesh stage knows right hands only. Two looks are compared rather than one judged, so that a network that
        leans to one side does not mistake the other. Without a hand (presence under `min_presence`) there is no second
        look.
        """
        view = self(image, roi)
        if not view.presence >= min_presence:
            return view
        other = self(image, roi.flipped())
        chosen = other if other.prior.right > view.prior.right else view
        return replace(chosen, crop_ms=view.crop_ms + other.crop_ms, prior_ms=view.prior_ms + other.prior_ms)
