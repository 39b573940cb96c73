# SPDX-License-Identifier: Apache-2.0
"""MediaPipe's environment, apart from ours, so that our dependencies stay clean.

``python -m cmr_runtime.bench.peer`` makes it, in the user's cache folder: MediaPipe with what MediaPipe Hands needs,
and a TFLite runtime with the XNNPACK delegate, for its networks alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ..command import command
from ..precision import cache_folder
from .worker import PeerError

__all__ = ["FILES_ONLY", "REQUIREMENTS", "create", "interpreter", "mend", "own_place", "peer_python"]

#: Installed with what they depend on.
REQUIREMENTS = (
    "ai-edge-litert==2.3.0",
    "absl-py",
    "attrs",
    "flatbuffers",
    "matplotlib",
    "numpy",
    "opencv-contrib-python-headless",
    "protobuf>=4.25.3,<5",
)

#: Installed alone: what else it names is for other tasks, and comes to 400 MB more.
FILES_ONLY = ("mediapipe==0.10.14",)

_MAKE = "python -m cmr_runtime.bench.peer"
_MEND = f"make the peer's environment with `{_MAKE}`, or name an interpreter of your own with --peer-python"
_AGAIN = f"if its environment is broken, make it anew with `{_MAKE} --again`"


def own_place() -> Path:
    """Where the environment lies, in the user's cache folder.

    Raises
    ------
    PeerError
        The user has no home folder.
    """
    try:
        return cache_folder() / "mediapipe"
    except RuntimeError as error:
        raise PeerError(f"no place for the peer environment ({error}); set CMR_CACHE to a folder") from error


def peer_python(named: str | None) -> str:
    """Interpreter for the peer: the one that is named, else that of the environment; see `interpreter`."""
    return str(interpreter()) if named is None else named


def mend(named: str | None) -> str:
    """Return what to do about the interpreter of `peer_python` if it fails."""
    return _AGAIN if named is None else f"--peer-python is {named}; it must be a Python with mediapipe"


def interpreter(location: Path | None = None) -> Path:
    """Python of the peer's environment.

    Parameters
    ----------
    location : Path or None
        Its folder; None is `own_place`.

    Raises
    ------
    PeerError
        There is none, or it was left half made, or it holds other versions than this benchmark names.
    """
    location = own_place() if location is None else location
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


def create(python: str = sys.executable, location: Path | None = None) -> Path:
    """Make the environment anew; pip's own output goes to the terminal.

    Parameters
    ----------
    python : str
        Interpreter to build on: one for which MediaPipe 0.10.14 has a wheel.
    location : Path or None
        Folder; None is `own_place`. An environment there is replaced, anything else is left alone.

    Returns
    -------
    Path
        Python of the new environment.

    Raises
    ------
    PeerError
        The folder holds something else, or a step fails.
    """
    location = own_place() if location is None else location
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
                f"name such an interpreter with `{_MAKE} --python PATH`"
            ) from error
    _marker(location).write_text(json.dumps(_pins()), "utf-8")
    return interpreter(location)


def _pins() -> list[str]:
    return [*REQUIREMENTS, *FILES_ONLY]


def _marker(location: Path) -> Path:
    """Written last, so that an environment left half made has none."""
    return location / "peer.json"


def _python(location: Path) -> Path:
    return location / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Make the environment where there is none."""
    parser = argparse.ArgumentParser(prog=_MAKE, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="interpreter to build on, 3.10 to 3.12")
    parser.add_argument("--again", action="store_true", help="replace an environment that is there")
    args = parser.parse_args(argv)
    try:
        complete = not args.again and _marker(own_place()).is_file()
        python = interpreter() if complete else create(args.python)
    except PeerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{'already there' if complete else 'made'}: {python} with {', '.join(_pins())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
