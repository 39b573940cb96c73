# SPDX-License-Identifier: Apache-2.0
"""Posing: against a skinning written with homogeneous matrices, and by what a hand can and cannot do."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cmr_models.hand import HandModel, load_hand
from cmr_models.hand.model import rotation_about

HAND = load_hand()
MODEL = HandModel(HAND, torch.float64)
TIPS = (4, 8, 12, 16, 20)


def draw(count: int, seed: int, spread: float = 0.4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    angles = spread * torch.randn(count, 16, 3, generator=generator, dtype=torch.float64)
    return angles, torch.randn(count, MODEL.shape_count, generator=generator, dtype=torch.float64)


def zeros(count: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(count, 16, 3).double(), torch.zeros(count, MODEL.shape_count).double()


def naive_vertices(angles: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Skin one hand: 4 × 4 matrices, one chain product per bone, one loop per vertex."""
    rest = HAND.rest.astype(float) + np.tensordot(shape, HAND.shape_directions.astype(float), 1)
    heads = HAND.bone_heads.astype(float) + np.tensordot(shape, HAND.bone_shape_directions.astype(float), 1)
    motion = []
    for bone, parent in enumerate(HAND.bone_parents):
        frame = HAND.bone_frames[bone].astype(float)
        turn = np.eye(4)
        for k in range(3):  # flexion · abduction · twist, the last acting first
            axis = frame[:, k] / np.linalg.norm(frame[:, k])
            turn[:3, :3] = turn[:3, :3] @ Rotation.from_rotvec(axis * angles[bone, k]).as_matrix()
        to, back = np.eye(4), np.eye(4)
        to[:3, 3], back[:3, 3] = -heads[bone], heads[bone]
        own = back @ turn @ to
        motion.append(own if parent < 0 else motion[parent] @ own)
    motion.append(np.eye(4))
    out = np.zeros_like(rest)
    for v, point in enumerate(rest):
        blended = sum(w * m for w, m in zip(HAND.skin_weights[v].astype(float), motion, strict=True) if w)
        # Stored weights sum to one within float16 only; blending keeps that scale, as the model does.
        out[v] = blended[:3] @ np.append(point, 1.0)
    return out


@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with_naive_skinning(seed):
    angles, shape = draw(2, seed)
    found = MODEL(angles, shape).vertices.numpy()
    for k in range(2):
        np.testing.assert_allclose(found[k], naive_vertices(angles[k].numpy(), shape[k].numpy()), atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rotation_agrees_with_scipy(seed):
    random = np.random.default_rng(seed)
    axis = random.standard_normal((5, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    angle = random.uniform(-4, 4, (7, 5))
    found = rotation_about(torch.from_numpy(axis), torch.from_numpy(angle)).numpy()
    wanted = Rotation.from_rotvec((axis * angle[..., None]).reshape(-1, 3)).as_matrix().reshape(7, 5, 3, 3)
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_bone_frames_are_orthogonal_and_point_along_the_bones():
    frames = HAND.bone_frames
    np.testing.assert_allclose(frames.transpose(0, 2, 1) @ frames, np.broadcast_to(np.eye(3), (16, 3, 3)), atol=1e-5)
    for finger in range(5):
        for k in range(2):
            bone = 3 * finger + 1 + k
            along = HAND.bone_heads[bone + 1] - HAND.bone_heads[bone]
            assert frames[bone, :, 2] @ along / np.linalg.norm(along) > 0.999


def test_zero_pose_is_the_rest_shape():
    out = MODEL(*zeros())
    np.testing.assert_allclose(out.vertices[0], HAND.rest, atol=2e-4)  # skin weights are stored as float16
    np.testing.assert_allclose(out.joints[0], HAND.joint_regressor @ HAND.template, atol=2e-4)


def test_joints_are_the_regressor_on_the_networks_vertices():
    out = MODEL(*draw(3, 5))
    wanted = np.einsum("jv,bvx->bjx", HAND.joint_regressor, out.vertices.numpy()[:, HAND.vertex_index])
    np.testing.assert_allclose(out.joints, wanted, atol=1e-9)


def test_rest_vertices_are_linear_in_the_shape():
    angles, shape = zeros(2)[0], draw(2, 3)[1]
    at = lambda s: MODEL(angles[: len(s)], s).vertices  # noqa: E731
    origin = at(torch.zeros_like(shape[:1]))
    one, two = at(shape[:1]) - origin, at(shape[1:]) - origin
    torch.testing.assert_close(at(2 * shape[:1] - 3 * shape[1:]) - origin, 2 * one - 3 * two, atol=1e-9, rtol=0)
    assert one.norm(dim=-1).max() > 0.002  # and shape does something


def test_a_wrist_turn_moves_the_hand_rigidly_and_leaves_the_forearm():
    angles, shape = draw(1, 7)
    angles[:, 0] = 0
    turned = angles.clone()
    turned[:, 0] = torch.tensor([0.5, -0.2, 0.1])
    before, after = MODEL(angles, shape).vertices[0], MODEL(turned, shape).vertices[0]
    rigid = torch.from_numpy(np.isclose(HAND.skin_weights[:, -1], 0))
    some = rigid.nonzero()[::7, 0]
    distances = [torch.cdist(v[some], v[some]) for v in (before, after)]
    torch.testing.assert_close(*distances, atol=2e-4, rtol=0)
    assert (after - before)[some].norm(dim=1).median() > 0.02
    still = torch.from_numpy(HAND.skin_weights[:, -1] == 1)
    assert still.sum() > 20
    torch.testing.assert_close(after[still], before[still], atol=1e-12, rtol=0)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_no_pose_moves_the_forearm(seed):
    angles, shape = draw(1, seed, spread=1.0)
    still = torch.from_numpy(HAND.skin_weights[:, -1] == 1)
    posed, rest = MODEL(angles, shape).vertices[0, still], MODEL(torch.zeros_like(angles), shape).vertices[0, still]
    torch.testing.assert_close(posed, rest, atol=1e-12, rtol=0)


@pytest.mark.parametrize("finger", range(1, 5))
@pytest.mark.parametrize("k", range(3))
def test_flexion_of_any_joint_moves_that_tip_to_the_palm_and_no_other(finger, k):
    angles, shape = zeros()
    angles[:, 3 * finger + 1 + k, 0] = 0.4
    moved = (MODEL(angles, shape).joints - MODEL(*zeros()).joints)[0]
    assert moved[TIPS[finger], 2] > 0.004
    others = [j for j in range(21) if j == 0 or (j - 1) // 4 != finger]
    assert moved[others].norm(dim=1).max() < 0.002


def test_abduction_spreads_the_fingers_away_from_the_middle_finger():
    angles, shape = zeros()
    angles[:, [4, 10, 13], 1] = 0.3  # index, ring, little finger, at the knuckle
    moved = (MODEL(angles, shape).joints - MODEL(*zeros()).joints)[0, :, 0]
    assert moved[8] < -0.01  # -x is the thumb's side
    assert moved[16] > 0.01
    assert moved[20] > 0.01


def test_twist_turns_about_the_bone_and_keeps_the_next_joint():
    angles, shape = zeros()
    angles[:, 7, 2] = 0.7
    rotations, offsets = MODEL.bone_transforms(angles, shape)
    heads = MODEL.rest_heads(shape)[0]
    torch.testing.assert_close(rotations[0, 7] @ heads[8] + offsets[0, 7], heads[8], atol=2e-5, rtol=0)
    assert (rotations[0, 7] - torch.eye(3)).abs().max() > 0.3


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_pose_changes_the_length_of_a_bone(seed):
    angles, shape = draw(3, seed, spread=1.0)
    rotations, offsets = MODEL.bone_transforms(angles, shape)
    rest = MODEL.rest_heads(shape)
    heads = torch.einsum("bjxy,bjy->bjx", rotations[:, :16], rest) + offsets[:, :16]
    parents = torch.tensor(MODEL.bone_parents[1:])
    length = lambda p: (p[:, 1:] - p[:, parents]).norm(dim=-1)  # noqa: E731
    torch.testing.assert_close(length(heads), length(rest), atol=1e-6, rtol=0)
    # A joint holds together: the parent's motion takes the head to the same place.
    by_parent = torch.einsum("bjxy,bjy->bjx", rotations[:, parents], rest[:, 1:]) + offsets[:, parents]
    torch.testing.assert_close(by_parent, heads[:, 1:], atol=1e-9, rtol=0)
    eye = torch.eye(3).double().expand(3, 17, 3, 3)
    torch.testing.assert_close(rotations @ rotations.transpose(2, 3), eye, atol=1e-5, rtol=0)


def test_every_hand_of_a_batch_is_posed_alone():
    angles, shape = draw(4, 11)
    together = MODEL(angles, shape)
    alone = MODEL(angles[2:3], shape[2:3])
    torch.testing.assert_close(together.vertices[2:3], alone.vertices, atol=1e-12, rtol=0)
    torch.testing.assert_close(together.joints[2:3], alone.joints, atol=1e-12, rtol=0)


def test_single_precision_is_enough_and_gradients_flow():
    angles, shape = draw(1, 13)
    single = HandModel(HAND)(angles.float(), shape.float()).vertices
    torch.testing.assert_close(single.double(), MODEL(angles, shape).vertices, atol=2e-6, rtol=0)
    tip = lambda a: MODEL(a, shape).joints[0, 8, 2]  # noqa: E731
    angles.requires_grad_()
    tip(angles).backward()
    step = torch.zeros_like(angles)
    step[0, 4, 0] = 1e-5
    numeric = (tip(angles.detach() + step) - tip(angles.detach() - step)) / 2e-5
    torch.testing.assert_close(angles.grad[0, 4, 0], numeric, atol=1e-7, rtol=1e-5)
