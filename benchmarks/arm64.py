# SPDX-License-Identifier: Apache-2.0
"""Whether the runtime works on aarch64: its base install, its tests, and the same hand from the same image.

``python -m benchmarks.arm64`` needs no Arm machine: a Debian arm64 root runs under QEMU. `README.md` beside this file
says what is compared. Nothing is timed: emulation says nothing of speed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cmr_runtime.bundle import SHIPPED
from cmr_runtime.errors import CmrError

from .arm64_probe import BY_THE_CORE
from .arm64_root import INTERPRETER, MIRROR, RELEASE, Root
from .arm64_wheels import ROOT, build, cross_build, download, oldest_glibc

__all__ = ["TOLERANCES", "Tolerance", "compare", "holds", "main", "measure", "outcomes", "table"]

LOCATION = ROOT / ".arm64"
TESTS = ("tests/runtime", "tests/registration")
#: The extras that the device side has, and what its tests import besides.
EXTRAS, TEST_REQUIREMENTS = "mesh,view,bench", ("pytest", "hypothesis", "onnx")
SAMPLE = ("examples/data/sample.jpg", "examples/data/sample.json")

#: Seconds after which the probe, and a file of tests, is taken to hang under emulation.
_PROBE_LIMIT, TESTS_LIMIT = 900.0, 300.0

#: What ends under emulation without a word, hangs or crashes, as programs that others start now and then do there, is
#: begun again until it was tried so often. A test that fails each time has failed; the report names what was repeated.
ATTEMPTS = 5
#: Exit status of pytest where no test was chosen.
NONE_CHOSEN = 5


class Tolerance(NamedTuple):
    """How far apart two machines may be in an array of `arm64_probe`."""

    what: str
    unit: str
    limit: float


#: The same crop must give the same in float, but for the order of sums. In eight bits ONNX Runtime's sums of two
#: tensors round now and then to the neighbouring step, and what follows multiplies it; one bit of one pixel does so on
#: one x86_64 machine, by up to 0.06 and 3.9 mm in that crop. In a whole image the crops themselves differ: OpenCV's
#: builds round 8-bit samples differently when they warp and resize, and each crop is cut where the last one showed the
#: hand. So do two runs on one x86_64 machine with and without OpenCV's optimised code (`cv2.setUseOptimized`), by 1.6
#: mm and 1.9 pixels. 4 pixels are half a cell of a heat map in the sample; 2 mm are a twentieth of the standard
#: deviation that the registration gives the depth.
_SAME_CROP = {"fp32": (1e-5, 1e-3), "int8": (0.1, 5.0), BY_THE_CORE: (0.02, 1.0)}  # probability, mm
TOLERANCES = {
    **{
        f"{precision} {output}": Tolerance(f"{precision} networks, same crop: {output}", unit, limit)
        for precision in (*SHIPPED, BY_THE_CORE)
        for output, unit, limit in (
            ("heatmaps", "probability", _SAME_CROP[precision][0]),
            ("refined heatmaps", "probability", _SAME_CROP[precision][0]),
            ("silhouette", "probability", _SAME_CROP[precision][0]),
            ("vertices", "mm", _SAME_CROP[precision][1]),
        )
    },
    "image": Tolerance("sample: image as decoded", "of 255", 1),
    "hands right": Tolerance("sample: side of the hand", "of 1", 0),
    "hands vertices": Tolerance("sample: vertices", "mm", 2),
    "hands translation": Tolerance("sample: translation", "mm", 2),
    "hands keypoints": Tolerance("sample: keypoints", "px", 4),
}


def compare(here: Mapping[str, np.ndarray], there: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Hold what `arm64_probe` saw on two machines against each other.

    Parameters
    ----------
    here, there : mapping of arrays
        Positions in metres, pixels, probabilities.

    Returns
    -------
    list of dict
        For each of `TOLERANCES`, but for what this machine has no instructions for: ``what``, ``unit``, ``largest``
        difference of any element (None if the shapes differ, a value is not finite or there is none), ``limit``,
        ``met``.
    """
    found = []
    for key, (what, unit, limit) in TOLERANCES.items():
        if key.startswith(BY_THE_CORE) and key not in here:
            continue
        a, b = (side[key].astype(np.float64) if key in side else np.empty(0) for side in (here, there))
        largest = None
        if a.shape == b.shape and a.size and np.isfinite(a).all() and np.isfinite(b).all():
            largest = float(np.abs(a - b).max()) * (1e3 if unit == "mm" else 1.0)
        met = largest is not None and largest <= limit
        found.append({"what": what, "unit": unit, "largest": largest, "limit": float(limit), "met": met})
    return found


def outcomes(junit: Path) -> dict[str, Any]:
    """Count what a JUnit file of pytest tells: passed, failed (errors included), skipped; which failed, why skipped.

    Raises
    ------
    CmrError
        There is no such file: PRoot, when it is told to end, does so with success, and without pytest's last words.
    """
    try:
        cases = list(ElementTree.parse(junit).iter("testcase"))
    except (OSError, ElementTree.ParseError) as error:
        raise CmrError(f"the tests were ended from outside before they wrote {junit.name}; run them again") from error
    failures, skips = [], []
    for case in cases:
        if case.find("failure") is not None or case.find("error") is not None:
            failures.append(f"{case.get('classname')}::{case.get('name')}")
        elif (skip := case.find("skipped")) is not None:
            skips.append(str(skip.get("message")))
    passed = len(cases) - len(failures) - len(skips)
    counts = {"passed": passed, "failed": len(failures), "skipped": len(skips)}
    return {**counts, "failures": failures, "skips": sorted(set(skips))}


def measure(cache: Path, mirror: str, tests: Sequence[str], again: bool, limit: float) -> dict[str, Any]:
    """Resolve, make the root, install, test and compare.

    Raises
    ------
    CmrError
        Something is missing, or a step does not come to its end; failed tests and differences are no errors.
    """
    _say("making the root" if again or not cache.exists() else "looking at the root")
    root = Root(cache, mirror, again)
    _say("building the wheels, resolving the install for aarch64")
    built, crossed = build(cache / "dist"), cross_build(cache / "cross")
    base = download([crossed], cache / "base")
    every = download([f"{crossed}[{EXTRAS}]", *TEST_REQUIREMENTS], cache / "wheels")
    _say("installing under emulation")
    root.install(every, cache / "wheels" / crossed.name)

    suite = _suite(cache / "suite")
    here = _probe_here(built, cache / "here", suite)
    _say(f"following {SAMPLE[0]} under emulation")
    there = _probe_there(root, suite)
    with np.load(suite / "here.npz") as ours, np.load(suite / "there.npz") as theirs:
        differences = compare(ours, theirs)
    _say(f"running {', '.join(tests)} under emulation, which takes about a quarter of an hour")
    seen = _tests(root, suite, tests, limit)
    report = {
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "emulator": root.emulator,
        "root": f"Debian {RELEASE} arm64",
        "here": here,
        "there": there,
        "base": [{"file": wheel.name, "bytes": wheel.stat().st_size} for wheel in base],
        "oldest_glibc": oldest_glibc(wheel.name for wheel in base),
        "tests": {"folders": list(tests), **seen},
        "differences": differences,
    }
    return report | {"passed": holds(report)}


def holds(report: Mapping[str, Any]) -> bool:
    """Whether tests ran and none failed, all differences are met, and both machines had the compiled core in use."""
    tests, compiled = report["tests"], [report[side]["compiled"] for side in ("here", "there")]
    met = [each["met"] for each in report["differences"]]
    return tests["passed"] > 0 and not tests["failed"] and all(met) and all(compiled)


def _suite(folder: Path) -> Path:
    """Copy the tests and their data: run in the checkout, they would find its packages and not the wheel's."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "tests").mkdir(parents=True)
    for shared in (ROOT / "tests").glob("*.py"):
        shutil.copy(shared, folder / "tests")
    for name in TESTS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    bundles = (f"cmr_runtime/data/{name}" for name in SHIPPED.values())
    for name in ("pyproject.toml", *SAMPLE, *bundles):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    shutil.copy(Path(__file__).with_name("arm64_probe.py"), folder)
    return folder


def _probe_here(wheel: Path, folder: Path, suite: Path) -> dict[str, Any]:
    """Run the probe on this machine with the packages of its wheel, not with those of the checkout."""
    shutil.rmtree(folder, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    command = [sys.executable, "arm64_probe.py", *SAMPLE, "here.npz"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        command, cwd=suite, env=environment, capture_output=True, text=True, check=False, timeout=_PROBE_LIMIT
    )
    if done.returncode:
        raise CmrError(f"{SAMPLE[0]} is not followed on this machine: {done.stderr.strip()[-500:]}")
    return dict(json.loads(done.stdout))


def _probe_there(root: Root, suite: Path) -> dict[str, Any]:
    command = [INTERPRETER, "arm64_probe.py", *SAMPLE, "there.npz"]
    for _ in range(ATTEMPTS):
        answer = root.output(command, {"/suite": suite}, "/suite", _PROBE_LIMIT)
        if answer.strip():
            return dict(json.loads(answer))
        _say("it ended without a word; once more")
    raise CmrError(f"{SAMPLE[0]} is not followed under emulation: {ATTEMPTS} times PRoot ended without a word")


def _tests(root: Root, suite: Path, tests: Sequence[str], limit: float = TESTS_LIMIT) -> dict[str, Any]:
    """Run each file of tests by itself, so that what ends without a word takes no other's results with it."""
    seen: dict[str, Any] = {"passed": 0, "failed": 0, "skipped": 0, "failures": [], "skips": [], "again": []}
    for name in tests:
        folder = suite / name
        files = [f"{name}/{file.name}" for file in sorted(folder.glob("test_*.py"))] if folder.is_dir() else [name]
        for file in files:
            for key, value in _tests_of(root, suite, file, limit).items():
                seen[key] += value
    return seen | {"skips": sorted(set(seen["skips"]))}


def _tests_of(root: Root, suite: Path, file: str, limit: float) -> dict[str, Any]:
    """Run a file of tests until it passes, or fails for the last time; tell why it was repeated."""
    command = [INTERPRETER, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider"]
    command += ["--junitxml=/suite/results.xml", file]
    results, again = suite / "results.xml", []
    for attempt in range(ATTEMPTS):
        results.unlink(missing_ok=True)
        try:
            # What pytest prints goes where a person sees it and a JSON reader does not.
            status = root.run(command, {"/suite": suite}, "/suite", limit, stdout=sys.stderr)
            why = f"exit status {status}"
        except CmrError as error:  # it hangs
            status, why = -1, str(error)
        ended = status in (0, 1, NONE_CHOSEN) and results.exists()  # all passed, some failed, all of them slow
        if ended and status == 1:
            why = ", ".join(outcomes(results)["failures"])
        if ended and (status != 1 or attempt == ATTEMPTS - 1):
            break
        again.append(f"{file}: {why}")
        _say(f"{again[-1]}; once more")
    return outcomes(results) | {"again": again}


def _say(what: str) -> None:
    print(f"arm64: {what}", file=sys.stderr, flush=True)


def table(report: Mapping[str, Any]) -> str:
    """Render the report of `measure` as text; MB are millions of bytes."""
    here, there, tests = report["here"], report["there"], report["tests"]
    total = sum(each["bytes"] for each in report["base"])
    lines = [
        f"{report['root']}, Python {there['python']}, {there['libc']}, under {report['emulator']}, {report['date']}",
        "nothing here is timed: emulation says nothing of speed",
        "",
        f"base install on aarch64, from glibc {report['oldest_glibc']}",
        *(f"  {each['file']:112s}{each['bytes'] / 1e6:7.1f} MB" for each in report["base"]),
        f"  {'sum':112s}{total / 1e6:7.1f} MB",
        "",
        f"compiled core: {_in_use(here)} on {here['machine']}, {_in_use(there)} on {there['machine']}",
        "",
        f"tests under emulation ({', '.join(tests['folders'])}; slow ones left out)",
        f"  {tests['passed']} passed, {tests['failed']} failed, {tests['skipped']} skipped",
        *(f"  failed: {name}" for name in tests["failures"]),
        *(f"  skipped: {reason}" for reason in tests["skips"]),
        *(f"  begun again: {reason}" for reason in tests["again"]),
        "",
        f"largest difference of any element between {here['machine']} and {there['machine']}",
        *(_row(each) for each in report["differences"]),
        f"  with {_versions(there)}{'' if here['versions'] == there['versions'] else f'; here {_versions(here)}'}",
        "",
        "passed" if report["passed"] else "NOT PASSED",
    ]
    return "\n".join(lines)


def _row(each: Mapping[str, Any]) -> str:
    seen = "not comparable" if each["largest"] is None else f"{each['largest']:.2g} {each['unit']}"
    met = "" if each["met"] else "  EXCEEDED"
    return f"  {each['what']:44s}{seen:>20s}, at most {each['limit']:g}{met}"


def _in_use(told: Mapping[str, Any]) -> str:
    return "in use" if told["compiled"] else "NOT IN USE"


def _versions(told: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in told["versions"].items())


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 if all holds (`holds`), 1 if not, 2 after an error (one line)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.arm64", description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=LOCATION, metavar="DIR", help="of the root (default .arm64)")
    parser.add_argument("--debian-mirror", default=MIRROR, metavar="URL", help=f"default {MIRROR}")
    parser.add_argument("--again", action="store_true", help="replace a root that is there")
    parser.add_argument("--tests", nargs="+", default=list(TESTS), metavar="PATH", help=f"default {' '.join(TESTS)}")
    parser.add_argument(
        "--limit",
        type=float,
        default=TESTS_LIMIT,
        metavar="S",
        help=f"most seconds of a file of tests, more beside other work (default {TESTS_LIMIT:.0f})",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    args = parser.parse_args(argv)
    for path in args.tests:
        if not path.startswith(TESTS) or not (ROOT / path.partition("::")[0]).exists():
            parser.error(f"--tests {path} is no path of {' or '.join(TESTS)} in the checkout")
    try:
        report = measure(args.cache.resolve(), args.debian_mirror, args.tests, args.again, args.limit)
    except (CmrError, OSError, subprocess.TimeoutExpired) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report, indent=2) if args.json else table(report))
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
