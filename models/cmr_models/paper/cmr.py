# SPDX-License-Identifier: Apache-2.0
"""CMR: passes that predict 2D cues, then a pass that predicts the mesh from them (the paper's section 3).

A pass is an encoder and, on top, a decoder of 2D maps. The first encoder sees the image; each later one sees shallow
features and the maps of the pass before it. The last pass is the mesh stage: its encoder's code becomes the mesh, its
maps are the refined ones. `PaperConfig` says which cues the earlier passes predict, which makes CMR-P, -G, -SG, -PG and
the rows of the paper's ablation.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..network.cues import Aggregation
from .config import PaperConfig
from .hierarchy import MeshHierarchy
from .hourglass import delayers, up_and_merge
from .outputs import Maps, PaperOutput
from .resnet import BACKBONES, SHALLOW, ConvBlock, Encoded, Encoder
from .spiral import CODE, SpiralDecoder

__all__ = ["Cmr", "cue_key_patterns", "encoder_keys"]

REFINED = "pose+silhouette"


def encoder_keys(priors: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the encoders in the state dict, as the reference has them."""
    return (
        ("backbone",),
        ("backbone", "backbone_mesh"),
        ("backbone1", "backbone2", "backbone3"),
    )[len(priors)]


def cue_key_patterns(priors: tuple[str, ...]) -> tuple[str, ...]:
    """Patterns of the map decoders' names in the state dict (`{}` is ``delayer`` or ``head``), the refined ones last.

    The reference has names for CMR-G (pose), CMR-PG (pose, pose) and CMR-SG (silhouette, pose); the others follow them.
    """
    if len(priors) == 2:
        return {"pose": "uv_prior_{}", "silhouette": "mask_{}"}[priors[0]], "uv_{}", "uvm_{}"
    kinds = {"pose": "uv_{}", "silhouette": "mask_{}", "pose+silhouette": "uvm_{}"}
    return (*(kinds[kind] for kind in priors), "uv_{}2")


class PriorCues(NamedTuple):
    """What the passes before the mesh stage hand on."""

    features: Tensor  # (B, 64, S / 2, S / 2)
    maps: tuple[Maps, ...]  # logits of each pass


class Cmr(SpiralDecoder):
    """One of the paper's networks.

    Parameters
    ----------
    config : PaperConfig
        Cues, backbone, decoder.
    hierarchy : MeshHierarchy
        The mesh.

    Raises
    ------
    ValueError
        If configuration and hierarchy do not fit.
    """

    def __init__(self, config: PaperConfig, hierarchy: MeshHierarchy) -> None:
        super().__init__(config, hierarchy)
        if config.joints != hierarchy.joints:
            raise ValueError(f"{config.joints} joints on a mesh of {hierarchy.joints}; need as many")
        self.passes = (*config.priors, REFINED)
        self._encoders = encoder_keys(config.priors)
        self._patterns = cue_key_patterns(config.priors)
        channels = BACKBONES[config.backbone].channels[0]
        inp = None
        for k, kind in enumerate(self.passes):
            code = CODE if k or not config.priors else None  # only the first of several has none
            last = k == len(config.priors) - 1
            self.add_module(self._encoders[k], Encoder(config.backbone, inp, code))
            self.add_module(self._patterns[k].format("delayer"), delayers(config.backbone))
            maps = self._map_channels(kind)
            head = ConvBlock(channels, sum(maps), norm=False, act=False)
            self.add_module(self._patterns[k].format("head"), head)
            if last and config.sub_pose:
                self.aggregation = Aggregation(config.sub_pose, config.joints, silhouette=bool(maps[1]))
                inp = SHALLOW + self.aggregation.channels
            else:
                inp = SHALLOW + sum(maps)

    def _map_channels(self, kind: str) -> tuple[int, int]:
        return self.config.joints * ("pose" in kind), int("silhouette" in kind)

    def _encoder(self, k: int) -> Encoder:
        return getattr(self, self._encoders[k])

    def _decode_maps(self, k: int, encoded: Encoded) -> Maps:
        layers, head = (getattr(self, self._patterns[k].format(part)) for part in ("delayer", "head"))
        pose, silhouette = self._map_channels(self.passes[k])
        logits = head(up_and_merge(layers, encoded.levels))
        return Maps(logits[:, :pose] if pose else None, logits[:, pose:] if silhouette else None)

    def prior(self, image: Tensor) -> PriorCues:
        """Run the passes before the mesh stage on normalised images (B, 3, S, S), S a multiple of 32."""
        shallow = features = self._encoder(0).stem(image)
        maps: list[Maps] = []
        for k in range(len(self.config.priors)):
            if k:
                shallow = self._encoder(k).stem(torch.cat([features, *_probabilities(maps[-1])], 1))
            maps.append(self._decode_maps(k, self._encoder(k).deepen(shallow)))
        return PriorCues(shallow if self.config.own_features else features, tuple(maps))

    def mesh(self, features: Tensor, *cues: Tensor) -> tuple[list[Tensor], Maps]:
        """Run the mesh stage.

        Parameters
        ----------
        features : Tensor (B, 64, S / 2, S / 2)
            From `prior`.
        *cues : Tensor
            Probabilities of the last prior: heat maps (B, J, H, H), silhouette (B, 1, H, H), as far as it has them.

        Returns
        -------
        levels : list of Tensor
            Vertices as `SpiralDecoder.decode` gives them.
        refined : Maps
            Logits.
        """
        encoder = self._encoder(-1)
        if cues:
            merged = self.aggregation(*cues) if self.config.sub_pose else torch.cat(cues, 1)
            features = encoder.stem(torch.cat([features, merged], 1))
        encoded = encoder.deepen(features)
        return self.decode(encoded.code), self._decode_maps(len(self.config.priors), encoded)

    def forward(self, image: Tensor) -> PaperOutput:
        """Run all passes on normalised images (B, 3, S, S), S a multiple of 32; the output holds logits."""
        prior = self.prior(image)
        cues = _probabilities(prior.maps[-1]) if prior.maps else ()
        levels, refined = self.mesh(prior.features, *cues)
        return PaperOutput(levels, refined, prior.maps)


def _probabilities(maps: Maps) -> tuple[Tensor, ...]:
    return tuple(logits.sigmoid() for logits in maps if logits is not None)
