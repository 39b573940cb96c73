# SPDX-License-Identifier: Apache-2.0
"""The default network: both stages, and its checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..checkpoints import read_content, save_content
from ..hand import JOINT_PARENTS, ROOT_JOINT, HandTopology, load_hand
from .mesh import Mesh, MeshOutput
from .prior import Prior, PriorOutput
from .trunk import load_pretrained

__all__ = ["HandNet", "HandNetConfig", "HandNetOutput", "load_checkpoint", "save_checkpoint", "to_input"]

FORMAT = "cmr-handnet-1"


@dataclass(frozen=True)
class HandNetConfig:
    """What the network is made of."""

    size: int = 160
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    sub_pose: str = "tip"
    prior_widths: tuple[int, ...] = (32, 48, 64, 96)
    widths: tuple[int, ...] = (48, 64, 96)
    pose_width: int = 32
    token: int = 64
    mesh_widths: tuple[int, ...] = (24, 32, 48, 64)
    mesh_blocks: tuple[int, ...] | None = None  # of the second encoder, see `Trunk`; None is all


def to_input(image: Tensor, config: HandNetConfig) -> Tensor:
    """Images (B, S, S, 3) uint8 -> normalised (B, 3, S, S), on the images' device."""
    mean, std = (torch.tensor(v, device=image.device) for v in (config.mean, config.std))
    return ((image.float() / 255 - mean) / std).permute(0, 3, 1, 2)  # channels-last memory


class HandNetOutput(NamedTuple):
    """Both stages' outputs."""

    prior: PriorOutput
    mesh: MeshOutput


class HandNet(nn.Module):
    """Prior and mesh stage on one hand.

    Parameters
    ----------
    config : HandNetConfig
        Sizes.
    hand : HandTopology
        Mesh hierarchy.
    """

    def __init__(self, config: HandNetConfig, hand: HandTopology) -> None:
        super().__init__()
        self.config = config
        self.hand = hand
        self.prior = Prior(config.prior_widths)
        self.register_buffer("faces", torch.as_tensor(hand.faces).long(), persistent=False)
        self.register_buffer("joint_regressor", torch.as_tensor(hand.joint_regressor).float(), persistent=False)
        self.mesh = Mesh(
            hand,
            config.sub_pose,
            config.widths,
            config.pose_width,
            config.token,
            config.mesh_widths,
            blocks=config.mesh_blocks,
        )

    def forward(self, image: Tensor) -> HandNetOutput:
        """Run both stages on normalised images (B, 3, S, S)."""
        prior = self.prior(image)
        mesh = self.mesh(prior.features, prior.heatmaps.sigmoid(), prior.silhouette.sigmoid())
        return HandNetOutput(prior, mesh)

    def start_from(self, weights: dict[str, np.ndarray]) -> None:
        """Start both encoders, presence and handedness from converted MediaPipe weights (`convert_mediapipe`)."""
        load_pretrained(self.prior.trunk, weights)
        load_pretrained(self.mesh.trunk, weights)
        with torch.no_grad():
            for module, head in ((self.prior.right, 0), (self.prior.presence, 1)):
                module.weight.copy_(torch.from_numpy(weights[f"head_{head}_weight"]))
                module.bias.copy_(torch.from_numpy(weights[f"head_{head}_bias"]))


def save_checkpoint(path: Path, net: HandNet, **extra: Any) -> None:
    """Write weights, configuration and topology; ``extra`` holds plain values or tensors (provenance, optimiser)."""
    hand = net.hand
    content = {
        "format": FORMAT,
        "config": asdict(net.config),
        "topology": {
            "template": torch.as_tensor(hand.template),
            "faces": torch.as_tensor(hand.faces),
            "joint_regressor": torch.as_tensor(hand.joint_regressor),
            "joint_parents": torch.as_tensor(JOINT_PARENTS),
            "root_joint": ROOT_JOINT,
        },
        "state_dict": {k: v.detach().cpu() for k, v in net.state_dict().items()},
        **extra,
    }
    save_content(path, content)


def load_checkpoint(path: Path) -> tuple[HandNet, dict[str, Any]]:
    """Read a checkpoint written by `save_checkpoint`, without unpickling anything but tensors and plain values.

    Returns
    -------
    net : HandNet
        In evaluation mode.
    content : dict
        All that the file holds.

    Raises
    ------
    ValueError
        If the file is no such checkpoint or its weights do not fit.
    """
    content = read_content(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path}: format {found!r}, need {FORMAT!r}; train one with `python -m cmr_models.train`")
    if lacking := sorted({"config", "topology", "state_dict"} - content.keys()):
        raise ValueError(f"{path}: lacks {lacking}; the checkpoint is incomplete")
    if unknown := sorted(content["config"].keys() - {f.name for f in fields(HandNetConfig)}):
        raise ValueError(f"{path}: unknown settings {unknown}; the checkpoint belongs to another version")
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in content["config"].items()}
    net = HandNet(HandNetConfig(**config), load_hand())
    wanted, given = net.state_dict(), content["state_dict"]
    missing, unexpected = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    misshapen = sorted(k for k in wanted.keys() & given.keys() if wanted[k].shape != given[k].shape)
    if missing or unexpected or misshapen:
        raise ValueError(
            f"{path}: missing {missing}, unexpected {unexpected}, misshapen {misshapen}; "
            "the weights belong to another network"
        )
    net.load_state_dict(given)
    return net.eval(), content
