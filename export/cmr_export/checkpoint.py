# SPDX-License-Identifier: Apache-2.0
"""Any checkpoint becomes a `StagedNetwork`: ours by its format, the paper's networks by the names of their weights."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cmr_models.checkpoints import read_about, read_array, read_content
from cmr_models.network.handnet import FORMAT as HANDNET
from cmr_models.network.staged import load_staged
from cmr_models.paper.assets import asset_files, check_regressor
from cmr_models.paper.config import PaperConfig
from cmr_models.paper.hierarchy import MeshHierarchy
from cmr_models.paper.objective import FORMAT as PAPER
from cmr_models.paper.recognise import load_paper_checkpoint, untold
from cmr_models.paper.staged import staged
from cmr_models.stages import StagedNetwork

__all__ = ["NO_LICENCE", "NO_LICENCE_TEXT", "digest", "load"]

#: Terms of a checkpoint whose maker states none; `cmr_models.train --about` states them.
NO_LICENCE, NO_LICENCE_TEXT = "not stated", "The maker of this model states no terms. Ask before you use it.\n"
#: Stands below them in a bundle with the mesh of the reference implementation.
ASSETS_TEXT = (
    "\nTemplate, topology and joint regressor come from files given at the export: {}.\n"
    "Those of the reference implementation derive from MANO (hand) or SMPL (body); their terms, which allow\n"
    "non-commercial use only, hold for this bundle too.\n"
)


def load(
    path: Path,
    assets: Path | None = None,
    arch: str | None = None,
    joint_regressor: Path | None = None,
    *,
    size: int | None = None,
    dilation: int | None = None,
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
        Name of the architecture that weights of the reference implementation are taken for, whatever they look like;
        joints, channels and spirals are told from them, and what does not fit is refused.
    joint_regressor : Path, optional
        ``.npy`` (J, V) in the order of the heat maps, in place of the one that comes with the assets.
    size : int, optional
        Side of the images, pixels. The default network takes images of any side that is a multiple of 32 (the
        checkpoint's own if not given); of a network of the reference implementation it is the side that it was trained
        with, where the weights do not tell (the reference's if not given, which ``about`` then says).
    dilation : int, optional
        Of the spirals that a network of the reference implementation was trained with, likewise.

    Raises
    ------
    ValueError
        If a file cannot be used; the message says which and what to give instead.
    """
    content = read_content(path)
    stated = content.get("format") if isinstance(content, dict) else None
    options = {"--assets": assets, "--arch": arch, "--size": size, "--dilation": dilation}
    if stated == HANDNET:
        del options["--size"]
    if stated in (HANDNET, PAPER) and (given := [name for name, value in options.items() if value is not None]):
        raise ValueError(f"{path}: states its own mesh, architecture and sizes; leave out {', '.join(given)}")
    if stated == HANDNET:
        network = load_staged(path, size)
    elif stated == PAPER:
        network = _trained_here(path, content)
    elif assets is None:
        raise ValueError(
            f"{path}: not a checkpoint of this project's training; if it is of the reference implementation, give "
            "--assets DIR, the folder with its transform.pkl and j_reg.npy (of a body: transform_body.pkl)"
        )
    else:
        net = load_paper_checkpoint(path, assets, arch, size=size, dilation=dilation)
        about = _foreign(net.config, assets, joint_regressor, options)
        network = staged(net, MeshHierarchy.from_assets(assets, net.config.joints), about)
    if joint_regressor is None:
        return network
    regressor = _read_regressor(joint_regressor, network)
    sources = {**network.about.get("sources", {}), "joint_regressor_sha256": digest(joint_regressor)}
    return replace(network, joint_regressor=regressor, about={**network.about, "sources": sources})


def _foreign(
    config: PaperConfig, assets: Path, joint_regressor: Path | None, options: dict[str, Any]
) -> dict[str, Any]:
    """Say of a checkpoint that says nothing of itself what its bundle is made of, and what was assumed."""
    mesh, regressor = asset_files(assets, config.joints)
    files = [mesh, joint_regressor or regressor]
    sources = {"transform_sha256": digest(mesh)}
    if regressor is not None:
        sources["joint_regressor_sha256"] = digest(regressor)
    values = {"size": f"input {config.size} px", "dilation": f"dilation {config.dilations[0]}"}
    assumed = [f"{values[name]} (--{name})" for name in untold(config) if options[f"--{name}"] is None]
    if assumed:
        sources["assumed"] = ", ".join(assumed)
    named = ", ".join(file.name for file in files if file is not None)
    return {"licence_text": NO_LICENCE_TEXT + ASSETS_TEXT.format(named), "sources": sources}


def digest(path: Path) -> str:
    """SHA-256 of a file, for the provenance."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _trained_here(path: Path, content: dict[str, Any]) -> StagedNetwork:
    """Take one of the paper's networks that was trained on this project's hand."""
    try:
        config = PaperConfig(**content["config"])
        stated = content["about"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: what it says of its network is incomplete or wrong ({error})") from error
    about = read_about(path, stated)
    hierarchy = MeshHierarchy.from_hand()
    return staged(load_paper_checkpoint(path, hierarchy, config), hierarchy, about)


def _read_regressor(path: Path, network: StagedNetwork) -> np.ndarray:
    wanted = (len(network.joint_parents), len(network.template))
    try:
        array = read_array(path).astype(np.float32)
        if array.shape != wanted:
            raise ValueError(f"{path}: shape {array.shape}; {network.architecture} needs {wanted}")
        check_regressor(path, array)
    except ValueError as error:
        raise ValueError(f"--joint-regressor {error}") from error
    return array
