# SPDX-License-Identifier: Apache-2.0
"""Losses of both stages (the paper's section 3.5), and weak ones for photos without a mesh."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .hand.topology import JOINT_PARENTS

__all__ = [
    "bone_lengths",
    "bone_loss",
    "edge_loss",
    "gaussian_maps",
    "heatmap_loss",
    "keypoint_loss",
    "level_loss",
    "map_loss",
    "normal_loss",
    "reprojection_loss",
    "silhouette_loss",
    "similarity_align",
    "similarity_loss",
]

#: Standard deviation of a joint's Gaussian in cells of the heat map.
SIGMA = 1.2


def gaussian_maps(keypoints: Tensor, size: int, cells: int, sigma: float = SIGMA, reach: float = math.inf) -> Tensor:
    """Target heat maps (B, J, cells, cells), peak 1, for keypoints (B, J, 2) in pixels of a (size, size) crop.

    ``sigma`` in cells; a map is 0 more than ``reach`` cells beside or above the joint.
    """
    at = (keypoints + 0.5) * (cells / size) - 0.5  # pixels to cells
    grid = torch.arange(cells, device=keypoints.device, dtype=keypoints.dtype)

    def profile(centre: Tensor) -> Tensor:
        distance = grid - centre
        return torch.exp(-(distance**2) / (2 * sigma**2)) * (distance.abs() <= reach)

    return profile(at[..., 1:])[..., :, None] * profile(at[..., :1])[..., None, :]


def heatmap_loss(logits: Tensor, target: Tensor, mask: Tensor, sigma: float = SIGMA) -> Tensor:
    """Cross-entropy per joint, in units of the mass of one Gaussian, mean over joints and masked samples (B,).

    The entropy of the target is taken off, so that a perfect map costs nothing.
    """
    entropy = F.binary_cross_entropy(target, target, reduction="none")
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none") - entropy
    per_sample = loss.sum((2, 3)).mean(1) / (2 * torch.pi * sigma**2)
    return (per_sample * mask).sum() / mask.sum().clamp_min(1)


def map_loss(logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy per cell of maps (B, C, H, H), mean over masked samples (B,)."""
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((1, 2, 3))
    return (loss * mask).sum() / mask.sum().clamp_min(1)


def silhouette_loss(logits: Tensor, coverage: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy against the share of each cell that the hand covers; coverage (B, S, S) in 0..1."""
    return map_loss(logits, F.adaptive_avg_pool2d(coverage[:, None], logits.shape[-1]), mask)


def keypoint_loss(keypoints: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference of coordinates (B, J, 2), mean over masked samples (B,)."""
    return ((keypoints - target).abs().mean((1, 2)) * mask).sum() / mask.sum().clamp_min(1)


def _edges(vertices: Tensor, faces: Tensor) -> Tensor:
    corners = vertices[:, faces]
    return corners - corners.roll(-1, 2)


def edge_loss(vertices: Tensor, target: Tensor, faces: Tensor) -> Tensor:
    """Mean absolute difference of edge lengths, in the unit of the vertices."""
    return (_edges(vertices, faces).norm(dim=-1) - _edges(target, faces).norm(dim=-1)).abs().mean()


def bone_lengths(joints: Tensor) -> Tensor:
    """Lengths (..., 20) of the bones that end at joints 1 to 20 of (..., 21, 3), in the unit of the joints."""
    return (joints[..., 1:, :] - joints[..., JOINT_PARENTS[1:], :]).norm(dim=-1)


def bone_loss(joints: Tensor, lengths: Tensor, weight: Tensor, slack: float = 0.0) -> Tensor:
    """Mean difference of the bones' lengths from those wanted, in shares of these, beyond ``slack``; weights (B,).

    Where the image leaves the direction of a bone open, the joints that cost least on average make it too short, like
    the mean of unit vectors, which is shorter than one. This term holds its length.
    """
    off = (bone_lengths(joints) / lengths - 1).abs()
    return ((off - slack).clamp_min(0).mean(1) * weight).sum() / weight.sum().clamp_min(1e-6)


def normal_loss(vertices: Tensor, target: Tensor, faces: Tensor) -> Tensor:
    """Mean absolute cosine between predicted edges and true face normals."""
    corners = target[:, faces]
    normal = torch.linalg.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    normal = F.normalize(normal, dim=-1, eps=1e-8)
    return (F.normalize(_edges(vertices, faces), dim=-1, eps=1e-8) * normal[:, :, None]).sum(-1).abs().mean()


def similarity_align(points: Tensor, target: Tensor, turn: bool = True) -> Tensor:
    """Move points (B, J, 3) onto the target by the best rotation, scale and translation (Umeyama, 1991).

    Without ``turn`` by scale and translation alone. The motion itself is taken as constant: gradients flow through the
    moved points only.
    """
    mean, goal = points.mean(1, keepdim=True), target.mean(1, keepdim=True)
    a, b = points - mean, target - goal
    with torch.no_grad():
        if turn:
            u, s, vt = torch.linalg.svd(a.transpose(1, 2) @ b)
            sign = torch.ones_like(s)
            sign[:, 2] = torch.linalg.det(u @ vt).sign()
            rotation, overlap = (u * sign[:, None]) @ vt, (s * sign).sum(1)
        else:
            rotation, overlap = torch.eye(3).to(a), (a * b).sum((1, 2)).clamp_min(0)
        scale = overlap / a.square().sum((1, 2)).clamp_min(1e-12)
    return scale[:, None, None] * a @ rotation + goal


def similarity_loss(joints: Tensor, world: Tensor, weight: Tensor, turn: bool = True) -> Tensor:
    """Mean absolute distance to weak 3D labels after moving the prediction onto them, metres; weights (B,).

    The prediction is moved, not the label: a shrinking prediction gains nothing. Without ``turn`` it is not turned, so
    that the label tells the view as well.
    """
    moved = similarity_align(joints, world, turn)
    return ((moved - world).abs().mean((1, 2)) * weight).sum() / weight.sum().clamp_min(1e-6)


def reprojection_loss(joints: Tensor, keypoints: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute distance in the image plane after the best scale and shift, in lengths of the hand's extent.

    A weak perspective camera: with the mesh's turn it ties the photo's view, which `similarity_loss` leaves free.
    """
    plane = joints[..., :2] - joints[..., :2].mean(1, keepdim=True)
    seen = keypoints - keypoints.mean(1, keepdim=True)
    extent = seen.abs().amax((1, 2), keepdim=True).clamp_min(1.0)
    scale = (plane * seen).sum((1, 2), keepdim=True) / plane.square().sum((1, 2), keepdim=True).clamp_min(1e-8)
    residual = (scale.clamp_min(1e-3) * plane - seen) / extent
    return (residual.abs().mean((1, 2)) * weight).sum() / weight.sum().clamp_min(1e-6)


def level_loss(levels: Sequence[Tensor], targets: Sequence[Tensor], discount: float = 0.5) -> Tensor:
    """Mean absolute vertex distance of every mesh level, each coarser one counting ``discount`` times the finer one."""
    terms = [discount**k * (a - b).abs().mean() for k, (a, b) in enumerate(zip(levels, targets, strict=True))]
    return torch.stack(terms).sum()
