# SPDX-License-Identifier: Apache-2.0
"""Any checkpoint becomes a `StagedNetwork`: ours by its format, the paper's networks by the names of their weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cmr_models.checkpoints import read_array, read_content
from cmr_models.network.handnet import FORMAT as HANDNET
from cmr_models.network.staged import load_staged
from cmr_models.paper.config import PaperConfig
from cmr_models.paper.hierarchy import MeshHierarchy
from cmr_models.paper.objective import FORMAT as PAPER
from cmr_models.paper.recognise import load_paper_checkpoint
from cmr_models.paper.staged import staged
from cmr_models.stages import StagedNetwork

__all__ = ["load"]


def load(
    path: Path, assets: Path | None = None, arch: str | None = None, joint_regressor: Path | None = None
) -> StagedNetwork:
    """Read a checkpoint of the default network or of one of the paper's, trained here or by the reference.

    Parameters
    ----------
    path : Path
        Checkpoint.
    assets : Path, optional
        Folder with the template and the sampling matrices of the reference implementation, for its checkpoints; what
        was trained here states its own mesh.
    arch : str, optional
        Name of the architecture, where the weights alone do not say or say it wrongly; sizes are told from them.
    joint_regressor : Path, optional
        ``.npy`` (J, V) in the order of the heat maps, in place of the one that comes with the assets.

    Raises
    ------
    ValueError
        If a file cannot be used; the message says which and what to give instead.
    """
    content = read_content(path)
    stated = content.get("format") if isinstance(content, dict) else None
    if stated in (HANDNET, PAPER) and (assets is not None or arch is not None):
        raise ValueError(f"{path}: states its own mesh and architecture; leave out --assets and --arch")
    if stated == HANDNET:
        network = load_staged(path)
    elif stated == PAPER:
        network = _trained_here(path, content)
    elif assets is None:
        raise ValueError(
            f"{path}: not a checkpoint of this project's training; if it is of the reference implementation, give "
            "--assets DIR, the folder with its transform.pkl (or transform_body.pkl) and j_reg.npy"
        )
    else:
        net = load_paper_checkpoint(path, assets, arch)
        network = staged(net, MeshHierarchy.from_assets(assets, net.config.joints), about={})
    if joint_regressor is None:
        return network
    return replace(network, joint_regressor=_read_regressor(joint_regressor, network))


def _trained_here(path: Path, content: dict[str, Any]) -> StagedNetwork:
    """Take one of the paper's networks that was trained on this project's hand."""
    try:
        config = PaperConfig(**content["config"])
        about = json.loads(content["about"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: what it says of its network is incomplete or wrong ({error})") from error
    hierarchy = MeshHierarchy.from_hand()
    return staged(load_paper_checkpoint(path, hierarchy, config), hierarchy, about)


def _read_regressor(path: Path, network: StagedNetwork) -> np.ndarray:
    try:
        array = read_array(path).astype(np.float32)
    except ValueError as error:
        raise ValueError(f"--joint-regressor {error}") from error
    wanted = (len(network.joint_parents), len(network.template))
    if array.shape != wanted:
        raise ValueError(f"--joint-regressor {path}: shape {array.shape}; {network.architecture} needs {wanted}")
    return array
