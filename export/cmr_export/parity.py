# SPDX-License-Identifier: Apache-2.0
"""PyTorch against ONNX Runtime, output by output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from cmr_models.stages import Stage, StagedNetwork

from .graphs import open_graph

__all__ = ["LIMITS", "Difference", "ParityError", "check", "limit", "parity", "unit"]

#: Units of the outputs that are no probabilities. Boxes are the detector's.
UNITS = {"vertices": "m", "keypoints": "of the crop", "boxes": "of the image", "features": "of the largest"}
#: Largest difference accepted, by unit and precision. Eight bits are reported and judged by the reader.
LIMITS: dict[str, dict[str, float | None]] = {
    "m": {"fp32": 1e-5, "fp16": 1e-3, "int8": None},
    "of the crop": {"fp32": 1e-4, "fp16": 1e-2, "int8": None},
    "of the image": {"fp32": 1e-4, "fp16": 1e-2, "int8": None},
    "of the largest": {"fp32": 1e-4, "fp16": 1e-2, "int8": None},
    "probability": {"fp32": 1e-4, "fp16": 1e-2, "int8": None},
}

Arrays = dict[str, np.ndarray]


class ParityError(RuntimeError):
    """An exported graph computes something else than the network."""


@dataclass(frozen=True)
class Difference:
    """How far one output is off.

    Attributes
    ----------
    largest, mean : float
        Absolute difference in the output's own `unit`; values beyond 1, as features have them, are measured against the
        largest.
    """

    largest: float
    mean: float

    @classmethod
    def between(cls, expected: np.ndarray, found: np.ndarray) -> Difference:
        """Compare two arrays of one shape."""
        off = np.abs(expected - found) / max(1.0, float(np.abs(expected).max()))
        return cls(float(off.max()), float(off.mean()))


def unit(name: str) -> str:
    """Name the unit of an output such as ``mesh.vertices``."""
    return UNITS.get(name.rpartition(".")[2], "probability")


def limit(name: str, precision: str) -> float | None:
    """Largest difference accepted in an output."""
    return LIMITS[unit(name)][precision]


def _torch(stage: Stage, feed: Arrays) -> Arrays:
    with torch.no_grad():
        values = stage(*(torch.from_numpy(feed[name]) for name in stage.inputs))
    return {name: value.numpy() for name, value in zip(stage.outputs, values, strict=True)}


def parity(network: StagedNetwork, graphs: Mapping[str, bytes], images: np.ndarray) -> dict[str, Difference]:
    """Compare both stages on images (N, 3, S, S), normalised.

    The mesh stage is compared on what PyTorch's prior makes of an image, and once more, as ``both``, on what each
    side's own prior does: that is what a user sees. Where the first layers have a graph of their own, so is that.

    Returns
    -------
    dict
        `Difference` by output (``prior.heatmaps``, ``mesh.vertices``, ``both.vertices``): the largest of all images,
        the mean over them.
    """
    stages = {"prior": network.prior, "mesh": network.mesh}
    sessions = {name: open_graph(graphs[name]) for name in stages}

    def onnx(name: str, feed: Arrays) -> Arrays:
        outputs = stages[name].outputs
        found = sessions[name].run(list(outputs), {key: feed[key] for key in stages[name].inputs})
        return dict(zip(outputs, found, strict=True))

    shallow = open_graph(graphs["shallow"]) if "shallow" in graphs else None
    seen: dict[str, list[Difference]] = {}
    for image in images:
        first = {network.prior.inputs[0]: image[None]}
        cues, ours = _torch(network.prior, first), onnx("prior", first)
        mesh = _torch(network.mesh, cues)
        for tag, expected, found in (
            ("prior", cues, ours),
            ("mesh", mesh, onnx("mesh", cues)),
            ("both", mesh, onnx("mesh", ours)),
        ):
            for name, value in expected.items():
                seen.setdefault(f"{tag}.{name}", []).append(Difference.between(value, found[name]))
        if shallow is not None:
            (features,) = shallow.run(["features"], first)
            seen.setdefault("shallow.features", []).append(Difference.between(cues["features"], features))
    return {
        name: Difference(float(np.max([d.largest for d in all_])), float(np.mean([d.mean for d in all_])))
        for name, all_ in seen.items()
    }


def check(differences: Mapping[str, Difference], precision: str) -> None:
    """Raise `ParityError` if an output is off by more than its limit, or is no number."""
    failed = []
    for name, difference in differences.items():
        bound = limit(name, precision)
        if not (np.isfinite(difference.largest) if bound is None else difference.largest <= bound):
            allowed = "a finite number" if bound is None else f"{bound:g} at most"
            failed.append(f"{name} {difference.largest:.1e} {unit(name)}, need {allowed}")
    if failed:
        raise ParityError(f"the exported network differs: {'; '.join(failed)}; nothing was written")
