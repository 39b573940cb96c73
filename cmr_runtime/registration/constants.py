# SPDX-License-Identifier: Apache-2.0
"""The constants of `Registrar`: bounds, rounds, and what an error of the mesh adds to the uncertainty."""

from __future__ import annotations

import numpy as np

__all__ = [
    "DEPTH_BOUNDS",
    "EDGE",
    "LEAST_HAND_PX",
    "LITTLE",
    "MESH_ERROR",
    "MESH_SHIFT",
    "MIN_EXTENTS",
    "NEAR",
    "ROUNDS_1D",
    "ROUNDS_2D",
    "ROUNDS_BOTH",
    "SETTLED",
    "SPREADS",
]

DEPTH_BOUNDS = (0.05, 3.0)
"""Depth of the root in metres. The reference takes 0.05 to 2 or 0.3 to 2; an arm is 0.8 long, a selfie stick 1.5."""

NEAR = 0.02
"""Every point of the hand stays at least this far in front of the camera, in metres."""

SPREADS = 3.0
"""The scale stays within this many spreads of the prior's mean."""

MIN_EXTENTS = 6
"""Fewest extents that make a 1D term: half of them determine the position."""

LITTLE = 1e-2 * np.eye(3)
"""Information, in 1/m², that keeps a translation that nothing else determines where it was (a spread of 10 m)."""

MESH_ERROR, MESH_SHIFT = 1.5, 0.6
"""Standard deviations of the mesh's error in size and of its shift sideways over the misfit (the geometric mean of both
terms' standard deviations, as a share of the hand's extent): a mesh that fits badly is as a rule also too large or too
small, which no residual shows. Fitted to meshes that are wrong by 5 mm, see `benchmarks/registration_trust.py`."""

LEAST_HAND_PX = 1.0
"""Extent in pixels that a hand is taken to have at least."""

EDGE = 1e-6
"""This near to a bound, in metres or in scale, counts as on it."""

ROUNDS_2D, ROUNDS_1D, ROUNDS_BOTH = 6, 4, 2
SETTLED = 0.03
"""Rounds end when one moves the position by less than a sixth of its standard deviation (squared)."""
