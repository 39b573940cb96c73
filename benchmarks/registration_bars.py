# SPDX-License-Identifier: Apache-2.0
"""What the project promises of its registration, held against one run of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .registration_solvers import OURS

__all__ = ["bars"]

BASELINE = "SLSQP"
MOST_MS, MOST_SHARE = 0.8, 1 / 20
LEAST_GAIN = 0.25
BLEND_LIMIT = 1.05
LENGTH_SHARE = 0.25
COVERED = (0.85, 0.95)

ALIKE_MM = 0.1
"""Errors that differ by less than this count as the same: both solvers are then exact for any use."""


def bars(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is promised, whether it is met, and the figures seen."""
    ours, theirs = (report["times"][name]["median"] for name in (OURS, BASELINE))
    cells = report["cells"]
    figures = [(cell, key) for cell in cells for key in ("median", "mean", "p95")]
    worse = [(cell, key) for cell, key in figures if _error(cell, OURS, key) > _limit(cell, key)]
    noisy = [c for c in cells if c["condition"]["noise"] >= 2 or c["condition"]["outliers"]]
    small = [c for c in noisy if _error(c, OURS) > (1 - LEAST_GAIN) * _error(c, BASELINE)]
    blend = [c for c in cells if _error(c, OURS) > BLEND_LIMIT * _better(c) + ALIKE_MM]
    length = report["hand_length"]
    shares = [share for row in report["trust"] for name, share in row["covered"].items() if "5 mm" in name]
    outside = sum(not COVERED[0] <= share <= COVERED[1] for share in shares)
    return [
        _bar(f"a frame within {MOST_MS} ms", ours <= MOST_MS, f"{ours:.3f} ms"),
        _bar("a frame within 1/20 of SLSQP", ours <= MOST_SHARE * theirs, f"1/{theirs / ours:.1f}"),
        _bar(
            "no error (median, mean, P95) above SLSQP's in any cell",
            not worse,
            f"{len(worse)} of {len(figures)} above" + _worst(worse),
        ),
        _bar(
            "mean error 25 % under SLSQP's with 2 px of noise or outliers",
            not small,
            f"{len(noisy) - len(small)} of {len(noisy)} cells" + _worst([(c, "mean") for c in small]),
        ),
        _bar(
            "mean error of the blend within 1.05 of the better term's in every cell",
            not blend,
            f"{len(cells) - len(blend)} of {len(cells)} cells" + _names(blend),
        ),
        _bar(
            "hand_length brings the depth error of larger hands under a quarter",
            length["with"] < LENGTH_SHARE * length["without"],
            f"{length['with'] / length['without']:.2f}",
        ),
        _bar(
            "85 to 95 % of depths within their 90 % interval, per distance, for meshes wrong by 5 mm",
            not outside,
            f"{100 * min(shares):.1f} to {100 * max(shares):.1f} %, {len(shares) - outside} of {len(shares)} inside",
        ),
    ]


def _bar(what: str, met: bool, seen: str) -> dict[str, Any]:
    return {"what": what, "met": bool(met), "seen": seen}


def _error(cell: Mapping[str, Any], name: str, key: str = "mean") -> float:
    return float(cell["solvers"][name][key])


def _limit(cell: Mapping[str, Any], key: str) -> float:
    return _error(cell, BASELINE, key) + ALIKE_MM


def _better(cell: Mapping[str, Any]) -> float:
    return min(_error(cell, "ours, 2D only"), _error(cell, "ours, 1D only"))


def _name(cell: Mapping[str, Any]) -> str:
    condition = cell["condition"]
    parts = [f"{condition['noise']:g} px", condition["silhouette"]]
    parts += [f"{condition['outliers']} outliers"] * bool(condition["outliers"])
    parts += [f"mesh {condition['mesh']}"] * (condition["mesh"] != "exact")
    return "/".join(parts)


def _names(cells: Sequence[Mapping[str, Any]]) -> str:
    return "; not " + ", ".join(_name(c) for c in cells) if cells else ""


def _worst(pairs: Sequence[tuple[Mapping[str, Any], str]]) -> str:
    texts = (
        f"{_name(cell)} {key} {_error(cell, OURS, key):.2f} against {_error(cell, BASELINE, key):.2f}"
        for cell, key in pairs
    )
    return "; not " + ", ".join(texts) if pairs else ""
