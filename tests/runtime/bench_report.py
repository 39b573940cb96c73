# SPDX-License-Identifier: Apache-2.0
"""A report of `cmr-bench` made by hand."""

from collections.abc import Sequence

from cmr_runtime.bench.figures import compare, summarise
from cmr_runtime.bench.report import (
    KIND,
    SCHEMA,
    BundleUsed,
    Entry,
    Machine,
    Plan,
    Report,
    Samples,
    Settings,
)


def make_entry(name: str, ms: Sequence[float], detecting: Sequence[bool], ours: bool = True) -> Entry:
    """Entry whose frames took these times; each has a hand."""
    return Entry(
        name=name,
        system="cmr_runtime" if ours else "MediaPipe Hands",
        bundle=BundleUsed("hand", "0" * 64, "fp32") if ours else None,
        threads=1 if ours else None,
        provider="CPUExecutionProvider" if ours else None,
        versions={"numpy": "2.0"} if ours else {"mediapipe": "0.10.14"},
        cold_start_ms={"start": 10.0, "import": 20.0, "load": 30.0, "first": 40.0, "total": 100.0},
        warm_up=summarise([9.0]),
        frames={"all": summarise(ms), "tracked": summarise(ms)},
        stages={"tracked": {"prior": summarise([0.25]), "rest": summarise([0.125])}} if ours else {"tracked": {}},
        without_hand=0,
        cpu_share=0.987,
        peak_memory_mb=123.0 if ours else None,
        samples=Samples(list(ms), [1] * len(ms), list(detecting)),
    )


def make_report() -> Report:
    """Two entries on two frames shown twice."""
    ours = make_entry("hand fp32, 1 thread", [4.0, 5.0, 4.0, 5.0], [True, False, False, False])
    peer = make_entry("peer | full", [8.0, 10.0, 8.0, 10.0], [True, False, False, False], ours=False)
    return Report(
        kind=KIND,
        schema=SCHEMA,
        date="2026-11-22T12:00Z",
        machine=Machine("Some CPU", 4, None, "Linux x86_64", 0.01),
        versions={"cmr-runtime": "0.1.0"},
        providers=["CPUExecutionProvider"],
        settings=Settings("clip.mp4", False, 640, 360, 30.0, 2, 1, Plan(2, 1, 1, 1)),
        entries=[ours, peer],
        compared=[compare(ours, peer)],
    )
