# SPDX-License-Identifier: Apache-2.0
"""The training script with a small network and small batches; importable by the processes that it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from small_net import CONFIG

from cmr_models import by_name, train
from cmr_models.batches import Mix
from cmr_models.network import objective as default
from cmr_models.paper import objective as paper
from cmr_models.processes import Processes
from cmr_models.validate import Validation

COUNTS = {"rendered": 2, "photos": 1, "empty": 1}
#: As large for each of two processes.
SHARED = COUNTS | {name: 2 * count for name, count in COUNTS.items()}


def arguments_for(data: tuple[Path, Path], out: Path, *more: str) -> list[str]:
    """Three steps; ``data`` is the fixture of that name."""
    folders = [str(out), "--synth", str(data[0]), "--photos", str(data[1])]
    return [*folders, "--steps", "3", "--threads", "1", "--device", "cpu", *more]


def make_small(monkeypatch: pytest.MonkeyPatch, counts: dict[str, int]) -> None:
    """Let the script take the small network, with so many samples a batch."""
    monkeypatch.setattr(train, "VALIDATION", 2)
    monkeypatch.setattr(default, "Mix", partial(Mix, **counts))
    monkeypatch.setattr(by_name, "HandNetConfig", lambda **sizes: replace(CONFIG, **sizes))
    monkeypatch.setattr(
        paper, "Mix", lambda **kinds: Mix(**kinds | {"rendered": 3, "photos": int(kinds["photos"] > 0)})
    )
    monkeypatch.setattr(train, "Validation", partial(Validation, count=2))


def shared(arguments: Sequence[str], processes: Processes) -> None:
    """Train as one of several processes."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch, SHARED)
        train.main(arguments, processes)
