# SPDX-License-Identifier: Apache-2.0
"""The default network: both stages, and its checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..checkpoints import check_finite, read_about, read_content, save_content
from ..hand import JOINT_PARENTS, ROOT_JOINT, HandTopology, load_hand
from .mesh import Mesh, MeshOutput
from .prior import SHALLOW_BLOCK, Prior, PriorOutput
from .trunk import DENSE, LAST, load_pretrained

__all__ = ["HandNet", "HandNetConfig", "HandNetOutput", "load_checkpoint", "save_checkpoint", "to_input"]

FORMAT = "cmr-handnet-1"
#: What networks had whose checkpoints do not say it.
BEFORE = {"prior_blocks": None, "mesh_blocks": None, "recall": False, "stem": None, "rank": None, "clipped": True}


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
    mesh_widths: tuple[int, ...] = (48, 64)  # of the coarsest mesh levels, see `SpiralDecoder`
    stem: tuple[int, int] | None = None  # of the prior's encoder, see `Trunk`; None is MediaPipe's
    prior_blocks: tuple[int, ...] | None = (*range(12), LAST)  # of the encoders, see `Trunk`; None is all
    mesh_blocks: tuple[int, ...] | None = (4, 5, *range(7, LAST + 1))
    rank: int | None = None  # of the matrix from the whole crop's features to those of the joints; None is a full one
    clipped: bool = True  # in the decoders, see `Decoder`
    recall: bool = True  # the mesh stage can take what it said of the last frame in place of the prior's cues

    def __post_init__(self) -> None:
        """Refuse a size that the trunk cannot halve five times."""
        if type(self.size) is not int or self.size < 32 or self.size % 32:
            raise ValueError(f"size is {self.size!r}; need a multiple of 32")

    def lite(self) -> HandNetConfig:
        """Return the form of the lite network: three quarters of the time.

        A dense stem, one block of the second encoder less, a matrix of low rank, and no limit that makes ONNX Runtime
        lay maps out anew.
        """
        prior, mesh = self.prior_blocks or range(LAST + 1), self.mesh_blocks or range(SHALLOW_BLOCK + 1, LAST + 1)
        return replace(
            self,
            stem=(16, 48),
            prior_blocks=tuple(block for block in prior if block >= DENSE),
            mesh_blocks=tuple(block for block in mesh if block != 12),
            rank=64,
            clipped=False,
        )


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
        self.prior = Prior(config.prior_widths, blocks=config.prior_blocks, stem=config.stem, clipped=config.clipped)
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
            recall=config.recall,
            rank=config.rank,
            clipped=config.clipped,
        )

    def forward(
        self, image: Tensor, recall: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    ) -> HandNetOutput:
        """Run both stages on normalised images (B, 3, S, S); ``recall`` changes the cues between them."""
        prior = self.prior(image)
        cues = prior.heatmaps.sigmoid(), prior.silhouette.sigmoid()
        mesh = self.mesh(prior.features, *(cues if recall is None else recall(*cues)))
        return HandNetOutput(prior, mesh)

    def start_from(self, weights: dict[str, np.ndarray]) -> None:
        """Start both encoders, presence and handedness from converted MediaPipe weights (`convert_mediapipe`)."""
        load_pretrained(self.prior.trunk, weights)
        load_pretrained(self.mesh.trunk, weights)
        with torch.no_grad():
            for module, head in ((self.prior.right, 0), (self.prior.presence, 1), (self.mesh.presence, 1)):
                if module is None:
                    continue
                module.weight.copy_(torch.from_numpy(weights[f"head_{head}_weight"]))
                module.bias.copy_(torch.from_numpy(weights[f"head_{head}_bias"]))


def save_checkpoint(path: Path, net: HandNet, **extra: Any) -> None:
    """Write weights, configuration and topology; ``extra`` holds plain values or tensors (provenance, optimiser)."""
    content = {
        "format": FORMAT,
        "config": asdict(net.config),
        "topology": {**_topology(net.hand), "root_joint": ROOT_JOINT},
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
        If the file is no such checkpoint, is damaged, or its weights do not fit; the message says what is wrong.
    """
    content = read_content(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path}: format {found!r}, need {FORMAT!r}; train one with `python -m cmr_models.train`")
    if lacking := sorted({"config", "topology", "state_dict"} - content.keys()):
        raise ValueError(f"{path}: lacks {lacking}; the checkpoint is incomplete")
    for name in ("config", "topology", "state_dict"):
        if not isinstance(content[name], dict):
            raise ValueError(f"{path}: {name} is a {type(content[name]).__name__}, need a dict; the file is damaged")
    read_about(path, content.get("about", "{}"))
    if unknown := sorted(content["config"].keys() - {f.name for f in fields(HandNetConfig)}, key=str):
        raise ValueError(f"{path}: unknown settings {unknown}; the checkpoint belongs to another version")
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in (BEFORE | content["config"]).items()}
    try:
        sizes = HandNetConfig(**config)
        with torch.device("meta"):  # takes no memory, whatever the sizes are
            wanted = HandNet(sizes, load_hand()).state_dict()
        to_input(torch.zeros(1, 1, 1, 3), sizes)
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{path}: no network can be made of config ({error}); the file is damaged") from error
    if faults := _differences(wanted, content["state_dict"]):
        raise ValueError(f"{path}: {faults}; the weights belong to another network")
    net = HandNet(sizes, load_hand())
    topology = dict(content["topology"])
    if type(root := topology.pop("root_joint", None)) is not int:
        raise ValueError(f"{path}: topology has root_joint {root!r}, need a whole number; the file is damaged")
    if faults := _differences(_topology(net.hand), topology):
        raise ValueError(f"{path}: topology: {faults}; the mesh is another than this version's")
    check_finite(path, content["state_dict"])
    net.load_state_dict(content["state_dict"])
    return net.eval(), content


def _topology(hand: HandTopology) -> dict[str, Tensor]:
    """Mesh and joints that a checkpoint states beside its weights."""
    names = ("template", "faces", "joint_regressor")
    return {name: torch.as_tensor(getattr(hand, name)) for name in names} | {
        "joint_parents": torch.as_tensor(JOINT_PARENTS)
    }


def _differences(wanted: Mapping[str, Tensor], given: Mapping[Any, Any]) -> str:
    """Say which tensors are missing, unexpected, or no tensor of the wanted shape; "" if none."""
    missing, unexpected = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys(), key=str)
    shapes = {name: getattr(given[name], "shape", None) for name in wanted.keys() & given.keys()}
    misshapen = sorted(name for name, shape in shapes.items() if wanted[name].shape != shape)
    found = missing or unexpected or misshapen
    return f"missing {missing}, unexpected {unexpected}, misshapen {misshapen}" if found else ""
