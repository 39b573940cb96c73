# SPDX-License-Identifier: Apache-2.0
"""One export of the default network for all tests, with weights that leave no output near a constant."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch

from cmr_export.bundle import export
from cmr_models.hand import load_hand
from cmr_models.network import HandNet, HandNetConfig, save_checkpoint
from cmr_runtime.bundle import Bundle

CONFIG = HandNetConfig(mean=(0.4, 0.5, 0.6), std=(0.3, 0.25, 0.2))
#: What its maker says of the checkpoint.
ABOUT = {"step": 12, "licence": "MIT", "licence_text": "As you like it.", "sources": {"photos": "our own"}}


class Exported(NamedTuple):
    """A network, its checkpoint, its bundle, and the parity that the export found."""

    net: HandNet
    checkpoint: Path
    bundle: Bundle
    differences: dict[str, float]


def lively_net(seed: int = 0) -> HandNet:
    """Build the default network with every head active."""
    torch.manual_seed(seed)
    net = HandNet(CONFIG, load_hand()).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("bias"):  # equal ones would be stored once
                torch.nn.init.normal_(parameter, std=0.05)
        for module in (net.prior.head, net.mesh.project, net.mesh.pose, net.mesh.outline):
            torch.nn.init.normal_(module.weight, std=0.2)
            torch.nn.init.normal_(module.bias, std=0.2)
        for head in net.mesh.spiral.heads:  # a mesh of centimetres
            torch.nn.init.normal_(head.weight, std=4.0)
    return net


@functools.cache
def exported() -> Exported:
    """Export once per test run."""
    folder = Path(tempfile.mkdtemp(prefix="cmr_export_test_"))
    net, checkpoint = lively_net(), folder / "lively.pt"
    save_checkpoint(checkpoint, net, about=json.dumps(ABOUT))
    bundle, differences = export(checkpoint, folder / "hand.cmr")
    return Exported(net, checkpoint, bundle, differences)
