# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest
from bench_report import make_entry

from cmr_runtime.bench.figures import compare, kinds, ratio, summarise
from cmr_runtime.bench.report import Samples


def test_figures_of_a_ramp_are_its_closed_forms() -> None:
    ms = np.random.default_rng(0).permutation(np.arange(1.0, 102.0))  # 1 to 101: percentile p is 1 + p
    figures = summarise(ms)
    assert dataclasses.astuple(figures) == pytest.approx((101, 51.0, 51.0, 91.0, 96.0, 100.0, 1000.0 / 51.0))


def test_one_frame_is_all_of_its_percentiles() -> None:
    assert dataclasses.astuple(summarise([8.0])) == (1, 8.0, 8.0, 8.0, 8.0, 8.0, 125.0)


def test_ratio_is_taken_on_the_same_frame() -> None:
    # Both get slower together, which no ratio sees; the 95th percentiles are those of either alone.
    drift = np.linspace(1.0, 5.0, 21)
    found = ratio(0.5 * drift, drift)
    assert (found.n, found.faster) == (21, 21)
    assert (found.median, found.q1, found.q3, found.p95) == pytest.approx((0.5, 0.5, 0.5, 0.5))
    mixed = ratio(np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 2.0, 2.0, 2.0]))
    assert (mixed.n, mixed.faster) == (4, 1)
    assert mixed.median == pytest.approx(1.25)
    assert mixed.p95 == pytest.approx(3.85 / 2.0)


def test_a_frame_is_tracked_when_a_hand_came_out_and_none_was_searched_for() -> None:
    found = kinds(Samples([1.0] * 4, [1, 1, 0, 0], [False, True, False, True]))
    assert found["all"].tolist() == [True] * 4
    assert found["tracked"].tolist() == [True, False, False, False]
    assert found["detecting"].tolist() == [False, True, True, True]


def test_kinds_are_compared_where_both_are_of_them() -> None:
    ours = make_entry("ours", [1.0, 2.0, 3.0], detecting=[True, False, False])
    peer = make_entry("peer", [2.0, 2.0, 2.0], detecting=[True, True, False])
    pair = compare(ours, peer)
    assert {kind: found.n for kind, found in pair.ratios.items()} == {"all": 3, "tracked": 1, "detecting": 1}
    assert pair.ratios["tracked"].median == 1.5
    assert pair.ratios["detecting"].median == 0.5
    never = compare(ours, make_entry("peer", [2.0, 2.0, 2.0], detecting=[False] * 3))
    assert set(never.ratios) == {"all", "tracked"}
