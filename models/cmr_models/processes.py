# SPDX-License-Identifier: Apache-2.0
"""Processes of one machine that train one network together."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import distributed, multiprocessing, nn

__all__ = ["Processes", "together"]


class Processes(NamedTuple):
    """How many there are, and which this one is.

    Each learns from its own part of every batch; as gradients are shared, all have the same weights.
    """

    count: int = 1
    rank: int = 0
    meeting: str = ""

    def join(self) -> None:
        """Wait for the others. Processes forked later would inherit the connection, so fork first."""
        if self.count > 1:
            distributed.init_process_group("gloo", init_method=self.meeting, world_size=self.count, rank=self.rank)

    @property
    def first(self) -> bool:
        """Whether this is the one that speaks and writes."""
        return self.rank == 0

    def of(self, steps: range) -> range:
        """Batches that this process takes in some steps, one a step."""
        return range(steps.start * self.count + self.rank, steps.stop * self.count, self.count)

    def share_gradients(self, net: nn.Module) -> None:
        """Replace the gradients by their mean over all processes; what a process has none for counts as zero."""
        if self.count == 1:
            return
        learning = [p for p in net.parameters() if p.requires_grad]
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in learning])
        distributed.all_reduce(flat)
        for p, mean in zip(learning, (flat / self.count).split([p.numel() for p in learning]), strict=True):
            p.grad = mean.view_as(p)

    def any(self, here: bool) -> bool:
        """Whether something holds in one of the processes at least."""
        if self.count == 1:
            return here
        anywhere = torch.tensor(int(here))
        distributed.all_reduce(anywhere, distributed.ReduceOp.MAX)
        return bool(anywhere)

    def print(self, text: str) -> None:
        """Print once, not once a process."""
        if self.first:
            print(text, flush=True)


def together(count: int, run: Callable[[Sequence[str], Processes], None], arguments: Sequence[str]) -> None:
    """Run a command in several processes, and end as they end.

    Parameters
    ----------
    count : int
        Processes.
    run : callable
        The command, importable by name; it is given its arguments and the `Processes` to join.
    arguments : sequence of str
        Of the command.
    """
    with tempfile.TemporaryDirectory() as folder:
        desk = Path(folder)
        try:
            multiprocessing.start_processes(_one, (run, arguments, count, desk), count, start_method="spawn")
        except multiprocessing.ProcessExitedException as error:
            if error.exit_code < 0:
                name = signal.Signals(-error.exit_code).name
                text = f"process {error.error_index} was ended by {name}; if nobody did, memory may have run out"
                raise SystemExit(text) from None
            if not _words(desk, 0).exists() and _words(desk, error.error_index).exists():
                print(_words(desk, error.error_index).read_text(), end="", file=sys.stderr)
            raise SystemExit(error.exit_code) from None


def _words(desk: Path, rank: int) -> Path:
    """File with what a process says that ends by itself."""
    return desk / f"{rank}.txt"


def _one(
    rank: int, run: Callable[[Sequence[str], Processes], None], arguments: Sequence[str], count: int, desk: Path
) -> None:
    # What all find wrong with an argument is said by the first; tracebacks travel to the parent by themselves.
    words = io.StringIO()
    try:
        with contextlib.redirect_stderr(words) if rank else contextlib.nullcontext():
            run(arguments, Processes(count, rank, (desk / "meeting").as_uri()))
            if count > 1:
                distributed.destroy_process_group()
    except SystemExit:
        _words(desk, rank).write_text(words.getvalue())
        raise
