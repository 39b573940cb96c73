# SPDX-License-Identifier: Apache-2.0
"""Registration: where in the camera a root-relative hand is, and how far to trust that."""

from .register import register
from .registrar import Registrar
from .result import Registration
from .scale import scale_from_depths

__all__ = ["Registrar", "Registration", "register", "scale_from_depths"]
