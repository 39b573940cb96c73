# SPDX-License-Identifier: Apache-2.0
import dataclasses
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from cmr_runtime import InputError, Topology
from cmr_runtime.rotations import bone_rotations

#: A limb of three bones along x, 0.1 m each, between four joints.
PARENTS = np.array([0, 0, 1, 2], np.int32)


def _limb() -> Topology:
    """Tubes that are not round, one a bone: their twist shows."""
    along, around = np.meshgrid(np.linspace(0.01, 0.09, 7), np.arange(8) * np.pi / 4, indexing="ij")
    tube = np.stack([along, 0.02 * np.cos(around), 0.01 * np.sin(around)], axis=-1).reshape(-1, 3)
    template = np.concatenate([tube + np.array([0.1 * bone, 0, 0]) for bone in range(3)]).astype(np.float32)
    # Joints are means of rings, extended to the ends of the tubes; any regressor that gives them will do.
    places = np.array([[0.0, 0, 0], [0.1, 0, 0], [0.2, 0, 0], [0.3, 0, 0]])
    system = np.vstack([template.T, np.ones(len(template))])
    regressor = np.linalg.lstsq(system, np.vstack([places.T, np.ones(4)]), rcond=None)[0].T
    faces = np.array([[0, 1, 2]], np.int32)
    return Topology(template, faces, regressor.astype(np.float32), PARENTS)


def _turn(*vector: float) -> np.ndarray:
    return cv2.Rodrigues(np.array(vector))[0]


def _hand(vertices: np.ndarray, side: str = "right") -> SimpleNamespace:
    return SimpleNamespace(vertices=vertices.astype(np.float32), handedness=side)


def test_known_rotations_of_each_bone_are_found() -> None:
    topology = _limb()
    turns = [_turn(0.3, -0.2, 0.5), _turn(-0.7, 0.1, 0.9), _turn(1.2, 0.4, -0.3)]  # twist about x, too
    parts = np.split(topology.template.astype(float), 3)
    posed = np.concatenate([part @ turn.T + [0, 0.1, 0.5] for part, turn in zip(parts, turns, strict=True)])
    found = bone_rotations(_hand(1.1 * posed), topology)
    for joint, turn in zip((0, 1, 2, 3), (turns[0], *turns), strict=True):
        np.testing.assert_allclose(found[joint], turn, atol=1e-4)


def test_a_left_hand_is_turned_from_the_mirrored_rest_shape() -> None:
    topology = _limb()
    turn = _turn(0.2, 1.0, -0.4)
    mirrored = topology.template * [-1, 1, 1]
    found = bone_rotations(_hand(mirrored @ turn.T, "left"), topology)
    np.testing.assert_allclose(found, np.broadcast_to(turn, (4, 3, 3)), atol=1e-4)


def test_rotations_need_a_mesh_and_bones() -> None:
    topology = _limb()
    with pytest.raises(InputError, match=r"\(0, 3\)"):
        bone_rotations(_hand(np.zeros((0, 3))), topology)
    with pytest.raises(InputError, match="joint_regressor"):
        bone_rotations(_hand(topology.template), dataclasses.replace(topology, joint_regressor=None))
