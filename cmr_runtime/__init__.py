# SPDX-License-Identifier: Apache-2.0
"""Real-time hand meshes in camera space from one ordinary camera: the device side, without PyTorch.

A name is loaded when it is first asked for, so that a program pays for what it uses: `Camera` takes NumPy alone, the
tracker ONNX Runtime and OpenCV too.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .biomechanics import JointAngles, Violation, bone_lengths, joint_angles, violations
    from .bundle import Bundle, write_bundle
    from .camera import Camera
    from .errors import BundleError, CameraError, CmrError, InputError
    from .registration import Registrar, Registration, register, scale_from_depths
    from .results import Hand, StageTimes
    from .roi import Roi
    from .rotations import bone_rotations
    from .sequence import HandSequence
    from .smoothing import Smoothing
    from .topology import Topology
    from .tracker import HandMeshTracker

    __version__: str

__all__ = [
    "Bundle",
    "BundleError",
    "Camera",
    "CameraError",
    "CmrError",
    "Hand",
    "HandMeshTracker",
    "HandSequence",
    "InputError",
    "JointAngles",
    "Registrar",
    "Registration",
    "Roi",
    "Smoothing",
    "StageTimes",
    "Topology",
    "Violation",
    "__version__",
    "bone_lengths",
    "bone_rotations",
    "joint_angles",
    "register",
    "scale_from_depths",
    "violations",
    "write_bundle",
]

_MODULES = {
    "biomechanics": ("JointAngles", "Violation", "bone_lengths", "joint_angles", "violations"),
    "bundle": ("Bundle", "write_bundle"),
    "camera": ("Camera",),
    "errors": ("BundleError", "CameraError", "CmrError", "InputError"),
    "registration": ("Registrar", "Registration", "register", "scale_from_depths"),
    "results": ("Hand", "StageTimes"),
    "roi": ("Roi",),
    "rotations": ("bone_rotations",),
    "sequence": ("HandSequence",),
    "smoothing": ("Smoothing",),
    "topology": ("Topology",),
    "tracker": ("HandMeshTracker",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


if not TYPE_CHECKING:  # a checker that saw this function would take any name for one of the package

    def __getattr__(name: str) -> object:
        if name == "__version__":
            value = _version()
        elif name in _MODULE_OF:
            value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("cmr-runtime")
    except PackageNotFoundError:  # the sources are used without being installed
        return "0+unknown"
