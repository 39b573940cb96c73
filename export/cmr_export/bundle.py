# SPDX-License-Identifier: Apache-2.0
"""A checkpoint of `cmr_models` becomes a bundle of `cmr_runtime`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch

from cmr_models.network import load_checkpoint
from cmr_runtime.bundle import Bundle, write_bundle
from cmr_runtime.topology import Topology

from .graphs import MESH_INPUTS, MESH_OUTPUTS, PRIOR_INPUTS, PRIOR_OUTPUTS, MeshStage, PriorStage, to_onnx
from .parity import parity

__all__ = ["NO_LICENCE", "NO_LICENCE_TEXT", "export"]

#: Terms of a checkpoint whose maker states none; `cmr_models.train --about` states them.
NO_LICENCE, NO_LICENCE_TEXT = "not stated", "The maker of this model states no terms. Ask before you use it.\n"


def sample_images(size: int, count: int = 4, seed: int = 0) -> np.ndarray:
    """Images (count, 3, size, size) in 0..1 for the parity check: smooth blobs and noise, from dark to bright."""
    random = np.random.default_rng(seed)
    coarse = random.random((count, 3, 8, 8)).astype(np.float32)
    smooth = torch.nn.functional.interpolate(torch.from_numpy(coarse), size=(size, size), mode="bicubic").numpy()
    return np.clip(smooth + 0.1 * random.standard_normal(smooth.shape), 0, 1).astype(np.float32)


def export(checkpoint: Path, out: Path, name: str | None = None) -> tuple[Bundle, dict[str, float]]:
    """Export a checkpoint.

    Parameters
    ----------
    checkpoint : Path
        Written by `cmr_models.network.save_checkpoint`.
    out : Path
        The bundle to write; replaced only when everything has succeeded.
    name : str, optional
        Name of the model in the bundle; the checkpoint's file name by default.

    Returns
    -------
    bundle : Bundle
        As read back from the file.
    differences : dict
        Largest difference between PyTorch and ONNX Runtime by output.

    Raises
    ------
    ValueError
        If the checkpoint cannot be used, or the folder of ``out`` does not exist.
    ParityError
        If a graph computes something else than the network.
    """
    if not Path(out).absolute().parent.is_dir():
        raise ValueError(f"{out}: its folder does not exist; make it first")
    digest = hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest()
    net, content = load_checkpoint(Path(checkpoint))
    config, topology = net.config, content["topology"]
    prior, mesh = PriorStage(net).eval(), MeshStage(net).eval()
    image = torch.from_numpy(sample_images(config.size, 1))
    with torch.no_grad():
        cues = dict(zip(PRIOR_OUTPUTS, prior(image), strict=True))
    prior_graph = to_onnx(prior, {PRIOR_INPUTS[0]: image}, PRIOR_OUTPUTS)
    mesh_graph = to_onnx(mesh, {k: cues[k] for k in MESH_INPUTS}, MESH_OUTPUTS)
    mean, std = (np.asarray(v, np.float32)[:, None, None] for v in (config.mean, config.std))
    images = ((sample_images(config.size) - mean) / std).astype(np.float32)
    differences = parity(prior, mesh, prior_graph, mesh_graph, images)
    about = json.loads(content.get("about", "{}"))
    bundle = write_bundle(
        out,
        prior=prior_graph,
        mesh=mesh_graph,
        topology=Topology(
            template=topology["template"].numpy().astype(np.float32),
            faces=topology["faces"].numpy().astype(np.int32),
            joint_regressor=topology["joint_regressor"].numpy().astype(np.float32),
            joint_parents=topology["joint_parents"].numpy().astype(np.int32),
        ),
        licence_text=about.get("licence_text", NO_LICENCE_TEXT),
        name=name or Path(checkpoint).stem,
        licence=about.get("licence", NO_LICENCE),
        provenance={
            **{str(key): str(value) for key, value in about.get("sources", {}).items()},
            "checkpoint_sha256": digest,
            "training_steps": str(about.get("step", "unknown")),
        },
        input_size=config.size,
        mean=config.mean,
        std=config.std,
        root_joint=int(topology["root_joint"]),
    )
    return bundle, differences
