# SPDX-License-Identifier: Apache-2.0
"""From the 2D joints of weak labels to those of the hand model.

MediaPipe's fingertip lies in the image on the nail, 7 mm short of the model's, its wrist 6 mm nearer to the fingers,
the root of its thumb 14 mm beside the model's. A network that learns photos with the one kind and renderings with the
other draws every finger short. Here each labelled keypoint is moved by its mean offset, in a frame that turns with its
bone; :mod:`.joint_offsets` measures these. MediaPipe's 3D joints are of another network with other proportions, its
fingertips 3 to 9 mm *beyond* the model's: they are left as they are, and are compared up to similarity only.
"""

from __future__ import annotations

import numpy as np

from cmr_runtime.biomechanics import KNUCKLES

__all__ = ["JOINTS", "OFFSETS", "joint_frames", "mirrored", "palm_size", "pixels_per_palm", "to_model"]

#: What archives of crops say of their keypoints since these are moved.
JOINTS = "hand model"
#: MediaPipe's joints less the model's, in sizes of the palm, in `joint_frames`: 509 rendered hands of seed 9.
OFFSETS = np.array(
    [
        [0.070, -0.022, -0.018],
        [0.024, 0.161, 0.036],
        [0.001, -0.008, -0.006],
        [-0.043, -0.022, -0.045],
        [-0.086, -0.001, -0.009],
        [-0.036, -0.018, -0.034],
        [-0.014, -0.015, -0.034],
        [0.001, -0.001, -0.027],
        [-0.079, 0.006, -0.006],
        [0.009, 0.006, -0.050],
        [-0.026, 0.000, -0.052],
        [-0.041, -0.003, -0.039],
        [-0.086, 0.010, -0.008],
        [0.024, 0.007, -0.062],
        [-0.003, -0.006, -0.036],
        [-0.013, -0.008, -0.023],
        [-0.099, 0.024, -0.002],
        [-0.005, 0.008, -0.049],
        [-0.013, -0.014, -0.020],
        [0.004, -0.015, -0.013],
        [-0.047, 0.004, -0.013],
    ]
)
#: Bone whose direction a joint's frame has, by its ends: the one that leaves it; of tips the one that arrives.
_FROM = [0, *(k if k % 4 else k - 1 for k in range(1, 21))]
_TO = [9, *(k + 1 if k % 4 else k for k in range(1, 21))]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def palm_size(joints: np.ndarray) -> np.ndarray:
    """Mean distance (N,) of the knuckles from the wrist, for joints (N, 21, 3), in their unit."""
    return np.linalg.norm(joints[:, KNUCKLES] - joints[:, :1], axis=-1).mean(1)


def joint_frames(joints: np.ndarray) -> np.ndarray:
    """Frame of every joint of right hands, (N, 21, 3, 3) with the axes as columns, for joints (N, 21, 3).

    First the direction of the bone; then, square to it, the one from the little finger's knuckle to the index finger's,
    for the thumb the palm's normal instead; last the one square to both.
    """
    along = _unit(joints[:, _TO] - joints[:, _FROM])
    across = np.repeat((joints[:, 5] - joints[:, 17])[:, None], 21, axis=1)
    wrist = joints[:, 0]
    across[:, 1:5] = np.cross(joints[:, 5] - wrist, joints[:, 17] - wrist)[:, None]
    across = _unit(across - (across * along).sum(-1, keepdims=True) * along)
    return np.stack([along, across, np.cross(along, across)], -1)


def mirrored(points: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Left hands as right ones, and back: x of those rows changes its sign."""
    points = points.copy()
    points[~right, :, 0] *= -1
    return points


def pixels_per_palm(keypoints: np.ndarray, world: np.ndarray) -> np.ndarray:
    """Size (N,) of the palm in pixels, were it parallel to the image: of a weak perspective camera."""
    plane, seen = (points[..., :2] - points[..., :2].mean(1, keepdims=True) for points in (world, keypoints))
    scale = (plane * seen).sum((1, 2)) / np.maximum((plane * plane).sum((1, 2)), 1e-12)
    return np.maximum(scale, 0) * palm_size(world)


def to_model(keypoints: np.ndarray, world: np.ndarray, right: np.ndarray, offsets: np.ndarray = OFFSETS) -> np.ndarray:
    """Move labelled keypoints to the joints of the hand model.

    Parameters
    ----------
    keypoints : ndarray (N, 21, 2)
        Pixels, at any scale.
    world : ndarray (N, 21, 3)
        The same joints in metres, x right, y down, z forward.
    right : ndarray (N,) of bool
        Right hands.
    offsets : ndarray (21, 3)
        As `OFFSETS`.

    Returns
    -------
    ndarray (N, 21, 2)
        Pixels.
    """
    world = mirrored(np.asarray(world, np.float64), right)
    seen = mirrored(np.asarray(keypoints, np.float64), right)
    off = np.einsum("njxk,jk->njx", joint_frames(world)[:, :, :2], offsets)
    return mirrored(seen - off * pixels_per_palm(seen, world)[:, None, None], right)
