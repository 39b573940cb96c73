# SPDX-License-Identifier: Apache-2.0
"""The choices of the paper as one typed value, and the names of its networks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

__all__ = ["ARCHITECTURES", "MEAN", "PRIORS", "STD", "PaperConfig", "names", "paper_config"]

#: Normalisation of all reference networks: (rgb / 255 - 0.5) / 0.5.
MEAN = STD = (0.5, 0.5, 0.5)
#: What the passes before the mesh stage may predict.
PRIORS = ((), ("pose",), ("silhouette",), ("pose+silhouette",), ("pose", "pose"), ("silhouette", "pose"))


@dataclass(frozen=True)
class PaperConfig:
    """What a network is made of.

    Attributes
    ----------
    architecture : str
        A key of `ARCHITECTURES`.
    backbone : str
        ``"resnet18"``, ``"resnet50"`` or ``"densestack"``.
    size : int
        Side S of the input in training, pixels; any multiple of 32 works.
    joints : int
        21 (hand) or 17 (body).
    channels : tuple of L int
        Channels of the decoder's levels, finest first.
    spiral_lengths, dilations : tuple of L int
        Of the levels' spirals, finest first.
    priors : tuple of str
        What the passes before the mesh stage predict: none, one of ``"pose"``, ``"silhouette"``,
        ``"pose+silhouette"``, or two: one of the first two, then ``"pose"``.
    sub_pose : str
        Groups of joints whose heat maps are summed for the mesh stage (`cmr_models.network.cues`); none if empty.
    own_features : bool
        True: the mesh stage goes on with the shallow features of the pass before it; False: of the first.
    attention, inception, multi_scale, autoregressive : bool
        Of the decoder: self-attention on the code, Inception Spiral Modules rather than single convolutions, a
        prediction on each level averaged with the coarser one, and predictions handed on with the features.
    separable : bool
        Depthwise-separable spiral convolutions (MobRecon).

    Raises
    ------
    ValueError
        If the choices contradict each other.
    """

    architecture: str
    backbone: str = "resnet18"
    size: int = 224
    joints: int = 21
    channels: tuple[int, ...] = (64, 128, 256, 512)
    spiral_lengths: tuple[int, ...] = (27, 27, 27, 27)
    dilations: tuple[int, ...] = (1, 1, 1, 1)
    priors: tuple[str, ...] = ()
    sub_pose: str = ""
    own_features: bool = False
    attention: bool = True
    inception: bool = True
    multi_scale: bool = True
    autoregressive: bool = True
    separable: bool = False

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES.get(self.architecture, ()):
            found = f"architecture {self.architecture!r} with backbone {self.backbone!r}"
            raise ValueError(f"unknown network: {found}; choose from {', '.join(names())}")
        if self.size < 32 or self.size % 32:
            raise ValueError(f"size is {self.size}; need a multiple of 32")
        if not len(self.channels) == len(self.spiral_lengths) == len(self.dilations):
            found = len(self.channels), len(self.spiral_lengths), len(self.dilations)
            raise ValueError(f"{found} channels, spiral lengths and dilations; need one of each per level")
        if min(self.dilations, default=1) < 1:
            raise ValueError(f"dilation is {min(self.dilations)}; need at least 1, every vertex of a spiral")
        if self.priors not in PRIORS:
            raise ValueError(f"priors is {self.priors}; need one of {PRIORS}")
        if self.sub_pose and not (self.priors and "pose" in self.priors[-1]):
            raise ValueError(f"sub_pose {self.sub_pose!r} needs a pose as last prior; priors is {self.priors}")
        if self.autoregressive and not self.multi_scale:
            raise ValueError("autoregressive needs multi_scale: there is no coarser prediction to hand on")


_YTB = {"attention": False, "inception": False, "multi_scale": False, "autoregressive": False}
_MOBILE = {
    "backbone": "densestack",
    "size": 128,
    "channels": (32, 64, 128, 256),
    "spiral_lengths": (9, 9, 9, 9),
    **_YTB,
}
#: What each architecture changes of the defaults. The first seven differ in the 2D cues (Tables 2 and 3 of the paper),
#: then YouTubeHand and its encoder with the paper's decoder (Table 1), then the two releases of MobRecon.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "cmr_none": {},
    "cmr_s": {"priors": ("silhouette",)},
    "cmr_p": {"priors": ("pose",)},
    "cmr_sp": {"priors": ("pose+silhouette",)},
    "cmr_g": {"priors": ("pose",), "sub_pose": "tip+finger", "attention": False},
    "cmr_sg": {"priors": ("silhouette", "pose"), "sub_pose": "tip", "own_features": True},
    "cmr_pg": {"priors": ("pose", "pose"), "sub_pose": "tip"},
    "ytbhand": _YTB,
    "ytbhand_spiral": {},
    "mobrecon": _MOBILE,
    "mobrecon_ds": {**_MOBILE, "separable": True},
}
BACKBONES = {name: ("densestack",) if "mobrecon" in name else ("resnet18", "resnet50") for name in ARCHITECTURES}


def names() -> tuple[str, ...]:
    """Names that `paper_config` knows, such as ``"cmr_pg_resnet18"`` and ``"mobrecon"``."""
    return tuple(
        name if backbone == "densestack" else f"{name}_{backbone}"
        for name, backbones in BACKBONES.items()
        for backbone in backbones
    )


def paper_config(name: str, **changes: Any) -> PaperConfig:
    """Return a network's configuration by name, with fields of `PaperConfig` changed.

    Examples
    --------
    >>> paper_config("cmr_pg_resnet18", sub_pose="part").priors
    ('pose', 'pose')

    Raises
    ------
    ValueError
        If the name is unknown or a change contradicts it.
    """
    architecture, _, backbone = name.rpartition("_resnet")
    fields = {"backbone": f"resnet{backbone}"} if architecture else {}
    architecture = architecture or name
    if name not in names():
        raise ValueError(f"unknown network {name!r}; choose from {', '.join(names())}")
    return replace(PaperConfig(**{"architecture": architecture, **ARCHITECTURES[architecture], **fields}), **changes)
