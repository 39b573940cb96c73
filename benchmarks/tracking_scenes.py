# SPDX-License-Identifier: Apache-2.0
"""A moving hand with known truth, and what a network would make of it: meshes and keypoints with errors of their own.

The project's own hand bends its fingers, turns, and moves in front of the camera along sines of one frequency; at rest
it does nothing. The errors are white in time, which is what a filter can take away: joint angles, view and size of the
mesh are off, its vertices tremble, and the keypoints are off by a pixel or two of the crop.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from cmr_models.hand import HandModel, HandTopology, load_hand
from cmr_models.synth.pose import neutral_angles, sample_poses, sample_shapes
from cmr_models.synth.rng import Rng
from cmr_models.synth.view import sample_rotations
from cmr_runtime import Camera, Hand, Registrar, Roi, StageTimes, Topology

__all__ = ["CAMERA", "ROOT", "Errors", "Motion", "move", "observe", "topology"]

FloatArray = npt.NDArray[np.float64]

CAMERA = Camera(600.0, 600.0, 319.5, 239.5, 640, 480)
ROOT = 9

MIDDLE, REACH = (0.0, 0.0, 0.5), (0.08, 0.05, 0.06)
"""Where the root moves about, and how far either way, metres."""

TURN = 0.35
"""How far the hand turns either way about each axis, radians."""

CROP, CROP_SCALE = 160, 1.7
"""Side of the crop in which keypoints are off, pixels, and over the keypoints' box."""


class Errors(NamedTuple):
    """Standard deviations of a network's errors from frame to frame: meshes off by 3 mm, depths by 1 to 2 %."""

    angle: float = 0.035  # joint angles, radians
    turn: float = 0.02  # view, radians
    size: float = 0.01  # share of the size
    vertex: float = 0.0008  # metres, each vertex for itself
    keypoint: float = 1.2  # pixels of the crop


ERRORS = Errors()


class Motion(NamedTuple):
    """A right hand over T frames, camera frame, metres."""

    times: FloatArray  # (T,) seconds
    vertices: FloatArray  # (T, V, 3)
    joints: FloatArray  # (T, J, 3)
    angles: torch.Tensor  # (T, 16, 3)
    shape: torch.Tensor  # (S,)
    rotation: FloatArray  # (T, 3, 3)


def topology(hand: HandTopology) -> Topology:
    """Mesh of the hand as a bundle would hold it."""
    parents = [0, *(0 if (j - 1) % 4 == 0 else j - 1 for j in range(1, 21))]
    return Topology(hand.template, hand.faces.astype(np.int32), hand.joint_regressor, np.array(parents, np.int32))


def _rotations(vectors: FloatArray) -> FloatArray:
    """Rotation matrices (T, 3, 3) about vectors (T, 3) by their lengths, radians."""
    return torch.linalg.matrix_exp(torch.from_numpy(np.cross(vectors[:, None], -np.eye(3)))).numpy()


def _pose(hand: HandTopology, angles: torch.Tensor, shape: torch.Tensor) -> tuple[FloatArray, FloatArray]:
    """Mesh (T, V, 3) and joints (T, J, 3) relative to the root, in the hand's own frame."""
    model = HandModel(hand)
    with torch.no_grad():
        posed = model(angles, shape.expand(len(angles), -1))
    joints = posed.joints.double().numpy()
    root = joints[:, ROOT, None]
    return posed.vertices[:, model.vertex_index].double().numpy() - root, joints - root


def move(seed: int, hertz: float, seconds: float, rate: float = 30.0, hand: HandTopology | None = None) -> Motion:
    """Make a hand that moves at a frequency.

    Parameters
    ----------
    seed : int
        Shape, poses, view and phases.
    hertz : float
        Of every motion; 0 is a hand at rest.
    seconds, rate : float
        Length, and frames a second.
    hand : HandTopology, optional
        Default: the project's.
    """
    hand = hand or load_hand()
    rng, phase = Rng(seed), np.random.default_rng(seed)
    times = np.arange(round(seconds * rate)) / rate
    waves = np.sin(2 * np.pi * (hertz * times[:, None] + phase.random(7)))
    start, end = sample_poses(rng, 2) - neutral_angles(hand)
    shape = sample_shapes(rng, 1, len(hand.shape_directions))[0]
    view = sample_rotations(rng, 1)[0].double().numpy()
    angles = torch.lerp(start, end, torch.from_numpy(0.5 + 0.5 * waves[:, 6]).float()[:, None, None])
    rotation = _rotations(TURN * waves[:, 3:6]) @ view
    place = np.array(MIDDLE) + np.array(REACH) * waves[:, :3]
    vertices, joints = (p @ rotation.transpose(0, 2, 1) + place[:, None] for p in _pose(hand, angles, shape))
    return Motion(times, vertices, joints, angles, shape, rotation)


def observe(motion: Motion, seed: int, errors: Errors = ERRORS, hand: HandTopology | None = None) -> list[Hand]:
    """Make what the stages would give for each frame, unsmoothed: meshes and keypoints with errors, registered.

    Parameters
    ----------
    motion : Motion
        From `move`.
    seed : int
        Of the errors.
    errors : Errors
        Their standard deviations.
    hand : HandTopology, optional
        That of `move`.
    """
    hand = hand or load_hand()
    rng, count = np.random.default_rng(seed), len(motion.times)
    angles = motion.angles + torch.from_numpy(rng.normal(0, errors.angle, (count, 16, 3))).float()
    rotation = _rotations(rng.normal(0, errors.turn, (count, 3))) @ motion.rotation
    size = 1 + rng.normal(0, errors.size, (count, 1, 1))
    vertices = size * (_pose(hand, angles, motion.shape)[0] @ rotation.transpose(0, 2, 1))
    vertices += rng.normal(0, errors.vertex, vertices.shape)
    mesh, registrar, times = topology(hand), Registrar(), StageTimes(0, 0, 0, 0, 0)
    seen = []
    for frame in range(count):
        joints = mesh.joint_regressor @ vertices[frame]
        points = CAMERA.project(motion.joints[frame])
        roi = Roi.upright(points, CROP_SCALE)
        points = points + rng.normal(0, errors.keypoint * roi.size / CROP, points.shape)
        root = joints[ROOT].copy()
        scores = np.full(len(joints), 0.8)
        fit = registrar(vertices[frame] - root, joints - root, points, scores, None, CAMERA)
        placed = fit.scale * (joints - root) + fit.translation
        seen.append(
            Hand(
                vertices=(fit.scale * (vertices[frame] - root) + fit.translation).astype(np.float32),
                joints=placed.astype(np.float32),
                keypoints=(0.5 * (points + CAMERA.project(placed))).astype(np.float32),
                keypoint_scores=scores.astype(np.float32),
                silhouette=np.empty((0, 2), np.float32),
                translation=fit.translation,
                scale=fit.scale,
                handedness="right",
                handedness_score=1.0,
                score=1.0,
                registration=fit,
                roi=roi,
                camera=CAMERA,
                faces=mesh.faces,
                joint_parents=mesh.joint_parents,
                times=times,
            )
        )
    return seen
