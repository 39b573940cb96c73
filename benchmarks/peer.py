# SPDX-License-Identifier: Apache-2.0
"""The peer's environment, apart from ours, so that our dependencies stay clean.

``python -m benchmarks.peer`` makes ``.peers/mediapipe`` in the checkout: MediaPipe's package for its networks, and a
TFLite runtime with the XNNPACK delegate to run them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .worker import PeerError, Worker

__all__ = ["FILES_ONLY", "LOCATION", "REQUIREMENTS", "create", "interpreter", "landmark_worker"]

#: Where the environment lies.
LOCATION = Path(__file__).resolve().parents[1] / ".peers" / "mediapipe"

#: Installed with what it depends on.
REQUIREMENTS = ("ai-edge-litert==2.3.0",)

#: Installed alone: only its network files are used, and what it depends on comes to 900 MB more.
FILES_ONLY = ("mediapipe==0.10.14",)

_MEND = "make the peer's environment with `python -m benchmarks.peer`"
_AGAIN = "make it anew with `python -m benchmarks.peer --again`"


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


def landmark_worker(model: str, threads: int) -> Worker:
    """Worker with MediaPipe's hand landmark network, `model` being ``full`` or ``lite``."""
    script = Path(__file__).with_name("peer_landmarks.py")
    command = [str(interpreter()), "-I", str(script), "--model", model, "--threads", str(threads)]
    return Worker(command, f"MediaPipe landmarks {model}", mend=f"if its environment is broken, {_AGAIN}")


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
