# SPDX-License-Identifier: Apache-2.0
"""A peer in a process of its own, told when to run.

A worker is a program that speaks JSON lines. It begins with ``{"ready": true, "versions": {...}}``; to a request it
answers with one line, for instance to ``{"run": 20}`` with ``{"ms": [...]}``, 20 times in milliseconds; in place of
either it may say ``{"error": "..."}``. It ends when its input ends.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import CmrError

__all__ = ["PeerError", "Worker"]


class PeerError(CmrError):
    """The peer's environment is absent or stale, or a worker in it fails."""


class Worker:
    """A peer that runs when told to, and otherwise waits.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    name : str
        What messages call it.
    mend : str
        What messages end with: what to do about it.
    timeout : float
        Seconds until an answer counts as missing.
    environment : mapping of str, or None
        Variables besides those of this process.

    Attributes
    ----------
    began : float
        When the process was begun, seconds since the epoch.
    greeting : dict
        What the worker begins with.
    answer : dict
        Its latest answer, whole.
    versions : dict of str
        What it says it runs on.

    Raises
    ------
    PeerError
        It does not start, or begins with anything but a greeting.
    """

    def __init__(
        self,
        command: Sequence[str],
        name: str,
        mend: str,
        timeout: float = 120.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._name, self._mend, self._timeout = name, mend, timeout
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `close`)
        self.began = time.time()
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
                encoding="utf-8",
                env={**os.environ, **(environment or {})},
            )
        except OSError as error:
            self._log.close()
            raise PeerError(f"peer {name} does not start ({error}); {mend}") from error
        try:
            self.greeting = self.answer = self._receive("ready")
            versions = dict(self.greeting.get("versions", {}))
            self.versions = {str(key): str(value) for key, value in versions.items()}
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, request: Mapping[str, Any], key: str) -> Any:
        """Send a request; return what stands under `key` in the answer.

        Raises
        ------
        PeerError
            The worker reports an error, is gone, is silent, or answers without that key.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise self.error(f"takes no request ({error})") from error
        self.answer = self._receive(key)
        return self.answer[key]

    def run(self, invocations: int) -> list[float]:
        """Run so many times; the time of each, milliseconds.

        Raises
        ------
        PeerError
            As for `ask`, or it answers with anything but so many times.
        """
        times = self.ask({"run": invocations}, "ms")
        numbers = isinstance(times, list) and all(type(t) in (int, float) and math.isfinite(t) and t > 0 for t in times)
        if not numbers or len(times) != invocations:
            raise self.error(f"was asked for {invocations} times in ms and answered {str(times)[:80]}")
        return [float(t) for t in times]

    def close(self) -> None:
        """End the worker: its input ends; if it does not follow, it is killed."""
        try:
            self._process.communicate(timeout=5)
        except (OSError, ValueError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        finally:
            self._log.close()

    def _receive(self, key: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._process.kill()

        clock = threading.Timer(self._timeout, give_up)
        clock.start()
        try:
            line = self._process.stdout.readline()
        finally:
            clock.cancel()
        if not line:
            raise self.error(f"gave no answer in {self._timeout:g} s" if late.is_set() else "ended without an answer")
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if isinstance(answer, dict) and "error" in answer:
            raise self.error(f"says: {answer['error']}")
        if not isinstance(answer, dict) or key not in answer:
            raise self.error(f"answered {line.strip()[:80]!r}, without {key!r}")
        return answer

    def error(self, what: str) -> PeerError:
        """Return an error that says what the worker did, its last words, and the mend."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - 600))
        log = self._log.read().decode("utf-8", "replace").strip()
        last = f"; its last words: {' | '.join(log.splitlines()[-4:])}" if log else ""
        return PeerError(f"peer {self._name} {what}{last}; {self._mend}")
