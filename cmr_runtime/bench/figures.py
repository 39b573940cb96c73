# SPDX-License-Identifier: Apache-2.0
"""Statistics of timed frames: mean, percentiles, and ratios frame by frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from .report import Compared, Entry, Figures, Ratio, Samples

__all__ = ["compare", "kinds", "ratio", "summarise"]


def summarise(ms: Sequence[float] | npt.NDArray[np.float64]) -> Figures:
    """Figures of times in milliseconds, at least one; percentiles are interpolated linearly."""
    mean = float(np.mean(ms))
    p50, p90, p95, p99 = (float(p) for p in np.percentile(ms, [50, 90, 95, 99]))
    return Figures(len(ms), mean, p50, p90, p95, p99, 1e3 / mean)


def kinds(samples: Samples) -> dict[str, npt.NDArray[np.bool_]]:
    """Which frames are of which kind, (N,) each: "all", "tracked", "detecting"."""
    tracked = (np.array(samples.hands) > 0) & ~np.array(samples.detecting, bool)
    return {"all": np.ones(len(tracked), bool), "tracked": tracked, "detecting": ~tracked}


def ratio(ours: npt.NDArray[np.float64], peer: npt.NDArray[np.float64]) -> Ratio:
    """Ratio of times (N,) of the same frames, N at least one."""
    each = ours / peer
    q1, median, q3 = (float(q) for q in np.percentile(each, [25, 50, 75]))
    p95 = float(np.percentile(ours, 95) / np.percentile(peer, 95))
    return Ratio(len(each), int(np.sum(each < 1.0)), median, q1, q3, p95)


def compare(ours: Entry, peer: Entry) -> Compared:
    """Compare two contestants that saw the same frames; a kind that no frame has for both is left out."""
    a, b = np.array(ours.samples.ms), np.array(peer.samples.ms)
    mine, theirs = kinds(ours.samples), kinds(peer.samples)
    both: Mapping[str, npt.NDArray[np.bool_]] = {kind: mine[kind] & theirs[kind] for kind in mine}
    return Compared(ours.name, peer.name, {kind: ratio(a[at], b[at]) for kind, at in both.items() if at.any()})
