# SPDX-License-Identifier: Apache-2.0
"""`cmr-doctor`: what is installed, whether the bundle is whole, and whether the stages work on a drawn hand."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

# What needs more than NumPy is imported by the checks: that it is absent is for them to find.
from .bundle import Bundle
from .camera import Camera
from .command import command
from .compiled import IN_USE, OFF, state
from .errors import CmrError
from .options import up_to
from .plan.session import kernels
from .topology import Topology

__all__ = ["Check", "Report", "drawn_hand", "examine", "main"]

_PACKAGE = "cmr-runtime"
#: Packages of OpenCV: one of them is enough.
_OPENCV = (
    "opencv-python-headless",
    "opencv-python",
    "opencv-contrib-python-headless",
    "opencv-contrib-python",
)
#: Packages that only one option needs, and what for.
_OPTIONAL = {
    "trimesh": "for GLB files: pip install 'cmr-runtime[mesh]'",
    "viser": "for --view: pip install 'cmr-runtime[view]'",
    "matplotlib": "for cmr-bench --plot: pip install 'cmr-runtime[bench]'",
}
#: The drawn hand: size of the picture, its field of view in degrees, distance in metres.
_WIDTH, _HEIGHT, _FOV, _DISTANCE = 640, 480, 60.0, 0.45
_SKIN = (226, 172, 142)
_RUNS = 10


@dataclass(frozen=True)
class Check:
    """One thing looked at: whether it is as it must be, and what was seen."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Report:
    """All checks, and the median time of each stage in the self-test, milliseconds."""

    checks: list[Check] = field(default_factory=list)
    stages_ms: dict[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(check.ok for check in self.checks)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run `cmr-doctor`; returns the exit code: 0, 1 if something is wrong."""
    parser = argparse.ArgumentParser(
        prog="cmr-doctor", description="Examine the installation and a bundle, and track a hand drawn for the purpose."
    )
    parser.add_argument("--model", metavar="B", help="bundle; default: the one that comes with the package")
    parser.add_argument("--threads", type=_threads, default=1, metavar="N", help="threads inside a stage (default 1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    report = examine(options.model, options.threads)
    if options.json:
        print(json.dumps({"ok": report.ok, **asdict(report)}))
        return 0 if report.ok else 1
    for check in report.checks:
        print(f"{'ok' if check.ok else 'WRONG':<7}{check.name:<24}{check.detail}")
    for stage, time in report.stages_ms.items():
        print(f"{'':<7}{stage:<24}{time:.2f} ms")
    print("all is well" if report.ok else "something is wrong: see above")
    return 0 if report.ok else 1


def examine(model: str | None = None, threads: int = 1) -> Report:
    """Look at everything; what is wrong is in the report and raises nothing.

    Parameters
    ----------
    model : str or None
        Bundle; None is the one that comes with the package.
    threads : int
        Threads inside a stage.
    """
    report = Report()
    report.checks.append(Check("python", True, f"{platform.python_version()}, {platform.platform(terse=True)}"))
    report.checks.extend(_packages())
    report.checks.append(Check("compiled core", True, _compiled()))
    _attempt(report, "providers", _providers)
    _attempt(report, "solver", _solver)
    bundle = _attempt(report, "bundle", lambda: _bundle(model))
    if bundle is not None:
        _attempt(report, "self-test", lambda: _self_test(model, threads, report.stages_ms))
    return report


def drawn_hand(
    topology: Topology, place: npt.ArrayLike | None = None, turn: npt.ArrayLike | None = None
) -> tuple[npt.NDArray[np.uint8], Camera, npt.NDArray[np.float64]]:
    """Draw the rest shape of a bundle's mesh, flat towards the camera, its fingers up.

    Parameters
    ----------
    topology : Topology
        With a joint regressor.
    place : (3,) array or None
        Where the middle of the mesh is, metres, camera frame; None is 0.45 m before the camera.
    turn : (3, 3) array or None
        A rotation in the camera frame, away from lying flat.

    Returns
    -------
    image : (480, 640, 3) uint8
        RGB.
    camera : Camera
        Of the image.
    joints : (J, 3) float64
        Metres, camera frame.
    """
    from .draw import draw_mesh

    assert topology.joint_regressor is not None
    template = topology.template.astype(np.float64)
    joints = topology.joint_regressor.astype(np.float64) @ template
    middle = template.mean(axis=0)
    # The hand is longest from the wrist to the fingers and thinnest from its back to its palm.
    _, _, axes = np.linalg.svd(template - middle, full_matrices=False)
    up = axes[0] * (1.0 if axes[0] @ (joints.mean(axis=0) - joints[0]) >= 0 else -1.0)
    flat = np.stack([np.cross(-up, axes[2]), -up, axes[2]])
    turned = flat if turn is None else np.asarray(turn, dtype=np.float64) @ flat
    there = np.array([0.0, 0.0, _DISTANCE]) if place is None else np.asarray(place, dtype=np.float64)
    camera = Camera.from_fov(_FOV, _WIDTH, _HEIGHT)
    shade = np.linspace(90, 130, _HEIGHT)[:, None] + np.linspace(-15, 15, _WIDTH)
    ground = np.repeat(shade[..., None], 3, axis=2).astype(np.uint8)
    image = draw_mesh(ground, (template - middle) @ turned.T + there, topology.faces, camera, _SKIN)
    return image, camera, (joints - middle) @ turned.T + there


def _attempt(report: Report, name: str, look: Callable[[], Any]) -> Any:
    """Note what a look at something says or raises; return the first thing it gives."""
    try:
        value, ok, detail = look()
    except ImportError as error:
        value, ok, detail = None, False, f"{error}; install {_PACKAGE} anew, with what it requires"
    except (CmrError, OSError) as error:
        value, ok, detail = None, False, str(error)
    report.checks.append(Check(name, ok, detail))
    return value


def _threads(text: str) -> int:
    """Read the option; its limit comes with ONNX Runtime, without which no thread runs."""
    try:
        from .session import MAX_THREADS
    except ImportError:
        return 1
    return up_to(MAX_THREADS)(text)


def _packages() -> list[Check]:
    """Return the versions of what the package requires, and of the optional packages."""
    try:
        required = importlib.metadata.requires(_PACKAGE) or []
        checks = [Check(_PACKAGE, True, importlib.metadata.version(_PACKAGE))]
    except importlib.metadata.PackageNotFoundError:
        required, checks = [], [Check(_PACKAGE, True, "used from its sources, not installed")]
    for requirement in required:
        if "extra ==" not in requirement:
            name, least = re.split(r"[>=]+", requirement.split(";")[0].strip() + ">=0")[:2]
            version = next(filter(None, map(_version, _same_module(name))), None)
            ok = version is not None and _numbers(version) >= _numbers(least)
            checks.append(Check(name, ok, f"{version or 'absent'}; at least {least} is needed"))
    for name, purpose in _OPTIONAL.items():
        checks.append(Check(name, True, _version(name) or f"absent; only needed {purpose}"))
    return checks


def _compiled() -> str:
    """Tell whether the compiled core is used; without it all works, in more time."""
    if state == IN_USE:
        if not kernels():
            return f"{state}; networks by ONNX Runtime"
        bits = "".join(f" and {bits} bits" for bits in (16, 8) if kernels(bits))
        return f"{state}; it runs networks by {kernels()[0]}, in floats{bits}"
    mend = "" if state == OFF else f": install a C compiler, then {_PACKAGE} anew"
    return f"{state}; NumPy does the same, in about 1 ms more for each frame{mend}"


def _same_module(package: str) -> tuple[str, ...]:
    """Return the packages that give the same module: an app may have OpenCV with windows or more parts."""
    return (package, *_OPENCV) if package in _OPENCV else (package,)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def _providers() -> tuple[None, bool, str]:
    import onnxruntime

    providers = onnxruntime.get_available_providers()
    return None, "CPUExecutionProvider" in providers, ", ".join(providers)


def _solver() -> tuple[None, bool, str]:
    """Solve a program with OSQP, which only few hands need, and with the compiled core none."""
    from .registration.solvers import OsqpSolver

    least, most = np.array([0.1, 0.8]), np.array([2.0, 1.2])
    try:
        found = OsqpSolver().solve(np.diag([1.0, 2.0, 3.0, 4.0]), np.array([-0.1, 0.4, -0.9, -4.0]), least, most)
    except CmrError:
        raise
    except Exception as error:  # whatever it or SciPy raises where they do not fit each other or NumPy
        raise CmrError(f"OSQP does not work: {error!r}; install {_PACKAGE} anew, with what it requires") from error
    off = float(np.abs(found - [0.1, -0.2, 0.3, 1.0]).max())
    return None, off < 1e-6, f"OSQP is there; a small program is solved to {off:.0e}"


def _bundle(model: str | None) -> tuple[Bundle, bool, str]:
    """Open the bundle, which verifies every byte of it."""
    bundle = Bundle.default() if model is None else Bundle.open(model)
    size = (len(bundle.prior) + len(bundle.mesh)) / 1e6
    return bundle, True, f"{bundle.source} is whole: {bundle.name}, {bundle.licence}, {bundle.precision}, {size:.1f} MB"


def _self_test(model: str | None, threads: int, stages_ms: dict[str, float]) -> tuple[None, bool, str]:
    """Find the hand that is drawn, by the tracker's own search; the stages' times are those of its box, warm."""
    from .results import Hand, StageTimes
    from .tracker import HandMeshTracker

    with HandMeshTracker(model, mode="image", threads=threads) as tracker:
        bundle = tracker.bundle  # in the precision in which it is run
        image, camera, joints = drawn_hand(bundle.topology)
        found = tracker.track(image, camera)
    if not found:
        return None, False, "the hand drawn for the test is not found; is the bundle a network for hands?"
    root = joints[bundle.root_joint]
    box = (*(camera.project(joints).min(axis=0) - 40), *(camera.project(joints).max(axis=0) + 40))
    hands: list[Hand] = []
    with HandMeshTracker(bundle, mode="image", threads=threads) as tracker:
        for _ in range(_RUNS):
            hands += tracker.track(image, camera, rois=[box])
    if not hands:
        return None, False, "the hand drawn for the test is found by searching, but not in its own box"
    for name in (part.name for part in fields(StageTimes)):
        times = [getattr(hand.times, name) for hand in hands]
        if any(times):  # a box is not searched for, a single image not smoothed
            stages_ms[name] = float(np.median(times))
    stages_ms["total"] = float(np.median([hand.times.total for hand in hands]))
    off = np.abs(found[0].translation - root)
    # A network that is unsure of everything must not widen its own limit: beyond a quarter of the distance it is wrong.
    limit = np.minimum(4.0 * found[0].registration.sigma + 0.02, _DISTANCE / 4)
    distance = f"{1e3 * np.linalg.norm(off):.0f} mm from its place ({_DISTANCE:g} m away)"
    detail = f"a drawn hand is found {distance}, in {bundle.run_in}"
    if not (fits := bool((off <= limit).all())):
        detail += "; do the weights, the mesh's unit and the order of the joints fit?"
    return None, fits, detail


if __name__ == "__main__":
    sys.exit(main())
