# SPDX-License-Identifier: Apache-2.0
"""Mesh stage: shallow features and aggregated 2D cues -> root-relative mesh, refined heat maps and silhouette."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..hand import ROOT_JOINT, HandTopology
from .cues import Aggregation
from .depthwise import Depthwise5
from .hourglass import Decoder
from .prior import SHALLOW_BLOCK
from .spiral import SpiralDecoder
from .trunk import BLOCKS, Trunk

__all__ = ["Mesh", "MeshOutput"]

#: The decoder works in units of this many metres, so that its numbers are about one.
UNIT = 0.1


class MeshOutput(NamedTuple):
    """Output of the mesh stage; H as in the prior, M = 2 H."""

    levels: list[Tensor]  # (B, V_l, 3) metres relative to the root joint, finest first: `SpiralDecoder.shown`
    heatmaps: Tensor  # (B, 21, H, H) logits
    silhouette: Tensor  # (B, 1, M, M) logits
    presence: Tensor | None = None  # (B, 1) logits; of a network that recalls


class Mesh(nn.Module):
    """Second encoder with a pose and silhouette decoder and a spiral decoder.

    The 2D cues enter through a projection that starts at zero: a pretrained encoder begins with its own function.
    Features are pooled at the refined joints (a product of heat maps and features, no sampling operator) and lifted
    from the 21 joints to the coarsest mesh level by a learned matrix.
    """

    def __init__(
        self,
        hand: HandTopology,
        sub_pose: str = "tip",
        widths: tuple[int, ...] = (48, 64, 96),
        pose_width: int = 32,
        token: int = 64,
        mesh_widths: Sequence[int] = (48, 64),
        joints: int = 21,
        blocks: Sequence[int] | None = None,
        recall: bool = False,
        rank: int | None = None,
        clipped: bool = True,
    ) -> None:
        super().__init__()
        shallow = BLOCKS[SHALLOW_BLOCK].out
        self.cues = Aggregation(sub_pose, joints)
        self.project = nn.Conv2d(self.cues.channels, shallow, 2, 2)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        self.trunk = Trunk(SHALLOW_BLOCK + 1, blocks)
        self.decoder = Decoder((shallow, 64, 112), widths, clipped)
        self.enter = nn.Conv2d(widths[0] + self.cues.channels, pose_width, 1)
        self.mix = nn.Sequential(Depthwise5(pose_width), nn.Conv2d(pose_width, pose_width, 1))
        self.pose = nn.Conv2d(pose_width, joints, 1)
        self.outline = nn.Conv2d(pose_width, 4, 1)  # 2 x 2 sub-cells
        for head in (self.pose, self.outline):
            nn.init.normal_(head.weight, std=0.01)
            nn.init.constant_(head.bias, -4.0)

        self.joint_features = nn.Linear(widths[0], token)
        # A full matrix is the largest of all weights: to fetch it takes as long as two blocks of the encoder.
        pooled, wide = self.trunk.pooled, joints * token // 2
        self.global_features: nn.Module = nn.Linear(pooled, wide)
        if rank is not None:
            if not 0 < rank <= min(pooled, wide):
                raise ValueError(f"rank is {rank}, of a matrix {wide} × {pooled}; need 1 to {min(pooled, wide)}")
            self.global_features = nn.Sequential(nn.Linear(pooled, rank, bias=False), nn.Linear(rank, wide))
        self.token = nn.Linear(token + token // 2, token)
        self.presence = nn.Linear(self.trunk.pooled, 1) if recall else None
        coarsest = hand.level_template(len(hand.level_index))
        skeleton = hand.joint_regressor @ hand.template
        distance = torch.cdist(torch.as_tensor(coarsest), torch.as_tensor(skeleton).float())
        self.lift = nn.Parameter(torch.softmax(-distance / 0.02, 1))
        self.spiral = SpiralDecoder(hand, token, mesh_widths)
        self.register_buffer("root", torch.as_tensor(hand.joint_regressor[ROOT_JOINT]).float()[None, None])
        for k, index in enumerate(hand.level_index):
            self.register_buffer(f"level_index_{k}", torch.as_tensor(index).long(), persistent=False)

    def forward(self, features: Tensor, heatmaps: Tensor, silhouette: Tensor) -> MeshOutput:
        """Run the mesh stage on shallow features (B, 24, G, G) and probabilities (B, 21, H, H), (B, 1, H, H)."""
        return self.decode(*self.encode(features, heatmaps, silhouette))

    def decode(self, tokens: Tensor, pose: Tensor, outline: Tensor, presence: Tensor | None) -> MeshOutput:
        """Decode what `encode` gives."""
        vertices = self.spiral(self.lift @ tokens)
        root = self.root @ vertices[0]
        return MeshOutput([UNIT * (v - root) for v in vertices], pose, outline, presence)

    def encode(
        self, features: Tensor, heatmaps: Tensor, silhouette: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """All in front of the spiral decoder.

        Returns
        -------
        tokens : (B, 21, token) Tensor
            Features of the joints.
        pose, outline, presence : Tensor
            Logits, as in `MeshOutput`.
        """
        cues = self.cues(heatmaps, silhouette)
        levels, pooled = self.trunk(features + self.project(cues))
        decoded = self.decoder([features, *levels[1:]])[0]
        # One pointwise layer over decoded features and cues; its first part before the features are enlarged.
        width = decoded.shape[1]
        x = F.conv2d(cues, self.enter.weight[:, width:], self.enter.bias)
        x = x + F.interpolate(F.conv2d(decoded, self.enter.weight[:, :width]), scale_factor=2.0, mode="nearest")
        x = x + self.mix(self.decoder.act(x))
        x = self.decoder.act(x)
        pose, outline = self.pose(x), F.pixel_shuffle(self.outline(x), 2)

        # Pool the decoded features at the joints, weights summing to about one for a visible joint.
        attention = F.avg_pool2d(torch.sigmoid(pose), 2).flatten(2)
        attention = attention / (attention.sum(2, keepdim=True) + 0.1)
        local = self.joint_features(attention @ decoded.flatten(2).transpose(1, 2))
        whole = self.global_features(pooled).unflatten(1, (local.shape[1], -1))
        presence = None if self.presence is None else self.presence(pooled)
        return F.relu(self.token(torch.cat([local, whole], 2))), pose, outline, presence
