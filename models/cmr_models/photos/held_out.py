# SPDX-License-Identifier: Apache-2.0
"""Which photos are held out for validation: whole scenes, and runs of one person's photos."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np

__all__ = ["VAL_GROUPS", "VAL_SPLIT", "held_out"]

VAL_GROUPS = ("rooms_55", "rooms_96", "rooms_996")
"""Groups held out whole; the last two show one scene."""
VAL_SPLIT = "digits"
"""Group that is split: its photos are numbered, and one person's photos follow one another."""
VAL_SHARE = 0.05
"""Part of that group held out, in runs of :data:`VAL_RUN` consecutive numbers."""
VAL_RUN = 20


def number_of(name: str) -> int:
    """Last number in a file's name, 0 without one."""
    found = re.findall(r"\d+", Path(name).stem)
    return int(found[-1]) if found else 0


def held_out(names: list[str], groups: list[str], seed: int = 0) -> np.ndarray:
    """Choose what is held out for validation.

    Parameters
    ----------
    names, groups : list of str
        Path and group of each photo.
    seed : int
        Chooses the runs of the group that is split.

    Returns
    -------
    ndarray (N,) bool
        True for every photo of :data:`VAL_GROUPS`, and for about :data:`VAL_SHARE` of :data:`VAL_SPLIT`, whole runs of
        consecutive numbers, so that hardly any person is on both sides.
    """
    runs = [number_of(n) // VAL_RUN if g == VAL_SPLIT else None for n, g in zip(names, groups, strict=True)]
    counts = Counter(run for run in runs if run is not None)
    chosen: set[int] = set()
    for run in np.random.default_rng(seed).permutation(sorted(counts)).tolist():
        if sum(counts[c] for c in chosen) >= VAL_SHARE * counts.total():
            break
        chosen.add(run)
    return np.array([g in VAL_GROUPS or r in chosen for g, r in zip(groups, runs, strict=True)], bool)
