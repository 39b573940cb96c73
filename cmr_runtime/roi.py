# SPDX-License-Identifier: Apache-2.0
"""A square region of the image: crop it for the network, map points back, turn meshes back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from .camera import Camera
from .compiled import core, taken
from .errors import InputError

__all__ = ["Roi", "normalise"]

# Image pixels per crop pixel above which bilinear sampling skips pixels, so that the image is averaged down first.
_ALIASING = 2.0
# What may be left of them by halving; above it each pixel is averaged with its neighbours once more.
_LEFT = math.sqrt(2.0)
# From pixels of what an image was averaged down to, to its own: times a factor, then so far right and down.
_Shift = tuple[float, float, float]
# Largest side, pixels: several times the largest that a tracker takes.
_MOST = 4e6
# Joints of a hand, and those whose connection points along it.
_JOINTS, _WRIST, _KNUCKLE = 21, 0, 9
# Part of the joints' extent under which that connection says nothing about the hand's direction.
_FORESHORTENED = 0.25


@dataclass(frozen=True)
class Roi:
    """A square in the image, possibly turned, mirrored, or partly outside the image.

    Attributes
    ----------
    cx, cy : float
        Centre, pixels (the centre of the top-left pixel is (0, 0)).
    size : float
        Side, pixels.
    angle : float
        Turn of the crop's x axis from the image's x axis towards its y axis (clockwise as seen), radians.
    mirrored : bool
        The crop shows the square mirrored left to right, so that a left hand looks like a right one.
    """

    cx: float
    cy: float
    size: float
    angle: float = 0.0
    mirrored: bool = False

    def __post_init__(self) -> None:
        finite = math.isfinite  # a video makes one for each frame
        try:
            given = finite(self.cx) and finite(self.cy) and finite(self.size) and finite(self.angle)
        except (TypeError, OverflowError):
            given = False
        if not given:
            values = (self.cx, self.cy, self.size, self.angle)
            raise InputError(f"box (cx, cy, size, angle) is {values}; give finite numbers")
        if not 0 < self.size <= _MOST:
            raise InputError(f"box has size {self.size}; give more than 0 pixels, and at most {_MOST:g}")

    @classmethod
    def from_box(cls, box: Sequence[float] | npt.NDArray[np.generic]) -> Roi:
        """Region of a box (x0, y0, x1, y1), edges in pixels as in array slices: (0, 0, W, H) is the whole image.

        A box that is not square becomes the smallest square around it with the same centre.

        Raises
        ------
        InputError
            Not four finite numbers, or x1 ≤ x0 or y1 ≤ y0.
        """
        try:
            values = np.asarray(box)
        except ValueError:
            values = np.array(None)
        if values.shape != (4,) or values.dtype.kind not in "iuf":
            raise InputError(f"box is {box!r}; give four numbers (x0, y0, x1, y1)")
        x0, y0, x1, y1 = values.tolist()
        if not all(math.isfinite(value) for value in (x0, y0, x1, y1)):
            raise InputError(f"box is {(x0, y0, x1, y1)}; give finite numbers")
        if x1 <= x0 or y1 <= y0:
            raise InputError(f"box {(x0, y0, x1, y1)} is empty; x1 must exceed x0, and y1 must exceed y0")
        return cls(0.5 * (x0 + x1) - 0.5, 0.5 * (y0 + y1) - 0.5, max(x1 - x0, y1 - y0))

    @classmethod
    def around(cls, points: npt.ArrayLike, scale: float, angle: float = 0.0, mirrored: bool = False) -> Roi:
        """Square around points.

        Parameters
        ----------
        points : (N, 2) array
            Pixels of the image.
        scale : float
            Side of the square as a multiple of the larger side of the points' bounding box.
        angle : float
            Turn of the square, radians; the bounding box is taken along its axes.
        mirrored : bool
            Carried over to the region.
        """
        p = np.asarray(points, dtype=np.float64)
        return cls(*_square(p, scale, angle), mirrored)

    @classmethod
    def upright(cls, joints: npt.ArrayLike, scale: float, angle: float = 0.0, mirrored: bool = False) -> Roi:
        """Square around a hand's joints in which the hand points up, as most hands do that the network has seen.

        Parameters
        ----------
        joints : (J, 2) array
            Pixels of the image. What has not the 21 joints of a hand is not turned.
        scale : float
            As for `around`.
        angle : float
            Turn of the square, radians, where the direction from the wrist to the middle knuckle is too short in the
            image to tell (a hand that points at the camera).
        mirrored : bool
            Carried over to the region.
        """
        p = np.asarray(joints, dtype=np.float64)
        return cls(*_square(p, scale, angle, of_hand=len(p) == _JOINTS), mirrored)

    def flipped(self) -> Roi:
        """Return the same square, seen in a mirror (or no longer so)."""
        return replace(self, mirrored=not self.mirrored)

    def matrix(self, S: int) -> npt.NDArray[np.float64]:
        """Affine map, (2, 3), from image pixels to pixels of the S × S crop."""
        # The inverse of a similarity: its transpose over its factor squared.
        linear = (S / self.size) ** 2 * self._linear(S).T
        centre = 0.5 * (S - 1)
        return np.column_stack([linear, centre - linear @ (self.cx, self.cy)])

    def crop(self, image: npt.NDArray[np.uint8], S: int) -> npt.NDArray[np.uint8]:
        """Sample the region.

        Parameters
        ----------
        image : (H, W, 3) uint8
            Any channel order.
        S : int
            Side of the crop, pixels.

        Returns
        -------
        (S, S, 3) uint8
            Bilinear, averaged first where the crop is much coarser than the image; black outside the image.

        Raises
        ------
        InputError
            Another kind of image, or a crop without pixels.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(f"image is {image.dtype} {image.shape}; give uint8 (H, W, 3)")
        if S < 1:
            raise InputError(f"crop has a side of {S}; give at least 1 pixel")
        return self._sample(*self._source(image, S), S)

    def fill(
        self,
        image: npt.NDArray[np.uint8],
        gain: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
        planes: npt.NDArray[np.float32],
    ) -> None:
        """Sample the region as a network takes it: `crop`, channels first, times a gain, less a bias.

        Parameters
        ----------
        image : (H, W, 3) uint8
            Any channel order.
        gain, bias : (3,) float32
            By channel.
        planes : (3, S, S) float32
            Filled with the crop of that size.
        """
        S = planes.shape[-1]
        source, shift = self._source(image, S)
        if (
            core is not None
            and taken(source, np.uint8)
            and core.warp(source, *source.shape[:2], self._back(shift, S), S, gain, bias, planes)
        ):
            return
        normalise(self._sample(source, shift, S), gain, bias, planes)

    def to_image(self, points: npt.ArrayLike, S: int) -> npt.NDArray[np.float64]:
        """Pixels of the image for pixels (N, 2) of the S × S crop."""
        given = np.asarray(points)
        if core is not None and given.shape[-1:] == (2,) and taken(given, np.float32, np.float64):
            mapped = np.empty(given.shape)
            core.map_points(given, self.affine(S), mapped)
            return mapped
        turned: npt.NDArray[np.float64] = (given.astype(np.float64) - 0.5 * (S - 1)) @ self._linear(S).T
        turned += (self.cx, self.cy)
        return turned

    def rotation(self, camera: Camera) -> npt.NDArray[np.float64]:
        """Rotation, (3, 3), from the crop camera's frame to the camera's: along the ray through the centre, and turned.

        Mirroring is not part of it: negate x first (`to_camera` does).
        """
        c, s = math.cos(self.angle), math.sin(self.angle)
        turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        rotation: npt.NDArray[np.float64] = camera.rotation_towards((self.cx, self.cy)) @ turn
        return rotation

    def to_camera(self, points: npt.ArrayLike, camera: Camera) -> npt.NDArray[np.float64]:
        """Points (N, 3) relative to the hand's root, from the crop camera's frame to the camera's, unmirrored."""
        rotation = self.rotation(camera)
        if self.mirrored:
            rotation[:, 0] *= -1.0
        turned: npt.NDArray[np.float64] = np.asarray(points, dtype=np.float64) @ rotation.T
        return turned

    def overlap(self, other: Roi) -> float:
        """Intersection over union of the two squares with their turns left out, 0 to 1."""
        shared = 1.0
        for a, b in ((self.cx, other.cx), (self.cy, other.cy)):
            shared *= max(0.0, 0.5 * (self.size + other.size) - max(abs(a - b), 0.5 * abs(self.size - other.size)))
        return shared / (self.size**2 + other.size**2 - shared)

    def affine(self, S: int) -> tuple[float, float, float, float, float, float]:
        """Affine map from pixels of the S × S crop to pixels of the image: (x, y) to (a x + b y + e, c x + d y + f).

        Returns
        -------
        (a, b, c, d, e, f)
        """
        c, s, centre = self.size / S * math.cos(self.angle), self.size / S * math.sin(self.angle), 0.5 * (S - 1)
        a, b = (-c if self.mirrored else c), -s
        k, d = (-s if self.mirrored else s), c
        return a, b, k, d, self.cx - (a + b) * centre, self.cy - (k + d) * centre

    def _linear(self, S: int) -> npt.NDArray[np.float64]:
        """Linear part, (2, 2), of that map."""
        a, b, c, d, *_ = self.affine(S)
        return np.array([[a, b], [c, d]])

    def _source(self, image: npt.NDArray[np.uint8], S: int) -> tuple[npt.NDArray[np.uint8], _Shift | None]:
        """Return what to sample: the image, or what it is averaged down to and the way from there to it."""
        ratio = self.size / S
        return self._reduced(image, ratio) if ratio > _ALIASING else (image, None)

    def _sample(self, source: npt.NDArray[np.uint8], shift: _Shift | None, S: int) -> npt.NDArray[np.uint8]:
        """Sample what `_source` gave."""
        if source.size == 0:
            return np.zeros((S, S, 3), np.uint8)
        matrix = self.matrix(S)
        if shift is not None:
            factor, x0, y0 = shift
            matrix = matrix @ np.array([[factor, 0.0, x0], [0.0, factor, y0], [0.0, 0.0, 1.0]])
        # Some versions of OpenCV sample in steps of 1/32 pixel; that is far below what the network resolves.
        crop = cv2.warpAffine(source, matrix, (S, S), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        return cast("npt.NDArray[np.uint8]", crop)

    def _back(self, shift: _Shift | None, S: int) -> tuple[float, ...]:
        """Return the rows of the affine map, (2, 3), from pixels of the crop to those of what `_source` gave."""
        a, b, c, d, *_ = self.affine(S)
        x, y, centre = self.cx, self.cy, 0.5 * (S - 1)
        if shift is not None:
            factor, x0, y0 = shift
            a, b, c, d, x, y = a / factor, b / factor, c / factor, d / factor, (x - x0) / factor, (y - y0) / factor
        return a, b, x - centre * (a + b), c, d, y - centre * (c + d)

    def _reduced(self, image: npt.NDArray[np.uint8], ratio: float) -> tuple[npt.NDArray[np.uint8], _Shift]:
        """Average down the part of the image that the region touches; also the way back to the image.

        By halves, which is many times quicker than by any other factor, until less than `_ALIASING` is left; then, if
        need be, over two by two pixels without leaving any out.
        """
        halvings = int(math.log2(ratio / _ALIASING)) + 1
        factor = 2**halvings
        reach = 0.5 * self.size * (abs(math.cos(self.angle)) + abs(math.sin(self.angle))) + factor
        (x0, x1), (y0, y1) = (
            _span(centre, reach, length, factor)
            for centre, length in ((self.cx, image.shape[1]), (self.cy, image.shape[0]))
        )
        part, corner, width, height = image, (x0, y0), x1 - x0, y1 - y0
        if not (width and height):
            return image[:0], (1.0, 0.0, 0.0)
        if width % factor or height % factor:  # the whole image is no multiple; it is black outside
            right, below = -width % factor, -height % factor
            part = cv2.copyMakeBorder(image[y0:y1, x0:x1], 0, below, 0, right, cv2.BORDER_CONSTANT)  # type: ignore[assignment]
            corner, width, height = (0, 0), width + right, height + below
        for _ in range(halvings):
            width, height = width // 2, height // 2
            part, corner = _halved(part, *corner, width, height), (0, 0)
        shift = 0.5 * factor - 0.5
        if ratio / factor > _LEFT:
            part = cast("npt.NDArray[np.uint8]", cv2.blur(part, (2, 2), borderType=cv2.BORDER_CONSTANT))
            shift -= 0.5 * factor  # `blur` averages a pixel with those to its left and above
        return part, (factor, shift + x0, shift + y0)


def normalise(
    crop: npt.NDArray[np.uint8],
    gain: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
    planes: npt.NDArray[np.float32],
) -> None:
    """Fill planes, (3, S, S), with a crop, (S, S, 3): times the gain, less the bias of its channel, (3,) each."""
    np.multiply(crop.transpose(2, 0, 1), gain[:, None, None], out=planes)
    np.subtract(planes, bias[:, None, None], out=planes)


def _span(centre: float, reach: float, length: int, multiple: int) -> tuple[int, int]:
    """Part of an image's side that a region touches, its length a multiple if the image is long enough for that."""
    low = min(max(math.floor(centre - reach), 0), length)
    high = min(max(math.ceil(centre + reach) + 1, low), length)
    if high > low:
        high = min(high + (low - high) % multiple, length)
        low = max(low - (low - high) % multiple, 0)
    return low, high


def _halved(image: npt.NDArray[np.uint8], x: int, y: int, width: int, height: int) -> npt.NDArray[np.uint8]:
    """Averages over 2 × 2 pixels, (height, width, 3), of an image from pixel (x, y) on."""
    if core is not None and taken(image, np.uint8):
        half = np.empty((height, width, 3), np.uint8)
        core.halve(image, *image.shape[:2], x, y, height, width, half)
        return half
    part = image[y : y + 2 * height, x : x + 2 * width]
    return cast("npt.NDArray[np.uint8]", cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA))


def _square(
    points: npt.NDArray[np.float64], scale: float, angle: float, of_hand: bool = False
) -> tuple[float, float, float, float]:
    """Centre, side and turn of a square around points, (N, 2): by an angle, or as a hand points; NaN if a point is."""
    if core is not None and points.shape[-1:] == (2,) and points.size and taken(points, np.float64):
        ends = (_WRIST, _KNUCKLE) if of_hand else (-1, -1)
        square: tuple[float, float, float, float] = core.square(points, scale, angle, *ends, _FORESHORTENED)
        return square
    if of_hand:
        across, down = (points[_KNUCKLE] - points[_WRIST]).tolist()
        if math.hypot(across, down) > _FORESHORTENED * float(np.ptp(points, axis=0).max()):
            angle = math.atan2(across, -down)
    c, s = math.cos(angle), math.sin(angle)
    turned = points @ np.array([[c, -s], [s, c]])
    low, high = turned.min(axis=0), turned.max(axis=0)
    x, y = (0.5 * (low + high)).tolist()
    return c * x - s * y, s * x + c * y, scale * max(float((high - low).max()), 1.0), angle
