# SPDX-License-Identifier: Apache-2.0
"""In which precision a network runs, and which is the fastest here: measured once, then remembered.

Whole numbers take two thirds of the time of floats on one processor and more than floats on another; the only way to
know is to try.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Literal

import numpy as np

from .bundle import Bundle
from .errors import InputError
from .files import write_whole
from .network import MeshStage, PriorStage
from .plan.session import kernels
from .plan.steps import read_plan
from .session import CPU, check_providers, only_cpu

__all__ = ["CHOICES", "PRECISIONS", "cache_folder", "fastest", "in_bits", "open_bundle"]

#: What may be asked for, and "auto" besides.
PRECISIONS = ("fp32", "int16", "int8")
CHOICES = (*PRECISIONS, "auto")

#: Bits of products of whole numbers, by precision: the closest to floats first.
_BITS: dict[str, Literal[8, 16]] = {"int16": 16, "int8": 8}
#: Why a bundle in floats cannot be run so.
_OBSTACLE = (
    "it takes plans of both stages, no other provider, and the compiled core on a processor with instructions for it"
)

#: Runs of each bundle, in turns so that a processor that warms up slows all alike; the first ones are not counted.
_RUNS, _WARM_UP = 15, 3
#: Entries that the cache keeps, newest last.
_ENTRIES = 64


def open_bundle(
    bundle: Bundle | str | os.PathLike[str] | None,
    precision: str | None = None,
    threads: int = 1,
    providers: Sequence[str] = CPU,
) -> Bundle:
    """Open a caller's bundle, or one of those that come with the package, to be run in a precision.

    Parameters
    ----------
    bundle : Bundle, path or None
        None is that of the package.
    precision : {"fp32", "int16", "int8", "auto"} or None
        "int16" and "int8" are `in_bits` where that can be; else "int8" is a bundle that was exported so, which the
        package has. "auto" is the fastest of them on this machine, by a measurement that is made once. None runs a
        caller's bundle as it was exported, and that of the package in the first of "int16", "int8" and "fp32" that can
        be: 16 bits change no figure; 8 bits, for Arm, which multiplies 16 no quicker than floats, change the mean in
        camera space by 0.1 mm.
    threads, providers
        Threads inside a stage and execution providers of ONNX Runtime, for that measurement.

    Raises
    ------
    InputError
        Another precision, or one in which a caller's bundle cannot be run here; or what is no bundle.
    BundleError
        The bundle is absent or damaged.
    """
    if precision is not None and precision not in CHOICES:
        raise InputError(f"precision is {precision!r}; give one of {', '.join(CHOICES)}")
    found = _opened(bundle)
    if bundle is not None and precision is None:
        return found
    if found.precision == "int8":
        if precision in ("int8", "auto"):
            return found
        raise InputError(f"precision is {precision!r}, and {found.source} was exported in int8; export it again")
    floats = found if found.bits == 32 else replace(found, bits=32)
    if precision == "fp32":
        return floats
    if precision is None:  # the first that can be: no other is tried
        return next(filter(None, (in_bits(found, bits, providers) for bits in _BITS.values())), floats)
    rounded = {name: each for name, bits in _BITS.items() if (each := in_bits(found, bits, providers))}
    if bundle is None and "int8" not in rounded:
        rounded["int8"] = Bundle.default("int8")
    if precision == "auto":
        return fastest([floats, *rounded.values()], threads, providers=providers)
    if precision not in rounded:
        mend = " or export it with `cmr-export --precision int8`" if precision == "int8" else ""
        raise InputError(
            f"precision is {precision!r}, in which {found.source} cannot be run here: {_OBSTACLE}; give 'fp32'{mend}"
        )
    return rounded[precision]


def _opened(bundle: Bundle | str | os.PathLike[str] | None) -> Bundle:
    if isinstance(bundle, Bundle):
        return bundle
    if isinstance(bundle, str | os.PathLike):
        return Bundle.open(bundle)
    if bundle is None:
        return Bundle.default("fp32")
    raise InputError(f"bundle is {bundle!r}; give a path, an open Bundle, or None for the one of the package")


def in_bits(bundle: Bundle, bits: Literal[8, 16], providers: Sequence[str] = CPU) -> Bundle | None:
    """Return a bundle in floats as one whose stages the compiled core runs with products of whole numbers.

    Products are made so where that pays, all else stays in floats; nothing is calibrated. The detector stays as it is.
    None where the bundle has no plans of both stages, the core or the processor's instructions are absent, or other
    providers are asked for.
    """
    if bundle.plan is None or not kernels(bits) or not only_cpu(providers):
        return None
    if not {"prior", "mesh"} <= read_plan(bundle.plan, bundle.source).keys():
        return None
    return bundle if bundle.bits == bits else replace(bundle, bits=bits)


def fastest(
    bundles: Sequence[Bundle], threads: int = 1, cache: Path | None = None, providers: Sequence[str] = CPU
) -> Bundle:
    """Choose the bundle whose two networks take least time on this machine.

    Parameters
    ----------
    bundles : sequence of Bundle
        At least one; usually one network in several precisions.
    threads : int
        Threads inside a stage.
    cache : Path or None
        File with what was measured before; None is ``precision.json`` in `cache_folder`. A cache that cannot be found,
        read or written costs a measurement (about 0.2 s), and nothing else.
    providers : sequence of str
        Execution providers of ONNX Runtime, the preferred one first.

    Returns
    -------
    Bundle
        One of those given: the one with the smallest median of 12 runs on a grey crop, whose content no network's time
        depends on.

    Raises
    ------
    InputError
        No bundle, or a provider that this build of ONNX Runtime lacks.
    BundleError
        A graph that does not fit its bundle.
    """
    if not bundles:
        raise InputError("no bundles to choose from; give at least one")
    tried = check_providers(providers)
    if len(bundles) == 1:
        return bundles[0]
    if cache is None:
        with contextlib.suppress(RuntimeError):  # no home folder
            cache = cache_folder() / "precision.json"
    known = {} if cache is None else _read(cache)
    key = _key(bundles, threads, tried)
    choice = known.get(key, -1)
    if not 0 <= choice < len(bundles):
        choice = _measure(bundles, threads, tried)
        if cache is not None:
            newest = {**{k: v for k, v in known.items() if k != key}, key: choice}
            content = json.dumps(dict(list(newest.items())[-_ENTRIES:]), indent=1).encode()
            with contextlib.suppress(OSError):
                cache.parent.mkdir(parents=True, exist_ok=True)
                write_whole(cache, content, "cache")
    return bundles[choice]


def cache_folder() -> Path:
    """Folder for what may be measured again: ``CMR_CACHE`` if that is set, else the usual one of the system.

    Raises `RuntimeError` where neither that nor a home folder is known.
    """
    if named := os.environ.get("CMR_CACHE"):
        return Path(named)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return Path(base or Path.home() / "AppData/Local") / "cmr-runtime"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/cmr-runtime"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cmr-runtime"


def _measure(bundles: Sequence[Bundle], threads: int, providers: Sequence[str]) -> int:
    """Place of the fastest."""
    stages = []
    for bundle in bundles:
        prior = PriorStage(bundle, threads, providers)
        mesh = MeshStage(bundle, prior, threads, providers)
        stages.append((prior, mesh, np.full((prior.size, prior.size, 3), 128, np.uint8)))
    times: list[list[float]] = [[] for _ in bundles]
    for _ in range(_RUNS):
        for (prior, mesh, crop), row in zip(stages, times, strict=True):
            start = perf_counter()
            mesh(prior(crop))
            row.append(perf_counter() - start)
    medians = [median(row[_WARM_UP:]) for row in times]
    return medians.index(min(medians))


def _key(bundles: Sequence[Bundle], threads: int, providers: Sequence[str]) -> str:
    """Return what the choice depends on: the graphs, what runs them, the machine, the threads, the providers."""
    import onnxruntime as ort

    digest = hashlib.sha256()
    for bundle in bundles:
        for part in (bundle.run_in.encode(), bundle.prior, bundle.mesh, bundle.plan or b""):
            digest.update(hashlib.sha256(part).digest())
    machine = platform.system(), platform.machine(), platform.processor(), platform.node()
    digest.update(repr((ort.__version__, kernels(), machine, os.cpu_count(), threads, *providers)).encode())
    return digest.hexdigest()


def _read(cache: Path) -> dict[str, int]:
    """Entries of a cache that are choices; whatever else it holds counts as not there."""
    try:
        content = json.loads(cache.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return {k: v for k, v in content.items() if isinstance(v, int)} if isinstance(content, dict) else {}
