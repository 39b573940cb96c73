# SPDX-License-Identifier: Apache-2.0
"""The end of a command: where its reader has gone, as in ``cmr-doctor | head``, it stops without a traceback."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence

__all__ = ["CLOSED", "command"]

#: Exit status of a command whose reader has gone: that of a process which SIGPIPE ends, as a shell tells it.
CLOSED = 141

_Main = Callable[[Sequence[str] | None], int]


def command(main: _Main) -> Callable[..., int]:
    """Return `main` (arguments to exit status), which then ends with `CLOSED` where standard output is closed."""

    @functools.wraps(main)
    def run(arguments: Sequence[str] | None = None) -> int:
        try:
            status = main(arguments)
            sys.stdout.flush()
        except BrokenPipeError:
            # What is left in the buffer would raise once more when the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return CLOSED
        return status

    return run
