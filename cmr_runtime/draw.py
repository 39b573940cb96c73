# SPDX-License-Identifier: Apache-2.0
"""Pictures of results: shaded mesh, contour and skeleton over the image, and sheets of many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from .arguments import check_image
from .camera import Camera
from .results import Hand

__all__ = ["contact_sheet", "draw_hands", "draw_mesh", "thumbnail"]

_Image = npt.NDArray[np.uint8]

#: Thumb to little finger, RGB; of another skeleton, the branches at its first joint in turn.
FINGERS = ((255, 159, 67), (254, 211, 48), (46, 204, 113), (52, 172, 224), (165, 94, 234))
#: Skin of the drawn mesh, RGB, by side.
SKIN = {"right": (120, 190, 255), "left": (255, 165, 140)}
_CONTOUR = (255, 255, 255)
_WRIST = (235, 235, 235)
# Sub-pixel bits of OpenCV's drawing calls.
_BITS = 4
# Directions to the lights in the camera frame, and their strength: a key light from the upper left, a weak fill.
_LIGHTS = (((-0.5, -0.7, -0.6), 0.72), ((0.8, 0.2, -0.5), 0.24))
_AMBIENT = 0.32
#: Side of a picture on a sheet, pixels.
CELL = 224


def draw_hands(
    image: _Image,
    hands: Sequence[Hand],
    *,
    mesh: bool = True,
    skeleton: bool = True,
    contour: bool = True,
    opacity: float = 0.75,
    zoom: int = 1,
) -> _Image:
    """Draw hands on a copy of the image, far ones first.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB, the image given to the tracker.
    hands : sequence of Hand
        Its results.
    mesh, skeleton, contour : bool
        What to draw.
    opacity : float
        Of the mesh, 0 to 1.
    zoom : int
        Factor by which the picture is enlarged, for finer lines on small images.

    Returns
    -------
    (zoom·H, zoom·W, 3) uint8

    Raises
    ------
    InputError
        An image of another type or shape.
    """
    canvas = check_image(image).copy()
    if zoom != 1:
        size = (zoom * image.shape[1], zoom * image.shape[0])
        canvas = cast("_Image", cv2.resize(canvas, size, interpolation=cv2.INTER_CUBIC))
    for hand in sorted(hands, key=lambda h: -h.translation[2]):
        if mesh:
            colour = SKIN[hand.handedness]
            canvas = draw_mesh(canvas, hand.vertices, hand.faces, hand.camera, colour, opacity=opacity, zoom=zoom)
        width = _line_width(hand, zoom)
        if contour and len(hand.silhouette):
            cv2.polylines(canvas, [_fixed(hand.silhouette, zoom)], True, _CONTOUR, width, cv2.LINE_AA, _BITS)
        if skeleton:
            _skeleton(canvas, hand, width, zoom)
    return canvas


def contact_sheet(images: Sequence[_Image]) -> _Image:
    """Many pictures as one, row by row; each is fitted into a square of `CELL` pixels on a dark ground."""
    columns = max(1, math.ceil(math.sqrt(len(images))))
    rows = max(1, math.ceil(len(images) / columns))
    sheet = np.full((rows * CELL, columns * CELL, 3), 24, np.uint8)
    for number, image in enumerate(images):
        small = thumbnail(image)
        height, width = small.shape[:2]
        y = number // columns * CELL + (CELL - height) // 2
        x = number % columns * CELL + (CELL - width) // 2
        sheet[y : y + height, x : x + width] = small
    return sheet


def thumbnail(image: _Image) -> _Image:
    """Fit an image, (H, W, 3) uint8, into a square of `CELL` pixels, as a `contact_sheet` shows it."""
    height, width = image.shape[:2]
    shrink = CELL / max(height, width)
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    return cast("_Image", cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrink < 1 else cv2.INTER_CUBIC))


def draw_mesh(
    image: _Image,
    vertices: npt.ArrayLike,
    faces: npt.NDArray[np.int32],
    camera: Camera,
    colour: tuple[int, int, int],
    *,
    opacity: float = 1.0,
    zoom: int = 1,
) -> _Image:
    """Draw a mesh on a copy of the image: the triangles that face the camera, far ones first, softly shaded.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB.
    vertices : (V, 3) array
        Metres, camera frame; a mesh that is not wholly in front of the camera is not drawn.
    faces : (F, 3) array of int
        Triangles, counter-clockwise seen from outside.
    camera : Camera
        Of the image before it was enlarged.
    colour : (red, green, blue)
        In full light, 0 to 255.
    opacity : float
        0 to 1.
    zoom : int
        Factor by which the image was enlarged.

    Returns
    -------
    (H, W, 3) uint8

    Raises
    ------
    InputError
        An image of another type or shape.
    """
    image = check_image(image)
    points = np.asarray(vertices, dtype=np.float64)
    if not len(points) or not (points[:, 2] > 0.01).all():
        return image.copy()
    corners = points[faces]  # (F, 3, 3)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    middle = corners.mean(axis=1)
    facing = (normals * middle).sum(axis=1) < 0
    order = np.flatnonzero(facing)[np.argsort(-middle[facing, 2])]

    smooth = _smooth_normals(len(points), faces, normals)
    light = np.full(len(normals), _AMBIENT)
    for direction, strength in _LIGHTS:
        towards = np.array(direction) / np.linalg.norm(direction)
        light += strength * np.clip(smooth @ towards, 0.0, None)
    colours = np.clip(light[:, None] * np.array(colour), 0, 255).astype(int)

    pixels = _fixed(camera.project(points), zoom)[faces]
    layer, covered = image.copy(), np.zeros(image.shape[:2], np.uint8)
    for k in order:
        cv2.fillConvexPoly(layer, pixels[k], colours[k].tolist(), cv2.LINE_8, _BITS)
        cv2.fillConvexPoly(covered, pixels[k], 255, cv2.LINE_8, _BITS)
    blend = cv2.GaussianBlur(covered, (3, 3), 0).astype(np.float32)[..., None] * (opacity / 255.0)
    mixed = image * (1.0 - blend) + layer * blend
    return cast("_Image", np.rint(mixed).astype(np.uint8))


def _smooth_normals(
    count: int, faces: npt.NDArray[np.int32], normals: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Average triangles' normals (weighted by area) over the neighbours that share a vertex; unit length."""
    shared = np.zeros((count, 3))
    for corner in faces.T:
        np.add.at(shared, corner, normals)
    mean = shared[faces].sum(axis=1)
    smooth: npt.NDArray[np.float64] = mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
    return smooth


def _skeleton(canvas: _Image, hand: Hand, width: int, zoom: int) -> None:
    points, parents = _fixed(hand.keypoints, zoom), hand.joint_parents.tolist()
    colours, branches = [_WRIST], 0
    for joint, parent in enumerate(parents[1:], 1):
        colours.append(colours[parent] if parent else FINGERS[branches % len(FINGERS)])
        branches += not parent
        ends = points[parent].tolist(), points[joint].tolist()
        cv2.line(canvas, *ends, colours[joint], width, cv2.LINE_AA, _BITS)
    radius = round((width + 1.5) * (1 << _BITS))
    for point, colour in zip(points, colours, strict=True):
        cv2.circle(canvas, point.tolist(), radius, (20, 20, 20), -1, cv2.LINE_AA, _BITS)
        cv2.circle(canvas, point.tolist(), radius * 3 // 4, colour, -1, cv2.LINE_AA, _BITS)


def _line_width(hand: Hand, zoom: int) -> int:
    return max(1, round(zoom * hand.roi.size / 250))


def _fixed(points: npt.ArrayLike, zoom: int) -> npt.NDArray[np.int32]:
    """Pixels as OpenCV's fixed-point numbers, kept within what its drawing calls take."""
    pixels = (np.asarray(points, dtype=np.float64) + 0.5) * zoom - 0.5
    return cast("npt.NDArray[np.int32]", np.rint(np.clip(pixels, -8e3, 4e4) * (1 << _BITS)).astype(np.int32))
