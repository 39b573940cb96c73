# SPDX-License-Identifier: Apache-2.0
"""What the base install weighs: bytes on disk, time to import, time to the first hand, memory.

``python -m benchmarks.footprint`` builds the wheel, installs it with its base dependencies (of `constraints.txt`) into
a fresh environment, and measures there, in processes of their own. Linux and macOS.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple

from cmr_runtime.bench.machine import describe_machine
from cmr_runtime.errors import CmrError

# This process stays small on purpose (no NumPy): on Linux a child's ``ru_maxrss`` is never less than its parent's.

__all__ = ["ABSENT", "Installed", "bars", "import_shares", "installed", "main", "measure", "table"]

ROOT = Path(__file__).resolve().parents[1]
PROBE = Path(__file__).with_name("footprint_probe.py")
SAMPLE = ROOT / "examples" / "data" / "sample.jpg"

#: What only training, export, views and benchmarks need: a base install holds none of it.
ABSENT = ("torch", "onnx", "matplotlib", "viser")

TRACKER = "from cmr_runtime import HandMeshTracker"
STATEMENTS = ("import cmr_runtime", "from cmr_runtime import Camera", TRACKER)

MOST_IMPORT_S, MOST_COLD_S, MOST_BYTES = 0.3, 1.2, 250_000_000

_TIMED = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"
_IMPORT_LINE = re.compile(r"import time:\s*(\d+) \|\s*\d+ \|\s*(\S+)")


class Installed(NamedTuple):
    """One distribution of an environment, with the bytes of all its files."""

    name: str
    version: str
    bytes: int


def installed(site: Path) -> list[Installed]:
    """Distributions that lie in a folder of packages, the largest first; the sizes are of the files that each recorded.

    Raises
    ------
    CmrError
        A distribution has no record of its files.
    """
    found = []
    for distribution in distributions(path=[str(site)]):
        name = distribution.metadata["Name"]
        if distribution.files is None:
            raise CmrError(f"{name} in {site} has no record of its files; install it again with pip")
        paths = {Path(str(file.locate())) for file in distribution.files}
        size = sum(path.stat().st_size for path in paths if path.is_file())
        found.append(Installed(name, distribution.version, size))
    return sorted(found, key=lambda each: (-each.bytes, each.name))


def import_shares(text: str) -> dict[str, float]:
    """Seconds of ``python -X importtime`` by package, largest first; the standard library's are one share."""
    shares: Counter[str] = Counter()
    for microseconds, module in _IMPORT_LINE.findall(text):
        top = module.split(".")[0]
        shares["the standard library" if top in sys.stdlib_module_names else top] += int(microseconds)
    return {name: total / 1e6 for name, total in shares.most_common()}


def bars(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the project promises of the base install, whether it is met, and the figure seen."""
    loaded, cold = report["import_s"][TRACKER], sum(report["cold_start_s"].values())
    peak = max(report["peak_bytes"].values())
    return [
        _bar(f"import of all that a tracker takes under {MOST_IMPORT_S} s", loaded < MOST_IMPORT_S, f"{loaded:.3f} s"),
        _bar(f"first hand at most {MOST_COLD_S} s after a cold start", cold <= MOST_COLD_S, f"{cold:.3f} s"),
        _bar(f"peak memory at most {MOST_BYTES / 1e6:.0f} MB", peak <= MOST_BYTES, f"{peak / 1e6:.0f} MB"),
    ]


def _bar(what: str, met: bool, seen: str) -> dict[str, Any]:
    return {"what": what, "met": met, "seen": seen}


def measure(processes: int, frames: int) -> dict[str, Any]:
    """Build, install and measure; every time is the median over so many processes, after one that fills the caches.

    Raises
    ------
    CmrError
        The wheel does not build or install, the environment holds what it must not, or a process in it fails.
    """
    report: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "machine": describe_machine(),
        "python": sys.version.split()[0],
        "processes": processes,
    }
    with tempfile.TemporaryDirectory(prefix="cmr-footprint-") as folder:
        wheel, python = _install(Path(folder))
        report["wheel_bytes"] = wheel.stat().st_size
        (site,) = Path(folder).glob("environment/lib/python*/site-packages")
        report["installed"] = [each._asdict() for each in installed(site)]
        if extra := sorted({each["name"] for each in report["installed"]} & set(ABSENT)):
            raise CmrError(f"the base install brings {extra[0]}; only an extra of pyproject.toml may name it")
        report["import_s"] = {
            "the interpreter itself": _median([_start_s(python) for _ in range(processes + 1)]),
            **{each: _median([_import_s(python, each) for _ in range(processes + 1)]) for each in STATEMENTS},
        }
        shares = _run([python, "-I", "-X", "importtime", "-c", f"{TRACKER}; HandMeshTracker()"]).stderr
        report["import_shares_s"] = import_shares(shares)
        runs = [_probe(python, frames) for _ in range(processes + 1)]
    for key, name in (("seconds", "cold_start_s"), ("peak_bytes", "peak_bytes")):
        report[name] = {part: _median([run[key][part] for run in runs]) for part in runs[0][key]}
    privates = [run["private_bytes"] for run in runs if run["private_bytes"] is not None]
    report["private_bytes"] = statistics.median(privates) if privates else None
    report["bars"] = bars(report)
    return report


def _install(folder: Path) -> tuple[Path, str]:
    """Wheel and interpreter of a new environment with the wheel, its base dependencies, and nothing else, pip included.

    The wheel is built from a source distribution, so that nothing of an earlier build in the checkout gets into it.
    """
    _run([sys.executable, "-m", "build", "--outdir", folder / "dist", ROOT])
    (wheel,) = (folder / "dist").glob("*.whl")
    venv.create(folder / "environment", with_pip=False)
    python = folder / "environment" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--constraint", ROOT / "constraints.txt", wheel])
    return wheel, str(python)


def _start_s(python: str) -> float:
    start = time.perf_counter()
    _run([python, "-I", "-c", "pass"])
    return time.perf_counter() - start


def _import_s(python: str, statement: str) -> float:
    return float(_run([python, "-I", "-c", _TIMED.format(statement)]).stdout)


def _probe(python: str, frames: int) -> dict[str, Any]:
    command = [python, "-I", PROBE, repr(time.monotonic()), SAMPLE, SAMPLE.with_suffix(".json"), frames]
    seen: dict[str, Any] = json.loads(_run(command).stdout)
    if not seen["hands"]:
        raise CmrError(f"the tracker finds no hand in {SAMPLE.name}; export the default bundle again")
    return seen


def _median(values: Sequence[float]) -> float:
    return statistics.median(values[1:])


def _run(command: Sequence[object]) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    # A path to a checkout would have pip take the package for installed already.
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    where = tempfile.gettempdir()
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=1800, cwd=where, env=clean)
    if done.returncode:
        raise CmrError(f"{' '.join(words[:5])} … failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return done


def table(report: Mapping[str, Any]) -> str:
    """Render the report of `measure` as text; MB are millions of bytes."""
    machine = report["machine"]
    total = sum(each["bytes"] for each in report["installed"])
    cold, private = report["cold_start_s"], report["private_bytes"]
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, Python {report['python']}, "
        f"{report['date']}",
        f"load average at the start: {machine['load']}; times are medians of {report['processes']} processes",
        "",
        f"base install (wheel {report['wheel_bytes'] / 1e6:.1f} MB)",
        *(
            _row(f"{each['name']} {each['version']}", each["bytes"] / 1e6, "MB", share=each["bytes"] / total)
            for each in report["installed"]
        ),
        _row("sum", total / 1e6, "MB"),
        f"  absent: {', '.join(ABSENT)}",
        "",
        "import",
        *(_row(what, 1e3 * seconds, "ms") for what, seconds in report["import_s"].items()),
        "",
        "import by package, until a tracker is made (under -X importtime, which slows it)",
        *(_row(what, 1e3 * seconds, "ms") for what, seconds in report["import_shares_s"].items() if seconds >= 1e-3),
        "",
        "cold start to the first hand",
        *(_row(what, 1e3 * seconds, "ms") for what, seconds in cold.items()),
        _row("sum", 1e3 * sum(cold.values()), "ms"),
        "",
        "peak resident memory",
        *(_row(f"after {what}", size / 1e6, "MB") for what, size in report["peak_bytes"].items()),
        *([] if private is None else [_row("at the end without the pages of files (libraries)", private / 1e6, "MB")]),
        "",
        "promised",
        *(f"  {'met' if bar['met'] else 'NOT MET':9s}{bar['what']}: {bar['seen']}" for bar in report["bars"]),
    ]
    return "\n".join(lines)


def _row(what: str, value: float, unit: str, share: float | None = None) -> str:
    return f"  {what:50s}{value:9.1f} {unit}" + ("" if share is None else f"{share:7.1%}")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return 0, or 2 with one line on standard error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.footprint", description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=9, metavar="N", help="fresh processes per time (default 9)")
    parser.add_argument("--frames", type=int, default=300, metavar="N", help="of the video whose memory is measured")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    args = parser.parse_args(argv)
    for option, value in (("--processes", args.processes), ("--frames", args.frames)):
        if value < 2:
            parser.error(f"{option} is {value}; give a whole number from 2")
    try:
        report = measure(args.processes, args.frames)
    except (CmrError, subprocess.TimeoutExpired) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report, indent=2) if args.json else table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
