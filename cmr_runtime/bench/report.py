# SPDX-License-Identifier: Apache-2.0
"""What a run found: typed values, and the JSON file that holds them. These classes are its schema.

A reader finds in the classes below every key of the file, its type and what it means; `reading` refuses what does not
fit them.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

__all__ = [
    "COLD_PARTS",
    "KIND",
    "SCHEMA",
    "BundleUsed",
    "Compared",
    "Entry",
    "Figures",
    "Machine",
    "Plan",
    "Ratio",
    "Report",
    "Samples",
    "Settings",
    "to_json",
]

KIND, SCHEMA = "cmr-bench", 1
#: Of a cold start, in their order.
COLD_PARTS = ("start", "import", "load", "first")


@dataclass(frozen=True)
class Figures:
    """Times of `n` frames: mean and percentiles, milliseconds, and frames a second at the mean."""

    n: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    fps: float


@dataclass(frozen=True)
class Ratio:
    """Ours over a peer on the same frames: under 1, ours is the faster.

    Attributes
    ----------
    n, faster : int
        Frames, and in how many of them ours was the faster.
    median, q1, q3 : float
        Of the ratios of single frames.
    p95 : float
        Ratio of the two 95th percentiles over these frames.
    """

    n: int
    faster: int
    median: float
    q1: float
    q3: float
    p95: float


@dataclass(frozen=True)
class Compared:
    """One of our entries against one peer: ratios by kind of frame, "tracked" and "detecting" being so for both."""

    ours: str
    peer: str
    ratios: dict[str, Ratio]


@dataclass(frozen=True)
class Samples:
    """Every timed frame, in the order shown: milliseconds, hands found, and whether it was searched for hands."""

    ms: list[float]
    hands: list[int]
    detecting: list[bool]


@dataclass(frozen=True)
class BundleUsed:
    """Which bundle: its name, the SHA-256 of its file, and the precision in which it is run."""

    name: str
    sha256: str
    precision: str


@dataclass(frozen=True)
class Entry:
    """A contestant and its figures.

    Attributes
    ----------
    name : str
        As tables show it.
    system : {"cmr_runtime", "MediaPipe Hands", "reference"}
    bundle : BundleUsed or None
        Of ours.
    threads : int or None
        Inside a stage; None is the contestant's own choice.
    provider : str or None
        ONNX Runtime's.
    versions : dict
        That the contestant ran on.
    cold_start_ms : dict
        Of a fresh process, medians: "start" of the interpreter, "import", "load", "first" frame, and "total".
    warm_up : Figures
        Of the frames before those that count.
    frames : dict of Figures
        Whole frames, as the caller waits for them: "all", "tracked" (a hand came out and none was searched for) and
        "detecting" (the others).
    stages : dict of dict of Figures
        By kind of frame as above, then by stage; each over the frames in which the stage ran. "rest" is what of a frame
        is in no stage.
    without_hand : int
        Frames in which no hand came out.
    cpu_share : float
        Processor time over time: 1 is one core.
    peak_memory_mb : float or None
        Most memory of the process, MiB; None is not measured.
    samples : Samples
        All frames.
    """

    name: str
    system: str
    bundle: BundleUsed | None
    threads: int | None
    provider: str | None
    versions: dict[str, str]
    cold_start_ms: dict[str, float]
    warm_up: Figures
    frames: dict[str, Figures]
    stages: dict[str, dict[str, Figures]]
    without_hand: int
    cpu_share: float
    peak_memory_mb: float | None
    samples: Samples


@dataclass(frozen=True)
class Machine:
    """As `describe_machine` has it."""

    processor: str
    cores: int | None
    governor: str | None
    system: str
    load: float | None


@dataclass(frozen=True)
class Plan:
    """How often, and in what turns.

    Attributes
    ----------
    passes : int
        How often the clip is shown; each time as a new video, so that hands are looked for anew.
    block : int
        Frames in a turn.
    lead_in : int
        How often the frame before is shown again at the start of a turn, untimed: the others have filled the caches.
    pause : float
        Seconds before a turn, in which the threads of the one before stop spinning.
    warm_up : int
        Frames shown before those that count; their times are told apart.
    cold_starts : int
        Fresh processes of each, to take the cold start on.
    """

    passes: int
    block: int
    warm_up: int
    cold_starts: int
    lead_in: int = 3
    pause: float = 0.02


@dataclass(frozen=True)
class Settings:
    """What was asked for: the clip (`frames` a pass, of `width` × `height`, `rate` a second), and how it was shown."""

    clip: str
    still: bool
    width: int
    height: int
    rate: float
    frames: int
    num_hands: int
    plan: Plan


@dataclass(frozen=True)
class Report:
    """A run: date (UTC, ISO 8601), machine, versions on our side, ONNX Runtime's providers, and what was found."""

    kind: str
    schema: int
    date: str
    machine: Machine
    versions: dict[str, str]
    providers: list[str]
    settings: Settings
    entries: list[Entry]
    compared: list[Compared]


def to_json(report: Report) -> str:
    """Return the report as a file holds it."""
    return json.dumps(dataclasses.asdict(report), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
