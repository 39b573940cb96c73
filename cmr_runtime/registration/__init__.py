# SPDX-License-Identifier: Apache-2.0
"""Registration: where in the camera a root-relative hand is, and how far to trust that."""

from .register import register
from .registrar import Registrar
from .result import Registration

__all__ = ["Registrar", "Registration", "register"]
