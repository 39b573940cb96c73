# SPDX-License-Identifier: Apache-2.0
"""Frames with exact ground truth for the registration: the project's own hand, posed, seen and measured with errors.

One pixel of an error is a pixel of a crop of 224, as the network's input is often given; the crop is the one that the
tracker would look at. The silhouette is the map that the mesh stage would give: the share of each cell that the posed
mesh covers, from 8 × 8 samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch

from cmr_models.hand import ROOT_JOINT, HandModel, HandTopology, load_hand
from cmr_models.synth.pose import neutral_angles, sample_poses, sample_shapes
from cmr_models.synth.raster import rasterise
from cmr_models.synth.rng import Rng
from cmr_models.synth.view import sample_rotations
from cmr_runtime import Camera
from cmr_runtime.roi import Roi

__all__ = ["DISTANCES", "MESHES", "SILHOUETTES", "Condition", "Frame", "Scene", "make_frames", "make_scenes"]

FloatArray = npt.NDArray[np.float64]

CAMERA = Camera(1000.0, 1000.0, 639.5, 479.5, 1280, 960)

CROP = 224
"""Side of the crop in which errors are given, pixels."""

CROP_SCALE = 1.7
"""Side of the crop over the keypoints' box; `HandMeshTracker` cuts closer, at 1.5, where a pixel is smaller."""

NETWORK, CELLS, SAMPLES = 160, 80, 8
"""Side of the network's input, of its silhouette map, and samples per cell along each axis."""

DISTANCES = (0.25, 1.5)
SILHOUETTES = ("clean", "3 px noise", "third occluded", "cut by border")
MESHES = ("exact", "5 mm", "5 % size")

OUTLIER = (15.0, 60.0)
"""Shift of an outlying joint, pixels."""

SMOOTHNESS = 12.0
"""Scale, in pixels, on which the silhouette's noise varies: about a finger's width."""

CUT = (0.15, 0.4)
"""Share of the hand's box beyond the border."""

ANGLE_ERROR, TURN_ERROR, SHAPE_ERROR = 0.15, 0.08, 0.6
"""How the 5 mm of a wrong mesh come about: joint angles and view in radians, shape in standard deviations."""


class Condition(NamedTuple):
    """What is wrong with the observations of one cell of the table."""

    noise: float = 0.0
    """Standard deviation of the keypoints per axis, pixels."""
    outliers: int = 0
    """Keypoints somewhere else."""
    silhouette: str = "clean"
    mesh: str = "exact"
    distance: tuple[float, float] = DISTANCES
    """Of the root, metres; drawn uniformly in the logarithm."""
    size: float | None = 1.0
    """True size over the mesh's; None draws it from the scale prior of the registration."""


class Scene(NamedTuple):
    """One true hand, root-relative in the camera's orientation, where it is, and what a perfect eye would see."""

    vertices: FloatArray
    joints: FloatArray
    vertices_wrong: FloatArray
    joints_wrong: FloatArray
    translation: FloatArray
    roi: Roi
    fine: npt.NDArray[np.uint8]
    """Silhouette (CELLS · SAMPLES)² of the crop, 0 or 1."""


class Frame(NamedTuple):
    """What a solver is given, and the truth."""

    vertices: FloatArray
    joints: FloatArray
    keypoints: FloatArray
    scores: FloatArray
    silhouette: npt.NDArray[np.float32]
    """(CELLS, CELLS) probabilities."""
    roi: Roi
    camera: Camera
    translation: FloatArray


def make_scenes(count: int, distance: tuple[float, float] = DISTANCES, seed: int = 0) -> list[Scene]:
    """Draw hands, poses, views and places from the samplers of the data engine."""
    hand = load_hand()
    model = HandModel(hand, torch.float64)
    rng = Rng(seed)
    angles = (sample_poses(rng, count) - neutral_angles(hand)).double()
    shape = sample_shapes(rng, count, model.shape_count).double()
    rotation = sample_rotations(rng, count).double()
    vertices, joints = _posed(model, angles, shape, rotation)
    turn = torch.linalg.matrix_exp(_skew(rng.normal(count, 3, sigma=TURN_ERROR).double()))
    vertices_wrong, joints_wrong = _posed(
        model,
        angles + rng.normal(*angles.shape, sigma=ANGLE_ERROR).double(),
        shape + rng.normal(*shape.shape, sigma=SHAPE_ERROR).double(),
        turn @ rotation,
    )
    # The same direction of error at the length asked for.
    length = (vertices_wrong - vertices).norm(dim=2).mean(1)[:, None, None]
    vertices_wrong = vertices + 0.005 / length * (vertices_wrong - vertices)
    joints_wrong = joints + 0.005 / length * (joints_wrong - joints)
    depth = rng.log_uniform(*distance, count).double().numpy()
    place = rng.uniform(0.0, 1.0, count, 2).double().numpy()
    scenes = []
    for k, arrays in enumerate(zip(vertices, joints, vertices_wrong, joints_wrong, strict=True)):
        given = [array.numpy() for array in arrays]
        translation = _place(given[0], depth[k], place[k])
        roi = Roi.around(CAMERA.project(given[1] + translation), CROP_SCALE)
        scenes.append(Scene(*given, translation, roi, _silhouette(hand, given[0] + translation, roi)))
    return scenes


def make_frames(scenes: Sequence[Scene], condition: Condition, seed: int = 0) -> list[Frame]:
    """Measure each scene with the errors of a condition; the same seed draws the same errors."""
    return [_measure(scene, condition, np.random.default_rng([seed, k])) for k, scene in enumerate(scenes)]


def _posed(
    model: HandModel, angles: torch.Tensor, shape: torch.Tensor, rotation: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    posed = model(angles, shape)
    vertices, joints = (
        points @ rotation.transpose(1, 2) for points in (posed.vertices[:, model.vertex_index], posed.joints)
    )
    root = joints[:, ROOT_JOINT : ROOT_JOINT + 1].clone()
    return vertices - root, joints - root


def _skew(axis: torch.Tensor) -> torch.Tensor:
    x, y, z = axis.unbind(1)
    zero = torch.zeros_like(x)
    return torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), 1).reshape(-1, 3, 3)


def _place(vertices: FloatArray, depth: float, at: FloatArray) -> FloatArray:
    """Put the hand's box anywhere in the image (or, if it is too large for that, in the middle)."""
    translation = np.array([0.0, 0.0, depth])
    for _ in range(5):  # perspective moves the box a little: repeat
        pixels = CAMERA.project(vertices + translation)
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        room = np.array([CAMERA.width, CAMERA.height]) - (high - low)
        target = np.where(room > 0, room * at, room / 2) - 0.5
        translation[:2] += (target - low) * depth / CAMERA.fx
    return translation


def _silhouette(hand: HandTopology, vertices: FloatArray, roi: Roi) -> npt.NDArray[np.uint8]:
    side = CELLS * SAMPLES
    pixels = CAMERA.project(vertices) @ (matrix := roi.matrix(side))[:, :2].T + matrix[:, 2]
    points = torch.from_numpy(np.column_stack([pixels, vertices[:, 2]]))[None].float()
    covered = rasterise(points, torch.from_numpy(hand.faces).long(), side, side, cull=False).pixel
    fine = np.zeros(side * side, np.uint8)
    fine[covered.numpy()] = 1
    return fine.reshape(side, side)


def _measure(scene: Scene, condition: Condition, rng: np.random.Generator) -> Frame:
    camera, roi = CAMERA, scene.roi
    pixel = roi.size / CROP
    keypoints = camera.project(scene.joints + scene.translation)
    keypoints = keypoints + condition.noise * pixel * rng.normal(size=keypoints.shape)
    moved = rng.permutation(len(keypoints))[: condition.outliers]
    angle, reach = rng.uniform(0, 2 * np.pi, moved.size), rng.uniform(*OUTLIER, moved.size)
    keypoints[moved] += (pixel * reach * [np.cos(angle), np.sin(angle)]).T

    fine = scene.fine
    if condition.silhouette == "3 px noise":
        fine = _warped(fine, rng)
    elif condition.silhouette == "third occluded":
        fine = _occluded(fine, rng)
    elif condition.silhouette == "cut by border":
        fine, camera, offset = _cut(fine, camera, roi, rng)
        keypoints = keypoints - offset
        roi = Roi(roi.cx - offset[0], roi.cy - offset[1], roi.size)
    coverage = fine.reshape(CELLS, SAMPLES, CELLS, SAMPLES).mean(axis=(1, 3), dtype=np.float32)

    vertices, joints = scene.vertices, scene.joints
    if condition.mesh == "5 mm":
        vertices, joints = scene.vertices_wrong, scene.joints_wrong
    factor = 1.0 + (0.05 * rng.choice([-1.0, 1.0]) if condition.mesh == "5 % size" else 0.0)
    if condition.size is None:
        factor /= 1.0 + 0.08 * rng.normal()
    else:
        factor /= condition.size
    scores = np.ones(len(keypoints))
    return Frame(factor * vertices, factor * joints, keypoints, scores, coverage, roi, camera, scene.translation)


def _warped(fine: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Move each point of the silhouette by 3 px per axis (standard deviation), neighbours alike."""
    side, per_pixel = len(fine), len(fine) / CROP
    grid = rng.normal(size=(CELLS, CELLS, 2))
    field = cv2.GaussianBlur(grid, (0, 0), SMOOTHNESS * CELLS / CROP, borderType=cv2.BORDER_REFLECT)
    field = cv2.resize(3.0 * per_pixel / field.std() * field, (side, side), interpolation=cv2.INTER_LINEAR)
    y, x = np.mgrid[:side, :side]
    at = (np.dstack([x, y]) + field).astype(np.float32)
    return cv2.remap(fine, at, None, cv2.INTER_NEAREST)


def _occluded(fine: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Hide a third of the silhouette behind something with a straight edge, of any direction."""
    y, x = np.nonzero(fine)
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * x + np.sin(angle) * y
    hidden = along > np.quantile(along, 2 / 3)
    result = fine.copy()
    result[y[hidden], x[hidden]] = 0
    return result


def _cut(
    fine: npt.NDArray[np.uint8], camera: Camera, roi: Roi, rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], Camera, FloatArray]:
    """Crop the image so that one of its borders cuts the hand; also the new image's first pixel in the old one."""
    side = len(fine)
    axis, last = rng.integers(2), bool(rng.integers(2))
    share = rng.uniform(*CUT)
    present = np.nonzero(fine.any(axis=1 - axis if axis == 0 else 1))[0] if axis else np.nonzero(fine.any(axis=0))[0]
    low, high = float(present[0]), float(present[-1])
    border = high - share * (high - low) if last else low + share * (high - low)
    # The border runs between two pixels of the image.
    centre = (roi.cx, roi.cy)[axis]
    edge = round(centre + ((border + 0.5) / side - 0.5) * roi.size)
    border = ((edge - 0.5 - centre) / roi.size + 0.5) * side - 0.5
    kept = np.arange(side) < border if last else np.arange(side) > border
    result = fine * (kept[None, :] if axis == 0 else kept[:, None])
    size = [camera.width, camera.height]
    offset = np.zeros(2)
    if last:
        size[axis] = edge
    else:
        size[axis] -= edge
        offset[axis] = edge
    cropped = Camera(camera.fx, camera.fy, camera.cx - offset[0], camera.cy - offset[1], *size)
    return result, cropped, offset
