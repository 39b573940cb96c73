# SPDX-License-Identifier: Apache-2.0
"""Posing the hand: shape directions, joint angles, linear blend skinning. Batched, on any device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .topology import HandTopology

__all__ = ["HandModel", "HandOutput", "rotation_about"]


class HandOutput(NamedTuple):
    """Posed hands, metres, right, origin at the wrist joint (canonical frame of `topology`)."""

    vertices: Tensor  # (B, R, 3)
    joints: Tensor  # (B, 21, 3)


def rotation_about(axis: Tensor, angle: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) about unit axes (..., 3) by angles (...) in radians (Rodrigues' formula)."""
    x, y, z = axis.expand(*angle.shape, 3).unbind(-1)
    zero = torch.zeros_like(x)
    k = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    eye = torch.eye(3, dtype=axis.dtype, device=axis.device)
    sin, cos = angle.sin()[..., None, None], angle.cos()[..., None, None]
    return eye + sin * k + (1 - cos) * (k @ k)


class HandModel(nn.Module):
    """Parametric right hand.

    Parameters
    ----------
    hand : HandTopology
        From `load_hand`.
    dtype : torch.dtype
        Precision of the buffers and the output.

    Examples
    --------
    >>> model = HandModel(load_hand())
    >>> out = model(torch.zeros(1, 16, 3), torch.zeros(1, model.shape_count))
    >>> out.vertices.shape[-1], out.joints.shape
    (3, torch.Size([1, 21, 3]))
    """

    def __init__(self, hand: HandTopology, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        for name in (
            "rest",
            "shape_directions",
            "skin_weights",
            "bone_heads",
            "bone_shape_directions",
            "bone_frames",
            "joint_regressor",
        ):
            self.register_buffer(name, torch.as_tensor(getattr(hand, name)).to(dtype), persistent=False)
        self.register_buffer("vertex_index", torch.as_tensor(hand.vertex_index).long(), persistent=False)
        self.bone_parents = [int(p) for p in hand.bone_parents]
        self.shape_count = len(hand.shape_directions)

    def forward(self, angles: Tensor, shape: Tensor) -> HandOutput:
        """Pose hands.

        Parameters
        ----------
        angles : Tensor (B, 16, 3)
            Flexion, abduction and twist of each bone, radians, about the axes of ``bone_frames``, applied to the rest
            pose in the order twist, abduction, flexion.
        shape : Tensor (B, S)
            Shape coefficients in standard deviations.

        Returns
        -------
        HandOutput
        """
        rest = self.rest + torch.einsum("bs,srk->brk", shape, self.shape_directions)
        rotations, offsets = self.bone_transforms(angles, shape)
        rotation = torch.einsum("rj,bjxy->brxy", self.skin_weights, rotations)
        offset = torch.einsum("rj,bjx->brx", self.skin_weights, offsets)
        vertices = torch.einsum("brxy,bry->brx", rotation, rest) + offset
        joints = self.joint_regressor @ vertices[:, self.vertex_index]
        return HandOutput(vertices, joints)

    def bone_transforms(self, angles: Tensor, shape: Tensor) -> tuple[Tensor, Tensor]:
        """Rigid motion of each bone, x -> R x + o for points of the rest pose.

        Parameters
        ----------
        angles, shape : Tensor
            As for `forward`.

        Returns
        -------
        rotations : Tensor (B, 17, 3, 3)
            The last is the forearm's: the identity.
        offsets : Tensor (B, 17, 3)
            Metres.
        """
        heads = self.rest_heads(shape)
        local = rotation_about(self.bone_frames[:, :, 0], angles[..., 0])
        local = local @ rotation_about(self.bone_frames[:, :, 1], angles[..., 1])
        local = local @ rotation_about(self.bone_frames[:, :, 2], angles[..., 2])
        rotations, offsets = [], []
        for bone, parent in enumerate(self.bone_parents):
            turned = heads[:, bone] - torch.einsum("bij,bj->bi", local[:, bone], heads[:, bone])
            if parent < 0:
                rotations.append(local[:, bone])
                offsets.append(turned)
            else:
                rotations.append(rotations[parent] @ local[:, bone])
                offsets.append(torch.einsum("bij,bj->bi", rotations[parent], turned) + offsets[parent])
        rotations.append(torch.eye(3, dtype=local.dtype, device=local.device).expand_as(rotations[0]))
        offsets.append(torch.zeros_like(offsets[0]))
        return torch.stack(rotations, 1), torch.stack(offsets, 1)

    def rest_heads(self, shape: Tensor) -> Tensor:
        """Bone heads (B, 16, 3) of each shape in the rest pose, metres."""
        return self.bone_heads + torch.einsum("bs,sjk->bjk", shape, self.bone_shape_directions)
