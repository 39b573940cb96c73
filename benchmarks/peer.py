# SPDX-License-Identifier: Apache-2.0
"""The peer's environment, apart from ours, and the client of the workers that run inside it.

``python -m benchmarks.peer`` makes ``.peers/mediapipe`` in the checkout: MediaPipe's package for its networks, and a
TFLite runtime with the XNNPACK delegate to run them.

A worker is a program that speaks JSON lines. It begins with ``{"ready": true, "versions": {...}}``; to ``{"run": 20}``
it answers ``{"ms": [...]}`` with 20 times in milliseconds; in place of either it may say ``{"error": "..."}``. It ends
when its input ends.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cmr_runtime.errors import CmrError

__all__ = ["FILES_ONLY", "LOCATION", "REQUIREMENTS", "PeerError", "Worker", "create", "interpreter", "landmark_worker"]

#: Where the environment lies.
LOCATION = Path(__file__).resolve().parents[1] / ".peers" / "mediapipe"

#: Installed with what it depends on.
REQUIREMENTS = ("ai-edge-litert==2.3.0",)

#: Installed alone: only its network files are used, and what it depends on comes to 900 MB more.
FILES_ONLY = ("mediapipe==0.10.14",)

_MEND = "make the peer's environment with `python -m benchmarks.peer`"
_AGAIN = "make it anew with `python -m benchmarks.peer --again`"


class PeerError(CmrError):
    """The peer's environment is absent or stale, or a worker in it fails."""


def interpreter(location: Path = LOCATION) -> Path:
    """Python of the peer's environment.

    Raises
    ------
    PeerError
        There is none, or it was left half made, or it holds other versions than this benchmark names.
    """
    try:
        found = json.loads(_marker(location).read_text("utf-8"))
    except FileNotFoundError:
        raise PeerError(f"no complete peer environment at {location}; {_MEND}") from None
    except (OSError, ValueError) as error:
        raise PeerError(f"the peer environment at {location} cannot be read ({error}); {_AGAIN}") from error
    wanted = _pins()
    if found != wanted:
        raise PeerError(f"the peer environment at {location} holds {found}, not {wanted}; {_AGAIN}")
    python = _python(location)
    if not python.exists():
        raise PeerError(f"the peer environment at {location} has lost its Python; {_AGAIN}")
    return python


def create(python: str = sys.executable, location: Path = LOCATION) -> Path:
    """Make the environment anew; pip's own output goes to the terminal.

    Parameters
    ----------
    python : str
        Interpreter to build on: one for which MediaPipe 0.10.14 has a wheel.
    location : Path
        Folder; an environment there is replaced, anything else is left alone.

    Returns
    -------
    Path
        Python of the new environment.

    Raises
    ------
    PeerError
        The folder holds something else, or a step fails.
    """
    if location.exists() and not (location / "pyvenv.cfg").is_file() and any(location.iterdir()):
        raise PeerError(f"{location} holds something that is no environment; move it away, then {_MEND}")
    pip = [str(_python(location)), "-m", "pip", "install", "--disable-pip-version-check"]
    steps = [
        [python, "-m", "venv", "--clear", str(location)],
        [*pip, *REQUIREMENTS],
        [*pip, "--no-deps", *FILES_ONLY],
    ]
    for step in steps:
        try:
            subprocess.run(step, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise PeerError(
                f"`{' '.join(step)}` failed ({error}); it needs a package index and Python 3.10 to 3.12: "
                f"name such an interpreter with `python -m benchmarks.peer --python PATH`"
            ) from error
    _marker(location).write_text(json.dumps(_pins()), "utf-8")
    return interpreter(location)


class Worker:
    """A peer that runs when told to, and otherwise waits.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    timeout : float
        Seconds until an answer counts as missing.

    Attributes
    ----------
    versions : dict of str
        What the worker says it runs on.

    Raises
    ------
    PeerError
        It does not start, or begins with anything but a greeting.
    """

    def __init__(self, command: Sequence[str], timeout: float = 120.0) -> None:
        self._timeout = timeout
        self._name = Path(command[-1] if len(command) < 3 else command[2]).name
        self._log = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, encoding="utf-8"
            )
        except OSError as error:
            self._log.close()
            raise PeerError(f"the peer does not start ({error}); {_AGAIN}") from error
        try:
            versions = self._receive("ready").get("versions", {})
            self.versions = {str(key): str(value) for key, value in dict(versions).items()}
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, invocations: int) -> list[float]:
        """Times of so many invocations, milliseconds.

        Raises
        ------
        PeerError
            The worker reports an error, is gone, is silent, or answers with anything but so many times.
        """
        try:
            self._process.stdin.write(json.dumps({"run": invocations}) + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise self._error(f"takes no request ({error})") from error
        times = self._receive("ms")["ms"]
        numbers = isinstance(times, list) and all(type(t) in (int, float) and math.isfinite(t) and t > 0 for t in times)
        if not numbers or len(times) != invocations:
            raise self._error(f"was asked for {invocations} times in ms and answered {str(times)[:80]}")
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
        clock = threading.Timer(self._timeout, self._process.kill)
        clock.start()
        try:
            line = self._process.stdout.readline()
        finally:
            late = not clock.is_alive()
            clock.cancel()
        if not line:
            raise self._error(f"gave no answer in {self._timeout:g} s" if late else "ended without an answer")
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if isinstance(answer, dict) and "error" in answer:
            raise self._error(f"says: {answer['error']}")
        if not isinstance(answer, dict) or key not in answer:
            raise self._error(f"answered {line.strip()[:80]!r}, without {key!r}")
        return answer

    def _error(self, what: str) -> PeerError:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - 600))
        log = self._log.read().decode("utf-8", "replace").strip()
        last = f"; its last words: {' | '.join(log.splitlines()[-4:])}" if log else ""
        return PeerError(f"peer worker {self._name} {what}{last}; if its environment is broken, {_AGAIN}")


def landmark_worker(model: str, threads: int) -> Worker:
    """Worker with MediaPipe's hand landmark network, `model` being ``full`` or ``lite``."""
    script = Path(__file__).with_name("peer_landmarks.py")
    return Worker([str(interpreter()), "-I", str(script), "--model", model, "--threads", str(threads)])


def _pins() -> list[str]:
    return [*REQUIREMENTS, *FILES_ONLY]


def _marker(location: Path) -> Path:
    """Written last, so that an environment left half made has none."""
    return location / "peer.json"


def _python(location: Path) -> Path:
    return location / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def main(argv: Sequence[str] | None = None) -> int:
    """Make the environment where there is none."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peer", description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="interpreter to build on, 3.10 to 3.12")
    parser.add_argument("--again", action="store_true", help="replace an environment that is there")
    args = parser.parse_args(argv)
    try:
        complete = not args.again and _marker(LOCATION).is_file()
        python = interpreter() if complete else create(args.python)
    except PeerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{'already there' if complete else 'made'}: {python} with {', '.join(_pins())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
