# SPDX-License-Identifier: Apache-2.0
"""Who takes part: what each is called, and the command that starts it."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from ..bundle import Bundle, shipped_file
from ..errors import InputError
from ..session import CPU, check_providers
from .clip import Clip
from .peer import mend, peer_python
from .report import BundleUsed
from .worker import Worker

__all__ = ["Entrant", "mediapipe", "ours", "reference", "shipped"]

_CONTESTANT = Path(__file__).with_name("contestant.py")
#: The folder that holds the package: in a checkout its root.
_ROOT = Path(__file__).resolve().parents[2]
_REFERENCE = _ROOT / "benchmarks" / "reference_frames.py"


@dataclass(frozen=True)
class Entrant:
    """A contestant before it runs; see `Entry` for the attributes that are not told here.

    Attributes
    ----------
    command : tuple of str
        Starts it, but for the frames.
    mend : str
        What to do about one that fails.
    is_ours : bool
        Whether others are compared with it.
    """

    name: str
    system: str
    command: tuple[str, ...]
    mend: str
    bundle: BundleUsed | None = None
    threads: int | None = None
    provider: str | None = None
    is_ours: bool = False

    def start(self, clip: Clip) -> Worker:
        """Start it on a clip; raises `PeerError` where it does not."""
        shape = ["--width", clip.width, "--height", clip.height, "--rate", clip.rate]
        command = [*self.command, "--frames", str(clip.path), *map(str, shape)]
        path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        return Worker(command, self.name, self.mend, environment={"PYTHONPATH": path})


def shipped(precision: str) -> str:
    """Path of the package's own bundle in a precision."""
    return str(shipped_file(precision))


def ours(
    models: Sequence[str], threads: Sequence[int], num_hands: int, providers: Sequence[str] = CPU
) -> list[Entrant]:
    """Return the tracker once for each bundle, number of threads and provider of ONNX Runtime.

    Raises
    ------
    BundleError
        A bundle that is none.
    InputError
        A provider that this build of ONNX Runtime lacks, or two bundles that are the same.
    """
    check_providers(providers)
    used = [_used(model) for model in models]
    if len({bundle.sha256 for bundle in used}) < len(used):
        raise InputError("--model names the same bundle twice; give different ones")
    found = []
    for model, bundle in zip(models, used, strict=True):
        alike = sum(other.name == bundle.name and other.precision == bundle.precision for other in used) > 1
        called = f"{bundle.name} {bundle.precision}" + (f" {bundle.sha256[:6]}" if alike else "")
        for provider, count in product(dict.fromkeys(providers), dict.fromkeys(threads)):
            command = _tracking(_CONTESTANT, model, count, num_hands, "--system", "ours", "--provider", provider)
            name = f"{called}, {count} thread{'s' * (count > 1)}" + (f", {provider}" if provider not in CPU else "")
            mend = "run `cmr-doctor` on the bundle"
            found.append(Entrant(name, "cmr_runtime", command, mend, bundle, count, provider, True))
    return found


def mediapipe(python: str | None, num_hands: int) -> list[Entrant]:
    """Return MediaPipe Hands lite and full.

    Parameters
    ----------
    python : str or None
        Interpreter of an environment with mediapipe; None is that of `peer`.
    num_hands : int
        Most hands.

    Raises
    ------
    PeerError
        There is no such environment.
    """
    start = (peer_python(python), "-I", str(_CONTESTANT), "--num-hands", str(num_hands), "--system")
    each = [(f"MediaPipe Hands {model}", (*start, model)) for model in ("lite", "full")]
    return [Entrant(name, "MediaPipe Hands", command, mend(python)) for name, command in each]


def reference(clone: str | None, assets: str | None, model: str, threads: int, num_hands: int) -> Entrant:
    """Return the reference network and registration on the hands that our tracker finds with a bundle.

    Raises
    ------
    InputError
        This is no checkout, or clone or assets are not named.
    """
    if clone is None or assets is None:
        raise InputError("--peer reference needs --reference CLONE and --assets DIR, which hold its code and templates")
    if not _REFERENCE.is_file():
        raise InputError("--peer reference needs a checkout of this project with PyTorch; run cmr-bench from one")
    command = _tracking(_REFERENCE, model, threads, num_hands, "--clone", clone, "--assets", assets)
    mend = "it needs PyTorch (pip install '.[export]') and the files that benchmarks/README.md names"
    return Entrant("reference network + SLSQP", "reference", command, mend, _used(model), threads)


def _tracking(script: Path, model: str, threads: int, num_hands: int, *more: str) -> tuple[str, ...]:
    """Return the command of a script that tracks with a bundle."""
    # Safe path: the script's folder must not stand before the standard library.
    start = (sys.executable, "-P", str(script), "--model", model)
    return *start, "--threads", str(threads), "--num-hands", str(num_hands), *more


def _used(model: str) -> BundleUsed:
    """Open a bundle, so that what is damaged is refused before anything runs."""
    bundle = Bundle.open(model)
    return BundleUsed(bundle.name, hashlib.sha256(Path(model).read_bytes()).hexdigest(), bundle.precision)
