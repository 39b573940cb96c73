# SPDX-License-Identifier: Apache-2.0
"""Losses against closed forms and by their invariances."""

import math

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cmr_models.hand import load_hand
from cmr_models.losses import (
    SIGMA,
    bone_lengths,
    bone_loss,
    edge_loss,
    gaussian_maps,
    heatmap_loss,
    keypoint_loss,
    level_loss,
    map_loss,
    normal_loss,
    reprojection_loss,
    silhouette_loss,
    similarity_align,
    similarity_loss,
)
from cmr_runtime.biomechanics import PARENTS
from cmr_runtime.heatmaps import decode
from cmr_runtime.metrics import align_similarity

ONES = torch.ones(2)


def points(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(seed: int) -> torch.Tensor:
    return torch.from_numpy(Rotation.random(random_state=seed).as_matrix())


# Heat maps


def test_gaussian_maps_follow_the_formula_at_the_cells_centres():
    keypoints = torch.tensor([[[10.0, 3.0], [-5.0, 40.0]]])
    found = gaussian_maps(keypoints, 32, 8)
    for joint, (x, y) in enumerate(keypoints[0].tolist()):
        for i in range(8):
            for j in range(8):
                at_x, at_y = (j + 0.5) * 4 - 0.5, (i + 0.5) * 4 - 0.5  # ARCHITECTURE.md: centre of cell (i, j)
                square = ((x - at_x) ** 2 + (y - at_y) ** 2) / 4**2
                assert float(found[0, joint, i, j]) == pytest.approx(math.exp(-square / (2 * SIGMA**2)), abs=1e-6)


def test_a_keypoint_on_a_cells_centre_has_peak_one():
    maps = gaussian_maps(torch.tensor([[[4 * 5 + 1.5, 4 * 2 + 1.5]]]), 32, 8)
    assert maps[0, 0, 2, 5] == 1
    assert maps.argmax() == 2 * 8 + 5


@pytest.mark.parametrize("seed", range(3))
def test_the_runtime_decodes_target_maps_to_the_keypoints(seed):
    size, cells = 160, 40
    keypoints = 12 + 136 * torch.rand(21, 2, generator=torch.Generator().manual_seed(seed))
    maps = gaussian_maps(keypoints[None], size, cells)[0].numpy()
    found, scores = decode(maps, size)
    np.testing.assert_allclose(found, keypoints, atol=0.35)
    assert scores.min() > 0.5


def test_a_perfect_heat_map_costs_nothing_and_any_other_something():
    target = gaussian_maps(torch.tensor([[[9.3, 14.2]], [[20.1, 7.7]]]), 32, 8).clamp(1e-6, 1 - 1e-6)
    perfect = torch.logit(target)
    assert float(heatmap_loss(perfect, target, ONES)) == pytest.approx(0, abs=1e-5)
    for seed in range(3):
        assert heatmap_loss(perfect + 0.3 * points(seed, *perfect.shape).float(), target, ONES) > 1e-3


@pytest.mark.parametrize("at", [(20, 31), (21, 30)])
def test_maps_with_a_reach_are_the_references_patches(at):
    # A kernel of 13 pixels with sigma 14 / 4, peak 1, painted around the joint's pixel; then the map is halved.
    kernel = cv2.getGaussianKernel(13, 14 / 4)
    patch = kernel @ kernel.T / kernel.max() ** 2
    painted = np.zeros((64, 64))
    painted[at[1] - 6 : at[1] + 7, at[0] - 6 : at[0] + 7] = patch
    wanted = cv2.resize(painted, (32, 32))
    found = gaussian_maps(torch.tensor([[at]]).float(), 64, 32, sigma=3.5 / 2, reach=6.5 / 2)[0, 0].numpy()
    inner = wanted > 0.2
    np.testing.assert_allclose(found[inner], wanted[inner], atol=0.03)
    np.testing.assert_allclose(found, wanted, atol=0.1)  # at the rim, cells that the patch covers by half
    assert found.sum() == pytest.approx(wanted.sum(), rel=0.05)
    assert (found[wanted == 0] == 0).all()


def test_heat_map_loss_is_a_divergence_per_mass_of_a_gaussian():
    target, logits = torch.full((1, 2, 3, 3), 0.25), torch.zeros(1, 2, 3, 3)
    divergence = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    wanted = 9 * divergence / (2 * math.pi * SIGMA**2)
    assert float(heatmap_loss(logits, target, torch.ones(1))) == pytest.approx(wanted, rel=1e-5)


def test_map_loss_is_the_mean_cross_entropy_of_all_cells():
    logits, target = points(0, 2, 3, 4, 4), torch.rand(2, 3, 4, 4, dtype=torch.float64)
    p, t = 1 / (1 + np.exp(-logits.numpy())), target.numpy()
    wanted = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()
    assert float(map_loss(logits, target, ONES)) == pytest.approx(float(wanted), rel=1e-9)


def test_keypoint_loss_is_the_mean_difference_of_coordinates():
    keypoints, target = torch.zeros(3, 2, 2), torch.tensor([[0.1, -0.3], [0.0, 0.2]]).expand(3, 2, 2)
    assert float(keypoint_loss(keypoints, target, torch.ones(3))) == pytest.approx(0.15)
    assert float(keypoint_loss(torch.tensor([1.0, 2.0, 4.0])[:, None, None] * target, target, torch.eye(3)[1])) == (
        pytest.approx(0.15)
    )


@pytest.mark.parametrize("loss", ["heatmap", "map", "silhouette"])
def test_only_masked_samples_count(loss):
    logits = points(0, 3, 1, 4, 4).float()
    if loss == "map":
        of = lambda x, mask: map_loss(x, torch.full_like(x, 0.3), mask)  # noqa: E731
    elif loss == "heatmap":
        of = lambda x, mask: heatmap_loss(x, torch.full_like(x, 0.3), mask)  # noqa: E731
    else:
        of = lambda x, mask: silhouette_loss(x, torch.full((3, 8, 8), 0.3), mask)  # noqa: E731
    each = [float(of(logits, torch.eye(3)[k])) for k in range(3)]
    assert float(of(logits, torch.tensor([1.0, 0, 1]))) == pytest.approx((each[0] + each[2]) / 2, rel=1e-5)
    assert float(of(logits, torch.zeros(3))) == 0


def test_heat_map_weights_are_relative():
    logits, target = points(0, 2, 1, 4, 4).float(), torch.full((2, 1, 4, 4), 0.3)
    each = [float(heatmap_loss(logits, target, torch.eye(2)[k])) for k in range(2)]
    found = float(heatmap_loss(logits, target, torch.tensor([1.5, 0.5])))
    assert found == pytest.approx(0.75 * each[0] + 0.25 * each[1], rel=1e-5)


def test_silhouette_loss_wants_the_share_of_each_cell():
    coverage = torch.zeros(1, 8, 8)
    coverage[:, :4, :3] = 1  # cells of 4 × 4 pixels
    share = torch.tensor([[0.75, 0.0], [0.0, 0.0]])
    logits = torch.logit(share.clamp(1e-6, 1 - 1e-6))[None, None].requires_grad_()
    loss = silhouette_loss(logits, coverage, torch.ones(1))
    loss.backward()
    assert logits.grad.abs().max() < 1e-5  # stationary at the share
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / 4
    assert float(loss.detach()) == pytest.approx(entropy, abs=1e-4)


# Meshes

HAND = load_hand()
FACES = torch.as_tensor(HAND.faces).long()
MESH = torch.as_tensor(HAND.template).double()[None]


@pytest.mark.parametrize("seed", range(3))
def test_edge_loss_ignores_rigid_motion_and_measures_scale(seed):
    moved = MESH @ rotation(seed) + points(seed, 1, 1, 3)
    assert float(edge_loss(moved, MESH, FACES)) < 1e-12
    edges = MESH[0, FACES] - MESH[0, FACES].roll(-1, 1)
    wanted = 0.1 * float(edges.norm(dim=-1).mean())
    assert float(edge_loss(1.1 * moved, MESH, FACES)) == pytest.approx(wanted, rel=1e-6)


def test_normal_loss_vanishes_for_equal_meshes_and_is_the_cosine_for_a_tilted_triangle():
    assert float(normal_loss(MESH, MESH, FACES)) < 1e-6
    triangle = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]])
    face = torch.tensor([[0, 1, 2]])
    assert float(normal_loss(3 * triangle + 1, triangle, face)) < 1e-6  # size and place do not matter
    tilt = 0.4  # about x: the edge along x stays, the others rise by the sine times their share in y
    turn = torch.tensor([[1, 0, 0], [0, math.cos(tilt), math.sin(tilt)], [0, -math.sin(tilt), math.cos(tilt)]])
    wanted = math.sin(tilt) * (0 + math.sqrt(0.5) + 1) / 3
    assert float(normal_loss(triangle @ turn, triangle, face)) == pytest.approx(wanted, rel=1e-5)


def test_mesh_losses_see_a_change_of_shape():
    bumpy = MESH + 0.002 * points(4, *MESH.shape)
    assert edge_loss(bumpy, MESH, FACES) > 1e-4
    assert normal_loss(bumpy, MESH, FACES) > 0.05


def test_bones_are_those_of_the_runtime():
    joints = HAND.joint_regressor @ HAND.template
    ours = bone_lengths(torch.as_tensor(joints)[None])[0]
    assert ours.numpy() == pytest.approx(np.linalg.norm(joints[1:] - joints[PARENTS], axis=1), rel=1e-6)


@pytest.mark.parametrize("size", [0.8, 1.25])
def test_bone_loss_is_the_share_in_size_whatever_the_pose(size):
    joints = points(0, 1, 21, 3)
    lengths = bone_lengths(joints)
    moved = size * joints @ rotation(1).to(joints) + 3
    assert float(bone_loss(joints, lengths, ONES[:1])) < 1e-6
    assert float(bone_loss(moved, lengths, ONES[:1])) == pytest.approx(abs(size - 1), rel=1e-5)
    assert float(bone_loss(moved, lengths, ONES[:1], slack=0.1)) == pytest.approx(abs(size - 1) - 0.1, rel=1e-5)
    assert float(bone_loss(moved, lengths, ONES[:1], slack=0.3)) == 0


def test_the_bone_loss_of_one_point_is_one_and_its_gradient_finite():
    joints = torch.zeros(1, 21, 3, requires_grad=True)
    loss = bone_loss(joints, torch.full((1, 20), 0.03), torch.ones(1))
    assert float(loss.detach()) == 1
    loss.backward()
    assert torch.isfinite(joints.grad).all()


def test_bones_of_doubtful_direction_come_out_short_without_the_bone_loss_and_right_with_it():
    """One prediction for fingers that point in many directions: the median of their tips is nearer than any of them."""
    angles = torch.linspace(-1, 1, 41).double()
    truth = torch.zeros(41, 21, 3).double()
    truth[:, 1:, 0] = 0.03 * torch.arange(1, 21)
    tips = torch.stack([0.02 * angles.cos(), 0.02 * angles.sin(), 0 * angles], 1)
    truth[:, 12] = truth[:, 11] + tips
    found = []
    for weight in (0.0, 1.0):
        joints = truth[20].clone() + 0.001 * points(2, 21, 3)
        joints.requires_grad_(True)
        optimiser = torch.optim.Adam([joints], 1e-4)
        for _ in range(600):
            optimiser.zero_grad()
            guess = joints.expand(41, 21, 3)
            loss = 100 * (guess - truth).norm(dim=-1).mean()
            (loss + weight * bone_loss(guess, bone_lengths(truth), torch.ones(41).double())).backward()
            optimiser.step()
        found.append(float((joints[12] - joints[11]).detach().norm()))
    assert found[0] < 0.019
    assert found[1] == pytest.approx(0.02, rel=0.01)


def test_levels_count_half_of_the_finer_one():
    targets = [torch.zeros(1, n, 3) for n in (8, 4, 2)]
    levels = [t + e for t, e in zip(targets, (0.1, 0.2, -0.4), strict=True)]
    assert float(level_loss(levels, targets)) == pytest.approx(0.1 + 0.2 / 2 + 0.4 / 4)
    assert float(level_loss(levels, targets, discount=1.0)) == pytest.approx(0.1 + 0.2 + 0.4)
    with pytest.raises(ValueError, match="zip"):
        level_loss(levels[:2], targets)


# Weak labels


@pytest.mark.parametrize("seed", range(5))
def test_alignment_agrees_with_the_metric(seed):
    a, b = points(seed, 3, 21, 3), points(seed + 100, 3, 21, 3)
    b[1] = a[1] * torch.tensor([-1.0, 1, 1])  # a mirror image must not be aligned by mirroring
    found = similarity_align(a, b)
    for k in range(3):
        np.testing.assert_allclose(found[k], align_similarity(a[k].numpy(), b[k].numpy()), atol=1e-9)
    assert (found[1] - b[1]).abs().max() > 0.1


@pytest.mark.parametrize("seed", range(3))
def test_alignment_undoes_a_similarity(seed):
    a = points(seed, 1, 21, 3)
    b = 1.7 * a @ rotation(seed) + points(seed + 9, 1, 1, 3)
    torch.testing.assert_close(similarity_align(a, b), b, atol=1e-9, rtol=0)
    assert float(similarity_loss(a, b, torch.ones(1))) < 1e-9


@pytest.mark.parametrize("scale", [0.01, 0.5, 3.0])
def test_similarity_loss_gains_nothing_by_size_turn_or_place(scale):
    a, b = points(0, 2, 21, 3), points(1, 2, 21, 3)
    before = float(similarity_loss(a, b, ONES))
    moved = scale * a @ rotation(3) + points(2, 2, 1, 3)
    assert float(similarity_loss(moved, b, ONES)) == pytest.approx(before, rel=1e-9)
    assert before > 0.1
    # In metres of the label: a label twice as large makes twice the error.
    assert float(similarity_loss(a, 2 * b, ONES)) == pytest.approx(2 * before, rel=1e-9)


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_without_turns_the_similarity_loss_sees_the_view_and_nothing_of_size_and_place(scale):
    world = points(1, 2, 21, 3)
    moved = scale * world + points(2, 2, 1, 3)
    assert float(similarity_loss(moved, world, ONES.double(), turn=False)) == pytest.approx(0, abs=1e-12)
    turned = moved @ rotation(3)
    assert float(similarity_loss(turned, world, ONES.double(), turn=False)) > 0.1
    assert float(similarity_loss(turned, world, ONES.double())) == pytest.approx(0, abs=1e-12)
    mirrored = similarity_align(-world, world, turn=False)  # no negative scale
    torch.testing.assert_close(mirrored, world.mean(1, keepdim=True).expand_as(world))


def test_following_the_gradient_of_the_similarity_loss_reaches_the_label():
    world = 0.1 * points(1, 2, 21, 3)
    joints = (world + 0.03 * points(0, 2, 21, 3)).requires_grad_()
    began = float(similarity_loss(joints.detach(), world, ONES))
    optimiser = torch.optim.Adam([joints], lr=1e-3)
    for _ in range(150):
        optimiser.zero_grad()
        similarity_loss(joints, world, ONES).backward()
        optimiser.step()
    assert float(similarity_loss(joints.detach(), world, ONES)) < 0.15 * began
    spread = joints.detach().std(1) / world.std(1)
    assert spread.min() > 0.6  # not by collapsing


@pytest.mark.parametrize("of", [similarity_loss, reprojection_loss])
def test_weights_of_weak_labels(of):
    a, b = points(0, 3, 21, 3), points(1, 3, 21, 3 if of is similarity_loss else 2)
    each = [float(of(a[k : k + 1], b[k : k + 1], torch.ones(1))) for k in range(3)]
    found = float(of(a, b, torch.tensor([0.5, 0.0, 0.25])))
    assert found == pytest.approx((0.5 * each[0] + 0.25 * each[2]) / 0.75, rel=1e-6)
    assert float(of(a, b, torch.zeros(3))) == 0


@pytest.mark.parametrize("seed", range(3))
def test_a_weak_perspective_view_costs_nothing(seed):
    joints = 0.05 * points(seed, 1, 21, 3)
    keypoints = 800 * joints[..., :2] + torch.tensor([70.0, 90.0])
    assert float(reprojection_loss(joints, keypoints, torch.ones(1))) < 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_reprojection_ignores_size_place_and_depth_but_not_the_view(seed):
    joints = 0.05 * points(seed, 1, 21, 3)
    keypoints = 800 * joints[..., :2] + 20 * points(seed + 50, 1, 21, 2) + 80
    of = lambda j, k: float(reprojection_loss(j, k, torch.ones(1)))  # noqa: E731
    before = of(joints, keypoints)
    assert before > 1e-3
    assert of(0.3 * joints + 2.0, keypoints) == pytest.approx(before, rel=1e-6)
    assert of(joints * torch.tensor([1, 1, 7.0]), keypoints) == pytest.approx(before, rel=1e-6)
    assert of(joints, 0.5 * keypoints - 30) == pytest.approx(before, rel=1e-6)
    turn = torch.from_numpy(Rotation.from_euler("z", 60, degrees=True).as_matrix())
    assert of(joints @ turn, keypoints) > 1.5 * before


def test_reprojection_never_mirrors_through_a_negative_scale():
    joints = 0.05 * points(0, 1, 21, 3)
    upside_down = reprojection_loss(joints, -800 * joints[..., :2], torch.ones(1))
    nothing = reprojection_loss(1e-9 * joints, -800 * joints[..., :2], torch.ones(1))
    assert float(upside_down) > 0.99 * float(nothing) > 0.1
