# SPDX-License-Identifier: Apache-2.0
"""The errors that the project raises on purpose: each message names the value, the limit and the mend."""

__all__ = ["BundleError", "CameraError", "CmrError", "InputError"]


class CmrError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(CmrError, ValueError):
    """An argument (image, box, timestamp, option) is outside what the call accepts."""


class CameraError(CmrError, ValueError):
    """Camera intrinsics that describe no usable pinhole camera, or that do not belong to the image."""


class BundleError(CmrError):
    """A bundle is missing, damaged, changed, or not of the form that this version reads."""
