# SPDX-License-Identifier: Apache-2.0
"""Real-time hand meshes in camera space from one ordinary camera: the device side, without PyTorch."""

from importlib.metadata import PackageNotFoundError, version

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

try:
    __version__ = version("cmr-runtime")
except PackageNotFoundError:  # the sources are used without being installed
    __version__ = "0+unknown"

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
    "Registrar",
    "Registration",
    "Roi",
    "Smoothing",
    "StageTimes",
    "Topology",
    "__version__",
    "bone_rotations",
    "register",
    "scale_from_depths",
    "write_bundle",
]
