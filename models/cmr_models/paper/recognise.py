# SPDX-License-Identifier: Apache-2.0
"""Which of the paper's networks a checkpoint holds, told from the names and shapes of its tensors alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import combinations, count, takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints import check_finite, read_content
from ..network.cues import sub_poses
from .build import build
from .cmr import cue_key_patterns, encoder_keys
from .config import ARCHITECTURES, PRIORS, PaperConfig, paper_config
from .hierarchy import MeshHierarchy
from .mobrecon import MobRecon
from .resnet import SHALLOW
from .spiral import SpiralDecoder

__all__ = ["load_paper_checkpoint", "read_state_dict", "recognise", "untold"]

#: Keys that a report names of each kind before it only counts.
SHOWN = 5
#: What a network's name does not fix.
SIZES = ("size", "joints", "channels", "spiral_lengths", "dilations", "separable")
#: Keys under which a file may keep its state dict.
PLACES = ("model_state_dict", "state_dict", "model", "net")
#: What every network of the paper has one of: MobRecon, and all others.
ANCHORS = ("decoder3d.upsample", "de_layers.0.weight")
#: Name of a map decoder's last layer.
CUE_HEAD = re.compile(r"[a-z_]+_head2?\.conv\.weight")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint: bare, or under one of `PLACES`.

    Nothing but tensors and plain values is unpickled. What wrappers put before all names (parallel training, Lightning,
    `torch.compile`) is removed.

    Raises
    ------
    ValueError
        If the file is truncated, is no checkpoint, names anything else, or holds weights that are not finite.
    """
    content = read_content(path)
    if isinstance(content, Mapping):
        content = next((content[key] for key in PLACES if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping) or not content or not all(torch.is_tensor(v) for v in content.values()):
        places = ", ".join(map(repr, PLACES))
        raise ValueError(f"{path}: holds no state dict; need tensors by name, bare or under one of {places}")
    check_finite(path, content)
    return _without_prefix(path, {str(key): value for key, value in content.items()})


def _without_prefix(path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove what stands before the name of an anchor from all names."""
    prefixes = {
        key.removesuffix(anchor) for key in state for anchor in ANCHORS if key == anchor or key.endswith(f".{anchor}")
    }
    if len(prefixes) > 1:
        found = ", ".join(map(repr, sorted(prefixes)))
        raise ValueError(f"{path}: holds more than one network, under {found}; save the weights of one of them alone")
    (prefix,) = prefixes or {""}
    if outside := [key for key in state if not key.startswith(prefix)]:
        raise ValueError(
            f"{path}: {_shorten(outside)} stand outside the network under {prefix!r}; save its weights alone"
        )
    return {key.removeprefix(prefix): value for key, value in state.items()}


def recognise(state: Mapping[str, Tensor]) -> PaperConfig:
    """Infer architecture, backbone, joints, channels, spiral lengths and switches.

    Groups of joints are known by their number alone: five are taken as fingers, as in the reference. Dilations leave no
    trace, nor does the image size but for MobRecon's: they are the reference's (`untold`).

    Raises
    ------
    ValueError
        If the tensors belong to none of the paper's networks.
    """
    single = [key for key, value in state.items() if not value.ndim and not key.endswith("num_batches_tracked")]
    if single:
        raise ValueError(f"the tensors belong to no network of the paper: single numbers for {_shorten(single)}")
    try:
        mobile, residual = ANCHORS
        if mobile in state:
            return _recognise_mobrecon(state)
        if residual in state:
            return _recognise_resnet(state)
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise ValueError(f"the tensors belong to no network of the paper: {error} is missing or misshapen") from error
    found = _shorten(state) or "nothing"
    raise ValueError(f"the tensors belong to no network of the paper: need de_layers or decoder3d, found {found}")


def untold(config: PaperConfig) -> tuple[str, ...]:
    """Return what weights do not tell of their network: among "size" and "dilation"."""
    return ("dilation",) if "mobrecon" in config.architecture else ("size", "dilation")


def load_paper_checkpoint(
    path: Path,
    mesh: MeshHierarchy | Path,
    arch: str | PaperConfig | None = None,
    *,
    size: int | None = None,
    dilation: int | None = None,
) -> SpiralDecoder | MobRecon:
    """Read a checkpoint of the reference implementation or of this project's training of its networks.

    Parameters
    ----------
    path : Path
        See `read_state_dict`.
    mesh : MeshHierarchy or Path
        The mesh that it was trained on, or the folder with the reference's mesh files.
    arch : str or PaperConfig, optional
        The network, by name (`config.names`) or in full, if it is not to be recognised. Beside a name joints, size,
        channels and spirals are told from the weights.
    size, dilation : int, optional
        Side of the images (pixels) and dilation of all spirals that it was trained with, if not the reference's.

    Returns
    -------
    nn.Module
        In evaluation mode; ``config`` says what it is.

    Raises
    ------
    ValueError
        If the file cannot be read, no network is recognised, or weights, network and mesh do not fit.
    """
    state = read_state_dict(path)
    try:
        config = _stated(arch if isinstance(arch, PaperConfig) else _named(arch, recognise(state)), size, dilation)
        hierarchy = mesh if isinstance(mesh, MeshHierarchy) else MeshHierarchy.from_assets(mesh, config.joints)
        net = build(config, hierarchy)
        _load(net, state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return net.eval()


def _named(name: str | None, told: PaperConfig) -> PaperConfig:
    """Give what the weights tell another architecture and backbone; its sizes stay."""
    named = told if name is None else paper_config(name)
    if (named.architecture, named.backbone) == (told.architecture, told.backbone):
        return told
    return replace(named, **{field: getattr(told, field) for field in SIZES})


def _stated(config: PaperConfig, size: int | None, dilation: int | None) -> PaperConfig:
    """Give a network the size and the dilation that its weights do not tell."""
    if size is not None and size != config.size and "size" not in untold(config):
        raise ValueError(f"size is {size}; the weights of {config.architecture} tell {config.size}: leave it out")
    return replace(
        config,
        size=config.size if size is None else size,
        dilations=config.dilations if dilation is None else (dilation,) * len(config.dilations),
    )


def _load(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    wanted = net.state_dict()
    missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    misshapen = [
        f"{k} {tuple(state[k].shape)} for {tuple(wanted[k].shape)}"
        for k in sorted(wanted.keys() & state.keys())
        if wanted[k].shape != state[k].shape
    ]
    if missing or unexpected or misshapen:
        raise ValueError(
            f"missing {_shorten(missing)}, unexpected {_shorten(unexpected)}, misshapen {_shorten(misshapen)}; "
            "the weights belong to another network or another mesh"
        )
    net.load_state_dict(state)


def _shorten(keys: Iterable[str]) -> str:
    keys = list(keys)
    return ", ".join(keys[:SHOWN]) + (f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "") or "none"


def _levels(state: Mapping[str, Tensor], pattern: str, first: int = 0) -> list[Tensor]:
    """Return the tensors of a numbered key, coarsest level first."""
    return [state[pattern.format(k)] for k in takewhile(lambda k: pattern.format(k) in state, count(first))]


def _per_level(channels: list[int], lengths: list[int]) -> dict[str, tuple[int, ...]]:
    """Fields of `PaperConfig` from lists that start at the coarsest level."""
    return {
        "channels": tuple(channels[::-1]),
        "spiral_lengths": tuple(lengths[::-1]),
        "dilations": (1,) * len(channels),
    }


def _recognise_mobrecon(state: Mapping[str, Tensor]) -> PaperConfig:
    layer = "decoder3d.de_layer.{}.conv."
    kernels = _levels(state, layer + "spatial_layer.weight")
    weights = _levels(state, layer + ("channel_layer.weight" if kernels else "layer.weight"))
    channels = [len(weight) for weight in weights]
    lengths = [k[0].numel() for k in kernels] or [
        weight.shape[1] // inp for weight, inp in zip(weights, [channels[0], *channels[:-1]], strict=True)
    ]
    # The keypoints come from a map of one cell per 8 pixels, as one vector.
    side = 8 * round(state["backbone.uv_reg.0.0.weight"].shape[1] ** 0.5)
    return paper_config(
        "mobrecon_ds" if "backbone.reduce.0.weight" in state else "mobrecon",
        size=side,
        joints=state["decoder3d.upsample"].shape[1],
        separable=bool(kernels),
        **_per_level(channels, lengths),
    )


def _recognise_resnet(state: Mapping[str, Tensor]) -> PaperConfig:
    whole = _levels(state, "de_layers.{}.conv.layer.weight", 1)
    itself = _levels(state, "de_layers.{}.conv1.layer.weight", 1)
    heads = _levels(state, "heads.{}.layer.weight")
    channels = [len(weight) for weight in itself or whole]
    if heads:
        lengths = [head.shape[1] // out for head, out in zip(heads, channels, strict=True)]
    else:
        lengths = [weight.shape[1] // inp for weight, inp in zip(whole, [channels[0], *channels[:-1]], strict=True)]
    priors = next((p for p in PRIORS if _cue_heads(p) == {k for k in state if CUE_HEAD.fullmatch(k)}), None)
    fields: dict[str, Any] = {
        "attention": "attention.gamma" in state,
        "inception": bool(itself),
        "multi_scale": bool(heads),
        "autoregressive": len(heads) > 1 and whole[1].shape[1] == lengths[1] * (channels[0] + 3),
        **_per_level(channels, lengths),
    }
    deep = any(key.endswith("layer1.0.conv3.weight") for key in state)
    backbone = "resnet50" if deep else "resnet18"
    if priors is None:
        plain = not (fields["attention"] or fields["inception"] or heads)
        return paper_config(f"{'ytbhand' if plain else 'ytbhand_spiral'}_{backbone}", **fields)
    joints = len(state[cue_key_patterns(priors)[-1].format("head") + ".conv.weight"]) - 1
    groups = 0
    if priors:
        inp = state[encoder_keys(priors)[-1] + ".reduce.0.conv.weight"].shape[1]
        groups = inp - SHALLOW - joints * ("pose" in priors[-1]) - ("silhouette" in priors[-1])
    sub_pose = _sub_pose(groups, joints)
    architecture = next(
        name
        for name, choices in ARCHITECTURES.items()
        if name.startswith("cmr") and choices.get("priors", ()) == priors
        if priors != ("pose",) or bool(choices.get("sub_pose")) == bool(sub_pose)
    )
    size = 256 if joints == 17 else 224
    return paper_config(f"{architecture}_{backbone}", joints=joints, size=size, sub_pose=sub_pose, **fields)


def _cue_heads(priors: tuple[str, ...]) -> set[str]:
    return {pattern.format("head") + ".conv.weight" for pattern in cue_key_patterns(priors)}


def _sub_pose(groups: int, joints: int) -> str:
    """Return the union of sub-poses with this many groups; the names in the order of the reference's use of them."""
    if not groups:
        return ""
    known = [name for name in ("tip", "finger", "part", "level") if joints != 17 or name != "finger"]
    for size in range(1, len(known) + 1):
        for union in combinations(known, size):
            if len(sub_poses("+".join(union), joints)) == groups:
                return "+".join(union)
    raise ValueError(f"the mesh stage takes {groups} groups of joints, which no union of {known} gives")
