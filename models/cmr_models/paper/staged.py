# SPDX-License-Identifier: Apache-2.0
"""The paper's networks as the two stages of a bundle: what a sigmoid away from training the export sees.

| network | prior gives | mesh stage takes |
|---|---|---|
| CMR | maps of its priors, ``features`` at half the image's resolution | ``features`` and the maps of the last prior |
| YouTubeHand | ``features``: the encoder's code | ``features`` |
| MobRecon | ``keypoints``, ``features``: the latent map | ``features``, ``keypoints`` |
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..stages import Stage, StagedNetwork
from .cmr import Cmr
from .config import MEAN, STD
from .hierarchy import MeshHierarchy
from .mobrecon import MobRecon
from .outputs import Maps
from .ytbhand import YouTubeHand

__all__ = ["staged"]

#: The reference paints a joint into the map of the whole image at the pixel that contains it, and halves the map by
#: averaging 2 x 2 pixels: cell j covers pixels 2 j and 2 j + 1.
CELL_CENTRE = 0.5
MAP_NAMES = Maps("heatmaps", "silhouette")


def _named(maps: Maps, names: tuple[str, ...] = MAP_NAMES) -> dict[str, Tensor]:
    """Probabilities of the maps that there are, by name."""
    pairs = zip(names, maps, strict=True)
    return {name: logits.sigmoid() for name, logits in pairs if logits is not None}


class _CmrPrior(Stage):
    inputs = ("image",)

    def __init__(self, net: Cmr) -> None:
        super().__init__()
        self.net = net
        *_, last = net.config.priors or ("",)
        self.cues = tuple(name for name, kind in zip(MAP_NAMES, ("pose", "silhouette"), strict=True) if kind in last)
        self.earlier = ()
        if len(net.config.priors) == 2:
            self.earlier = ("coarse_heatmaps",) if net.config.priors[0] == "pose" else ("silhouette",)
        self.outputs = (*self.cues, *self.earlier, "features")

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        features, maps = self.net.prior(*tensors)
        named = _named(maps[-1]) if maps else {}
        if self.earlier:
            named |= _named(maps[0], ("coarse_heatmaps", "silhouette"))
        return tuple((named | {"features": features})[name] for name in self.outputs)


class _CmrMesh(Stage):
    outputs = ("vertices", "refined_heatmaps", "refined_silhouette")

    def __init__(self, net: Cmr, cues: tuple[str, ...], unit: float) -> None:
        super().__init__()
        self.net, self.unit = net, unit
        self.inputs = ("features", *cues)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        levels, refined = self.net.mesh(*tensors)
        return (self.unit * levels[0], *_named(refined).values())


class _Encode(Stage):
    inputs = ("image",)

    def __init__(self, net: YouTubeHand | MobRecon) -> None:
        super().__init__()
        self.net = net
        self.outputs = ("keypoints", "features") if isinstance(net, MobRecon) else ("features",)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        if isinstance(self.net, MobRecon):
            features, keypoints = self.net.encode(*tensors)
            return keypoints, features
        return (self.net.backbone(*tensors).code,)


class _Decode(Stage):
    outputs = ("vertices",)

    def __init__(self, net: YouTubeHand | MobRecon, unit: float) -> None:
        super().__init__()
        self.net, self.unit = net, unit
        self.inputs = ("features", "keypoints") if isinstance(net, MobRecon) else ("features",)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        decoded = self.net.decode(*tensors)
        return (self.unit * (decoded if isinstance(self.net, MobRecon) else decoded[0]),)


def staged(net: nn.Module, hierarchy: MeshHierarchy, about: dict[str, Any]) -> StagedNetwork:
    """Take a network apart.

    Parameters
    ----------
    net : Cmr, YouTubeHand or MobRecon
        Put into evaluation mode.
    hierarchy : MeshHierarchy
        The mesh that it was built on.
    about : dict
        See `StagedNetwork`.

    Raises
    ------
    ValueError
        If the network is none of the paper's.
    """
    if isinstance(net, Cmr):
        prior: Stage = _CmrPrior(net)
        mesh: Stage = _CmrMesh(net, prior.cues, hierarchy.unit)
    elif isinstance(net, YouTubeHand | MobRecon):
        prior, mesh = _Encode(net), _Decode(net, hierarchy.unit)
    else:
        raise ValueError(f"{type(net).__name__} is no network of the paper; build one with `config.build`")
    config = net.config
    architecture = (
        config.architecture if "mobrecon" in config.architecture else f"{config.architecture}_{config.backbone}"
    )
    return StagedNetwork(
        architecture=architecture,
        prior=prior.eval(),
        mesh=mesh.eval(),
        size=config.size,
        mean=MEAN,
        std=STD,
        cell_centre=CELL_CENTRE,
        template=hierarchy.template,
        faces=hierarchy.faces[0],
        joint_regressor=hierarchy.joint_regressor,
        joint_parents=hierarchy.joint_parents,
        root_joint=hierarchy.root_joint,
        about=about,
    )
