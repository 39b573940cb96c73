# SPDX-License-Identifier: Apache-2.0
"""What is known of a hand's size: images do not tell it.

A hand twice as large, twice as far away and turned alike gives the same image, so keypoints and silhouette determine
the position up to a common factor on distance and size: the direction to the hand is observable, and so is its distance
*in hand lengths*, but not metres. An error of 5 % in the size is an error of 5 % in the depth. Three ways to metres:

- the prior over people, ``scale_prior=(1.0, 0.08)``: the depth has an uncertainty of 8 % and says so;
- a ruler: `hand_length`, from the crease of the wrist to the tip of the middle finger;
- a sequence in which the hand passes known distances, or touches something at a known distance: `scale_from_depths`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .result import Registration

__all__ = ["LENGTH_SPREAD", "hand_length", "scale_from_depths"]

FloatArray = npt.NDArray[np.float64]

MIDDLE_FINGER = (0, 9, 10, 11, 12)
"""The wrist and the four joints of the middle finger, from the palm to the tip."""

LENGTH_SPREAD = 0.02
"""Standard deviation of a hand's length over its measure: a skin crease is no joint."""


def hand_length(joints: FloatArray) -> float:
    """Length of a hand in the unit of its joints (21, 3): wrist to tip of the middle finger along the bones."""
    if len(joints) != 21:
        raise InputError(f"hand_length needs the 21 joints of a hand, got {len(joints)}; give scale_prior instead")
    points = joints[list(MIDDLE_FINGER)].tolist()
    return sum(map(math.dist, points, points[1:]))


def scale_from_depths(registrations: Sequence[Registration], depths: npt.ArrayLike) -> tuple[float, float]:
    """Scale prior of one person from results at known distances.

    Parameters
    ----------
    registrations : sequence of Registration
        Results of one hand with any one scale prior, each of them usable.
    depths : (n,) array
        True depths of the root (the middle knuckle) in metres, along the optical axis.

    Returns
    -------
    mean, spread : float
        For ``hand_scale`` of a tracker, or ``scale_prior`` of `register`: the median over the results, and its standard
        error (at least 0.5 %).

    Raises
    ------
    InputError
        A result that is not usable (see `Registration.usable`), or depths that are not one number above 0 for each.
    """
    try:
        known = np.asarray(depths, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"depths is {depths!r}; give metres, one number for each registration") from None
    if known.shape != (len(registrations),) or not len(registrations):
        raise InputError(f"{len(registrations)} registrations and depths {known.shape}; give one depth for each")
    if not (np.isfinite(known).all() and known.min() > 0):
        raise InputError(f"depths reach {known.min():g} m; give finite depths above 0")
    for number, result in enumerate(registrations):
        if not isinstance(result, Registration) or not result.usable:
            raise InputError(
                f"registrations[{number}] is no usable Registration; leave out what has usable=False, which lies on a "
                "bound or agrees with too few joints"
            )
    scales = known * [result.scale / result.translation[2] for result in registrations]
    mean = float(np.median(scales))
    deviation = 1.4826 * float(np.median(np.abs(scales - mean)))
    return mean, max(1.2533 * deviation / len(scales) ** 0.5, 0.005 * mean)
