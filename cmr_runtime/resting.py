# SPDX-License-Identifier: Apache-2.0
"""When the prior may rest over a followed hand: it agreed for a while, looked of late, and the region is as it was."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .motion import HORIZON
from .recall import Said
from .roi import Roi

__all__ = ["SHOCK", "SURPRISE", "Rest"]

#: Looks in a row in which prior and track agree, before the first frame without the prior: a hand found anew settles.
TRUSTED = 5
#: Frames in which the prior looks where a hand surprised: that is known, and settles sooner.
DOUBTED = 2
#: Seconds after which the prior is asked again: for the side, which it alone judges. With one second or four the errors
#: of rendered hands that move are the same, over eight seconds of each.
RESTED = 3.0
#: The same where it contradicted the side: frames that follow one another would err together.
CONTRADICTED = 0.2
#: What rounding may take off the time between two frames, seconds.
ROUNDED = 1e-6
#: How far a hand may have moved in its crop: three times as far as training moves most of what it recalls
#: (`cmr_models.batches.Mix`). Turn of the region, radians; logarithm of its size; mean distance of the joints from
#: where they were expected, in extents.
TURNED, GROWN, SURPRISE = 0.15, 0.12, 0.06
#: Surprise up to which a frame stands as it is, and the prior looks in those after it; beyond it looks in this one too.
#: Rendered hands that move at 0.3 to 1.5 Hz are then as near to the truth as if it looked at once and for five frames
#: (joints relative to the root; in the image 1 % farther), and frames of those at 1 Hz take 0.88 of the time.
SHOCK = 0.12


@dataclass
class Rest:
    """What can be recalled of one hand, and for how long.

    Attributes
    ----------
    said : Said or None
        What was said in the last frame; None if the hand was not seen in it.
    looks : int
        Frames in a row in which the prior looked, and agreed with what was known.
    due : float
        When it has to look again, seconds.
    """

    said: Said | None = None
    looks: int = 0
    due: float = -math.inf

    def allowed(self, region: Roi, last: Roi, seen: float, time: float) -> bool:
        """Whether a look at a region can recall the last one, at what was seen then, and do without the prior."""
        lately = time < self.due - ROUNDED and time - seen <= HORIZON
        turned = math.remainder(region.angle - last.angle, 2.0 * math.pi)
        alike = abs(turned) <= TURNED and abs(math.log(region.size / last.size)) <= GROWN
        same = alike and region.mirrored == last.mirrored
        return self.said is not None and self.looks >= TRUSTED and lately and same

    def look(self, agreed: bool, time: float, contradicted: bool = False) -> None:
        """Count a look of the prior: it agreed with what is known or not, or contradicted the side, not yet enough."""
        self.looks = self.looks + 1 if agreed else 0
        self.due = time + (CONTRADICTED if contradicted else RESTED)

    def doubt(self) -> None:
        """Have the prior look for some frames: the hand did not go on as expected."""
        self.looks = min(self.looks, TRUSTED - DOUBTED)

    def end(self) -> None:
        """Have the prior look as if the hand was found anew: it may be another."""
        self.looks = 0
