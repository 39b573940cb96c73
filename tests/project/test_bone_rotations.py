# SPDX-License-Identifier: Apache-2.0
"""Rotations read off the mesh, against those with which the hand model was posed."""

from types import SimpleNamespace

import numpy as np
import torch

from cmr_models.hand import HandModel, load_hand
from cmr_runtime import Bundle
from cmr_runtime.rotations import bone_rotations


def test_the_angles_of_a_posed_hand_are_found_again() -> None:
    torch.manual_seed(0)
    model, topology = HandModel(load_hand()), Bundle.default().topology
    angles, shape = torch.zeros(20, 16, 3), torch.zeros(20, model.shape_count)
    angles[:, 1:, 0] = 0.9 * torch.rand(20, 15)  # flexion
    angles[:, 1:, 1] = 0.2 * torch.randn(20, 15)  # abduction
    vertices = model(angles, shape).vertices[:, model.vertex_index].numpy()
    truth = model.bone_transforms(angles, shape)[0].numpy()
    rest = topology.joint_regressor @ topology.template
    bones = [int(np.linalg.norm(model.bone_heads.numpy() - joint, axis=1).argmin()) for joint in rest]
    errors = []
    for number in range(20):
        found = bone_rotations(SimpleNamespace(vertices=vertices[number], handedness="right"), topology)
        for joint in range(1, 21):
            parent = topology.joint_parents[joint]
            wanted = truth[number, bones[parent] if parent else 0]  # a bone moves with the joint where it begins
            errors.append(np.degrees(_angle(wanted.T @ found[joint])))
    assert np.mean(errors) < 2.5
    assert np.percentile(errors, 95) < 7.0


def _angle(rotation: np.ndarray) -> float:
    return float(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))
