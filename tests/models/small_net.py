# SPDX-License-Identifier: Apache-2.0
"""A small network whose outputs differ from zero, for the tests of networks and training."""

from __future__ import annotations

import torch

from cmr_models.hand import load_hand
from cmr_models.network import HandNet, HandNetConfig

SIZE = 64
CONFIG = HandNetConfig(
    size=SIZE,
    mean=(0.4, 0.5, 0.6),
    std=(0.3, 0.25, 0.2),
    prior_widths=(16, 16, 24, 24),
    widths=(16, 16, 24),
    pose_width=16,
    token=16,
    mesh_widths=(8, 16),
    prior_blocks=None,
    mesh_blocks=None,
)


def small_net(seed: int = 0, config: HandNetConfig = CONFIG) -> HandNet:
    """Build a network with fresh weights."""
    torch.manual_seed(seed)
    return HandNet(config, load_hand()).eval()


def lively_net(seed: int = 0, config: HandNetConfig = CONFIG) -> HandNet:
    """Build a network in which no layer is as good as off, as some are before training."""
    net = small_net(seed, config)
    with torch.no_grad():
        for module in (net.prior.head, net.mesh.project, net.mesh.pose, net.mesh.outline):
            torch.nn.init.normal_(module.weight, std=0.2)
            torch.nn.init.normal_(module.bias, std=0.2)
        for head in net.mesh.spiral.heads.values():  # a mesh of centimetres
            torch.nn.init.normal_(head.weight, std=4.0)
    return net
