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

from ..bundle import SHIPPED, shipped_file
from ..errors import InputError
from ..precision import open_bundle
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
    models: Sequence[str | None],
    threads: Sequence[int],
    num_hands: int,
    providers: Sequence[str] = CPU,
    precisions: Sequence[str | None] = (None,),
) -> list[Entrant]:
    """Return the tracker once for each bundle, precision, number of threads and provider of ONNX Runtime.

    Parameters
    ----------
    models : sequence of path or None
        None is the bundle of the package.
    threads, num_hands, providers
        As of `HandMeshTracker`.
    precisions : sequence of str or None
        In which they are run; None is as `HandMeshTracker` does.

    Raises
    ------
    BundleError
        A bundle that is none.
    InputError
        A provider that this build of ONNX Runtime lacks, a precision in which a bundle cannot be run, or two bundles
        that are the same.
    """
    check_providers(providers)
    each = list(product(models, dict.fromkeys(precisions), dict.fromkeys(providers)))
    used = [_used(*run) for run in each]
    if len({(bundle, provider) for bundle, (*_, provider) in zip(used, each, strict=True)}) < len(used):
        raise InputError("--model names the same bundle twice; give different ones")
    found = []
    for (model, precision, provider), bundle in zip(each, used, strict=True):
        files = {other.sha256 for other in used if (other.name, other.precision) == (bundle.name, bundle.precision)}
        called = f"{bundle.name} {bundle.precision}" + (f" {bundle.sha256[:6]}" if len(files) > 1 else "")
        chosen = [*(["--model", model] if model else []), *(["--precision", precision] if precision else [])]
        for count in dict.fromkeys(threads):
            command = _tracking(_CONTESTANT, count, num_hands, *chosen, "--system", "ours", "--provider", provider)
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


def reference(clone: str | None, assets: str | None, model: str | None, threads: int, num_hands: int) -> Entrant:
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
    model = model or shipped("fp32")
    command = _tracking(_REFERENCE, threads, num_hands, "--model", model, "--clone", clone, "--assets", assets)
    mend = "it needs PyTorch (pip install '.[export]') and the files that benchmarks/README.md names"
    return Entrant("reference network + SLSQP", "reference", command, mend, _used(model), threads)


def _tracking(script: Path, threads: int, num_hands: int, *more: str) -> tuple[str, ...]:
    """Return the command of a script that tracks."""
    # Safe path: the script's folder must not stand before the standard library.
    start = (sys.executable, "-P", str(script), "--threads", str(threads), "--num-hands", str(num_hands))
    return *start, *more


def _used(model: str | None, precision: str | None = None, provider: str = CPU[0]) -> BundleUsed:
    """Open a bundle, so that what is damaged is refused before anything runs."""
    bundle = open_bundle(model, precision, providers=[provider])
    name = next((key for key, file in SHIPPED.items() if file == bundle.source), "fp32")
    content = Path(model or shipped(name)).read_bytes()
    return BundleUsed(bundle.name, hashlib.sha256(content).hexdigest(), bundle.run_in)
