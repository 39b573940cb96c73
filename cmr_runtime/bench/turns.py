# SPDX-License-Identifier: Apache-2.0
"""All contestants on the same frames, in turns of a few frames, so that whatever slows the machine slows them alike."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .clip import Clip
from .entrants import Entrant
from .figures import kinds, summarise
from .report import COLD_PARTS, Entry, Figures, Plan, Samples
from .worker import Worker

__all__ = ["requests", "run"]


@dataclass
class _Track:
    """What came out of one contestant so far."""

    entrant: Entrant
    cold: list[dict[str, float]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    warm_up: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    peak: float | None = None


def run(entrants: Sequence[Entrant], clip: Clip, plan: Plan, step: Callable[[], None] = lambda: None) -> list[Entry]:
    """Let all take part.

    Parameters
    ----------
    entrants : sequence of Entrant
        Each runs in a process of its own.
    clip : Clip
        What they see.
    plan : Plan
        In what turns.
    step : callable
        Called after every turn and every cold start.

    Raises
    ------
    PeerError
        One does not start, fails, or answers with something else.
    """
    tracks = [_Track(entrant) for entrant in entrants]
    for _ in range(plan.cold_starts):
        for track in tracks:
            time.sleep(plan.pause)
            with track.entrant.start(clip) as worker:
                track.cold.append(_cold(worker))
            step()
    with ExitStack() as stack:
        workers = [stack.enter_context(entrant.start(clip)) for entrant in entrants]
        for track, worker in zip(tracks, workers, strict=True):
            track.versions = worker.versions
            track.warm_up = _show(track, worker, {"frames": list(range(plan.warm_up))})
            step()
        for number, request in enumerate(requests(clip.frames, plan)):
            for place in range(len(tracks)):
                at = (number + place) % len(tracks)  # so that none always follows another
                time.sleep(plan.pause)
                tracks[at].samples += _show(tracks[at], workers[at], request)
                step()
    return [_entry(track) for track in tracks]


def requests(frames: int, plan: Plan) -> list[dict[str, Any]]:
    """Return the turns of all passes, as `contestant` takes them."""
    turns = []
    for _ in range(plan.passes):
        for start in range(0, frames, plan.block):
            before = (start - 1) % frames
            shown = list(range(start, min(start + plan.block, frames)))
            turns.append({"lead_in": [before] * plan.lead_in, "cut": start == 0, "frames": shown})
    return turns


def _cold(worker: Worker) -> dict[str, float]:
    parts = worker.greeting.get("cold_start_ms")
    if not isinstance(parts, dict) or set(parts) != set(COLD_PARTS[1:]):
        raise worker.error("does not tell its cold start")
    start = max(1e3 * (float(worker.greeting["began"]) - worker.began), 0.0)
    spans = {"start": start, **{part: float(parts[part]) for part in COLD_PARTS[1:]}}
    return {**spans, "total": sum(spans.values())}


def _show(track: _Track, worker: Worker, request: Mapping[str, Any]) -> list[dict[str, Any]]:
    answer = worker.ask(request, "samples")
    good = isinstance(answer, list) and len(answer) == len(request["frames"]) and all(_is_sample(s) for s in answer)
    if not good:
        raise worker.error(f"was shown {len(request['frames'])} frames and answered {str(answer)[:80]}")
    track.peak = worker.answer.get("peak_memory_mb")
    samples: list[dict[str, Any]] = answer
    return samples


def _is_sample(sample: object) -> bool:
    if not isinstance(sample, dict) or not {"ms", "cpu_ms", "hands", "detecting", "stages"} <= sample.keys():
        return False
    times = [sample["ms"], sample["cpu_ms"], *sample["stages"].values()]
    return all(isinstance(t, float | int) and np.isfinite(t) and t >= 0 for t in times) and sample["ms"] > 0


def _entry(track: _Track) -> Entry:
    entrant, shown = track.entrant, track.samples
    ms = np.array([sample["ms"] for sample in shown])
    samples = Samples(
        [round(float(t), 4) for t in ms],
        [int(sample["hands"]) for sample in shown],
        [bool(sample["detecting"]) for sample in shown],
    )
    which = {kind: at for kind, at in kinds(samples).items() if at.any()}
    medians = {part: float(np.median([cold[part] for cold in track.cold])) for part in track.cold[0]}
    return Entry(
        name=entrant.name,
        system=entrant.system,
        bundle=entrant.bundle,
        threads=entrant.threads,
        provider=entrant.provider,
        versions=track.versions,
        cold_start_ms=medians,
        warm_up=summarise([sample["ms"] for sample in track.warm_up]),
        frames={kind: summarise(ms[at]) for kind, at in which.items()},
        stages={kind: _stages([shown[k] for k in np.flatnonzero(at)]) for kind, at in which.items() if kind != "all"},
        without_hand=sum(hands == 0 for hands in samples.hands),
        cpu_share=sum(sample["cpu_ms"] for sample in shown) / float(ms.sum()),
        peak_memory_mb=None if track.peak is None else round(float(track.peak), 1),
        samples=samples,
    )


def _stages(shown: Sequence[Mapping[str, Any]]) -> dict[str, Figures]:
    """Figures by stage, each over the frames in which it ran; what is in no stage is the rest."""
    times: dict[str, list[float]] = defaultdict(list)
    for sample in shown:
        for stage, ms in sample["stages"].items():
            if ms > 0:
                times[stage].append(ms)
        rest = sample["ms"] - sum(sample["stages"].values())
        if sample["stages"] and rest > 0:
            times["rest"].append(rest)
    return {stage: summarise(times[stage]) for stage in sorted(times, key=lambda stage: stage == "rest")}
