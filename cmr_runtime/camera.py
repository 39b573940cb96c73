# SPDX-License-Identifier: Apache-2.0
"""A pinhole camera: intrinsics, projection, rays, and the rotation towards a ray."""

from __future__ import annotations

import json
import math
import os
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .compiled import core, taken
from .errors import CameraError, InputError
from .values import is_number

__all__ = ["Camera", "read_intrinsics"]

#: Shortest focal length, and largest value of all, pixels: far beyond real cameras, and what a registration can take.
_LEAST_FOCAL, _MOST = 1e-3, 1e7
#: Difference of two pictures' shapes (width over height) up to which one is the other made larger or smaller.
_SAME_SHAPE = 0.01
#: Displacement by the lens beyond which an undistorted camera is no longer good enough, share of the image's width.
DISTORTED = 0.005


@dataclass(frozen=True)
class Camera:
    """Intrinsics of an undistorted pinhole camera, in pixels of the image given to the tracker.

    The camera frame is OpenCV's (x right, y down, z forward); the centre of the top-left pixel is (0, 0).

    Parameters
    ----------
    fx, fy : float
        Focal lengths, pixels.
    cx, cy : float
        Principal point, pixels; it may lie outside the image (a crop of a larger one).
    width, height : int
        Size of the image, pixels.

    Raises
    ------
    CameraError
        A value that is no finite number, a focal length or size that is not positive, or one beyond ten million pixels.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def __post_init__(self) -> None:
        for name in ("fx", "fy", "cx", "cy"):
            value = getattr(self, name)
            if not is_number(value):
                raise CameraError(f"camera {name} is {value!r}; give a number of pixels")
            number = float(value)
            least = _LEAST_FOCAL if name in ("fx", "fy") else -_MOST
            if not least <= number <= _MOST:
                raise CameraError(f"camera {name} is {number}; give {least:g} to {_MOST:g} pixels")
            object.__setattr__(self, name, number)
        for name in ("width", "height"):
            object.__setattr__(self, name, _size(name, getattr(self, name)))

    @classmethod
    def from_matrix(cls, matrix: npt.ArrayLike, width: int, height: int) -> Camera:
        """Camera from a 3×3 matrix ``[[fx, 0, cx], [0, fy, cy], [0, 0, 1]]`` in pixels.

        Raises
        ------
        CameraError
            Another shape, values that are not finite, skew, or a last row other than (0, 0, 1).
        """
        try:
            given = np.asarray(matrix)
            k = np.empty(0) if given.dtype.kind == "c" else given.astype(np.float64)
        except (TypeError, ValueError, OverflowError):
            k = np.empty(0)
        if not k.size:
            raise CameraError("camera matrix holds values that are not numbers; give 3×3 numbers")
        if k.shape != (3, 3):
            raise CameraError(f"camera matrix has shape {k.shape}; give 3×3")
        if not np.isfinite(k).all():
            raise CameraError(f"camera matrix holds values that are not finite: {k.tolist()}")
        if np.abs(k[2] - (0.0, 0.0, 1.0)).max() > 1e-6:
            raise CameraError(
                f"last row of the camera matrix is {k[2].tolist()}; divide the matrix to make it [0, 0, 1]"
            )
        skew = max(abs(k[0, 1]), abs(k[1, 0]))
        if skew > 1e-6 * max(abs(k[0, 0]), 1.0):
            raise CameraError(f"camera matrix has skew {skew:g}; rectify the image first, only 0 is supported")
        return cls(float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]), width, height)

    @classmethod
    def from_fov(cls, degrees_horizontal: float, width: int, height: int) -> Camera:
        """Camera with square pixels, the principal point in the middle and a horizontal field of view.

        Parameters
        ----------
        degrees_horizontal : float
            Angle between the left and the right edge of the image, degrees, between 0 and 180 (neither included).
        width, height : int
            Size of the image, pixels.

        Raises
        ------
        CameraError
            An angle out of range, or a value that is no number.
        """
        if not is_number(degrees_horizontal):
            raise CameraError(f"field of view is {degrees_horizontal!r}; give a number of degrees between 0 and 180")
        if not 0.0 < degrees_horizontal < 180.0:
            raise CameraError(f"field of view is {degrees_horizontal}°; give degrees between 0 and 180")
        width, height = _size("width", width), _size("height", height)
        focal = 0.5 * width / math.tan(0.5 * math.radians(degrees_horizontal))
        return cls(focal, focal, 0.5 * (width - 1), 0.5 * (height - 1), width, height)

    @classmethod
    def from_json(cls, path: str | os.PathLike[str], width: int | None = None, height: int | None = None) -> Camera:
        """Camera from a JSON file, such as `cmr-calibrate` writes.

        Parameters
        ----------
        path : path
            File with the keys ``fx``, ``fy``, ``cx``, ``cy`` and, as a rule, ``width`` and ``height``, all in pixels,
            at its top or under ``camera``. A ``distortion`` is not applied: where it moves points by more than 0.5 % of
            the width, by ``displacement_px``, a warning says so. Other keys are not read.
        width, height : int, optional
            Size of the images, pixels, if it is another than the file's (see `resized`) or the file tells none.

        Raises
        ------
        InputError
            The file cannot be read, is no such file, or tells no size and none is given.
        CameraError
            Its numbers make no camera, or one of images of another shape.

        Examples
        --------
        >>> camera = Camera.from_json("camera.json", 1280, 720)  # doctest: +SKIP
        """
        (fx, fy, cx, cy), known = read_intrinsics(path)
        if width is None and height is None:
            if known is None:
                raise InputError(
                    f"camera file {path} does not tell the size of the images; add width and height to it, or give them"
                )
            return cls(fx, fy, cx, cy, *known)
        size = _size("width", width), _size("height", height)
        return cls(fx, fy, cx, cy, *(known or size)).resized(*size)

    def resized(self, width: int, height: int) -> Camera:
        """Camera of the same images made larger or smaller.

        Raises
        ------
        CameraError
            A size of another shape: width over height differs by more than a hundredth.
        """
        width, height = _size("width", width), _size("height", height)
        larger = width / self.width
        if abs(larger * self.height / height - 1.0) > _SAME_SHAPE:
            raise CameraError(
                f"camera is for images of {self.width}×{self.height} pixels; this one has {width}×{height}, which is "
                "another shape: calibrate the camera in the mode that it is used in"
            )
        # Edges of images stay edges; they are half a pixel outside the centres of the outermost pixels.
        shift = 0.5 * (larger - 1.0)
        cx, cy = self.cx * larger + shift, self.cy * larger + shift
        return Camera(self.fx * larger, self.fy * larger, cx, cy, width, height)

    @cached_property
    def pinhole(self) -> tuple[float, float, float, float]:
        """fx, fy, cx and cy, pixels."""
        return self.fx, self.fy, self.cx, self.cy

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """Intrinsics as a 3×3 matrix, pixels."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def project(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Pixels of points in front of the camera.

        Parameters
        ----------
        points : (..., 3) array
            Camera frame, any unit of length; z above 0. A point behind the camera has no image: its pixel is NaN.

        Returns
        -------
        (..., 2) array
            Pixels.
        """
        p = np.asarray(points, dtype=np.float64)
        if core is not None and p.shape[-1:] == (3,) and taken(p, np.float64):
            pixels = np.empty((*p.shape[:-1], 2))
            core.project(p, *self.pinhole, pixels)
            return pixels
        depth = np.where(p[..., 2] > 0, p[..., 2], np.nan)
        return np.stack([self.fx * p[..., 0] / depth + self.cx, self.fy * p[..., 1] / depth + self.cy], axis=-1)

    def ray(self, pixels: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Directions of unit length through pixels: (..., 2) pixels to (..., 3) in the camera frame."""
        p = np.asarray(pixels, dtype=np.float64)
        x = (p[..., 0] - self.cx) / self.fx
        y = (p[..., 1] - self.cy) / self.fy
        rays = np.stack([x, y, np.ones_like(x)], axis=-1)
        unit: npt.NDArray[np.float64] = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
        return unit

    def rotation_towards(self, pixel: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Smallest rotation that takes the optical axis to the ray through a pixel.

        Parameters
        ----------
        pixel : (2,) array
            Pixel of the image.

        Returns
        -------
        (3, 3) array
            Takes coordinates in a camera that looks along the ray to coordinates in this camera.
        """
        u, v = np.asarray(pixel, dtype=np.float64).tolist()
        x, y = (u - self.cx) / self.fx, (v - self.cy) / self.fy
        z = 1.0 / math.sqrt(x * x + y * y + 1.0)
        x, y = x * z, y * z
        # Rodrigues' formula about (0, 0, 1) × ray; z > 0 for every pixel, so 1 + z never vanishes.
        k = 1.0 / (1.0 + z)
        return np.array([[1.0 - k * x * x, -k * x * y, x], [-k * x * y, 1.0 - k * y * y, y], [-x, -y, z]])


def read_intrinsics(path: str | os.PathLike[str]) -> tuple[tuple[float, float, float, float], tuple[int, int] | None]:
    """Return fx, fy, cx and cy from a JSON file, and the size of its images if it tells it; see `Camera.from_json`."""
    try:
        table = json.loads(Path(path).read_bytes())
        table = table.get("camera", table)
        values = [table[key] for key in ("fx", "fy", "cx", "cy")]
        sized = "width" in table and "height" in table
        camera = Camera(*values, *((table["width"], table["height"]) if sized else (1, 1)))  # refuses what makes none
        bent = sized and float(table.get("displacement_px", 0.0)) > DISTORTED * camera.width
    except OSError as error:
        raise InputError(f"camera file {path} cannot be read: {error.strerror or error}") from error
    except CameraError as error:
        raise CameraError(f"camera file {path}: {error}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(
            f"camera file {path} holds no camera ({error!r}); give JSON with fx, fy, cx, cy, width and height in "
            "pixels, as cmr-calibrate writes it"
        ) from None
    if bent:
        warnings.warn(
            f"camera file {path} tells of a lens that moves points by up to {table['displacement_px']} pixels; images "
            "are taken for undistorted: cv2.undistort(image, camera.matrix, distortion) first",
            stacklevel=3,
        )
    return (camera.fx, camera.fy, camera.cx, camera.cy), (camera.width, camera.height) if sized else None


def _size(name: str, value: Any) -> int:
    """Width or height of an image, checked."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 < value <= _MOST:
        raise CameraError(f"camera {name} is {value!r}; give the image's size, a whole number of 1 to {_MOST:g}")
    return int(value)
