# SPDX-License-Identifier: Apache-2.0
"""A checkpoint of any network that `cmr_models` knows becomes a bundle of `cmr_runtime`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cmr_models.detector.palm import SIZE as DETECTOR_SIZE
from cmr_models.stages import StagedNetwork
from cmr_runtime.bundle import Bundle, write_bundle
from cmr_runtime.topology import Topology

from .calibration import calibration_images, unseen_images
from .checkpoint import NO_LICENCE, NO_LICENCE_TEXT, digest, load
from .cost import StageCost, measure
from .detector import PRECISION as DETECTOR_PRECISION
from .detector import PROVENANCE, detector_graph, detector_parity, load_detector, with_notice
from .graphs import first_layers, open_graph, trace
from .half import to_half
from .mobile import mobile_findings
from .ort_format import to_ort
from .parity import Difference, check, parity
from .plan import plan, written
from .plan_parity import plan_parity
from .quantise import to_int8

__all__ = ["FORMATS", "Exported", "export"]

#: Forms of the graphs in a bundle: ONNX's, and ONNX Runtime's own.
FORMATS = ("onnx", "ort")
#: Images on which an export is compared.
UNSEEN = 16


@dataclass(frozen=True)
class Exported:
    """A bundle and what is to be said about it.

    Attributes
    ----------
    bundle : Bundle
        As read back from the file.
    differences : dict
        PyTorch against ONNX Runtime by output of the two stages.
    seen : str
        What images these were found on.
    detector : dict
        The same of the detector, on images and with limits of its own (`detector.detector_parity`); empty without one.
    costs : dict
        `StageCost` by graph; all but the bytes is counted before a conversion to ORT format.
    findings : dict
        What mobile providers take, lines by stage.
    """

    bundle: Bundle
    differences: dict[str, Difference]
    seen: str
    detector: dict[str, Difference]
    costs: dict[str, StageCost]
    findings: dict[str, list[str]]


def export(
    checkpoint: Path,
    out: Path,
    *,
    name: str | None = None,
    assets: Path | None = None,
    arch: str | None = None,
    joint_regressor: Path | None = None,
    size: int | None = None,
    dilation: int | None = None,
    precision: str = "fp32",
    calibration: Path | None = None,
    form: str = "onnx",
    detector: Path | None = None,
) -> Exported:
    """Export a checkpoint.

    Parameters
    ----------
    checkpoint, assets, arch, joint_regressor, size, dilation
        As in `cmr_export.checkpoint.load`.
    out : Path
        The bundle to write; replaced only when everything has succeeded.
    name : str, optional
        Name of the model in the bundle; the checkpoint's file name by default.
    precision : {"fp32", "fp16", "int8"}
        In which the weights are stored.
    calibration : Path, optional
        Folder of crops from which an int8 export takes the ranges of its tensors; rendered hands by default.
    form : {"onnx", "ort"}
        Form of the graphs; beside a bundle in ORT format stands ``<stem>.required_operators.config``, the operators
        that a reduced build of ONNX Runtime needs.
    detector : Path, optional
        Converted weights of the palm detector, which becomes a part of the bundle.

    Raises
    ------
    ValueError
        If a file cannot be used, choices contradict each other, or the folder of ``out`` does not exist.
    ParityError
        If a graph computes something else than the network.
    """
    if not out.absolute().parent.is_dir():
        raise ValueError(f"{out}: its folder does not exist; make it first")
    if (precision, form) == ("fp16", "ort"):
        raise ValueError("conversion to ORT format widens fp16 weights again: use --precision int8, or --format onnx")
    if calibration is not None and precision != "int8":
        raise ValueError(f"--calibration belongs to precision int8; this is {precision}")
    sha256 = digest(checkpoint)
    network = load(checkpoint, assets, arch, joint_regressor, size=size, dilation=dilation)
    palms = None if detector is None else load_detector(detector)
    provenance = {str(key): str(value) for key, value in network.about.get("sources", {}).items()}
    provenance |= {"checkpoint_sha256": sha256, "training_steps": str(network.about.get("step", "unknown"))}
    if precision == "int8":
        calibrating, provenance["calibration"] = calibration_images(network, calibration)
    if calibration is None:
        images, seen = unseen_images(network, UNSEEN)
    else:
        images, seen = calibrating[:UNSEEN], "calibration images"
    graphs = trace(network)
    if precision == "int8":
        graphs = quantised(network, graphs, calibrating)
        seen += ", other than those of the calibration" if calibration is None else ""
    elif precision == "fp16":
        graphs = {stage: to_half(graph) for stage, graph in graphs.items()}
    if "refined_presence" in network.mesh.outputs:  # it was trained to do without the prior
        graphs["shallow"] = first_layers(graphs["prior"])
    licence_text = network.about.get("licence_text", NO_LICENCE_TEXT)
    if palms is not None:
        graphs["detector"] = detector_graph(palms, form)
        provenance["detector"], licence_text = PROVENANCE, with_notice(licence_text)
    costs = {stage: measure(graph) for stage, graph in graphs.items()}
    findings = {stage: mobile_findings(graph) for stage, graph in graphs.items()}
    operators = None
    if form == "ort":
        graphs, operators = to_ort(graphs)
        costs = {stage: replace(cost, bytes=len(graphs[stage])) for stage, cost in costs.items()}
    planned = None if form == "ort" else plan(graphs)
    differences = parity(network, graphs, images)
    if planned is not None:
        differences |= plan_parity(planned, graphs, images)
    check(differences, precision)
    apart = {} if palms is None else detector_parity(palms, graphs["detector"])
    check(apart, DETECTOR_PRECISION)
    bundle = write_bundle(
        out,
        **graphs,
        topology=topology(network),
        licence_text=licence_text,
        name=name or checkpoint.stem,
        licence=network.about.get("licence", NO_LICENCE),
        provenance=provenance,
        input_size=network.size,
        mean=network.mean,
        std=network.std,
        root_joint=network.root_joint,
        architecture=network.architecture,
        precision=precision,
        cell_centre=network.cell_centre,
        detector_size=None if palms is None else DETECTOR_SIZE,
        plan=None if planned is None else written(planned),
    )
    if operators is not None:
        out.with_name(f"{out.stem}.required_operators.config").write_text(operators)
    return Exported(bundle, differences, seen, apart, costs, findings)


def quantised(network: StagedNetwork, graphs: dict[str, bytes], images: np.ndarray) -> dict[str, bytes]:
    """Eight-bit graphs, calibrated on images; the mesh stage on what the prior in float makes of them."""
    outputs = list(network.prior.outputs)
    prior = open_graph(graphs["prior"])
    first = [{network.prior.inputs[0]: image[None]} for image in images]
    cues = [dict(zip(outputs, prior.run(outputs, feed), strict=True)) for feed in first]
    second = [{name: cue[name] for name in network.mesh.inputs} for cue in cues]
    return {"prior": to_int8(graphs["prior"], first), "mesh": to_int8(graphs["mesh"], second)}


def topology(network: StagedNetwork) -> Topology:
    """Return the mesh of a network as the runtime reads it."""
    joints = network.joint_regressor
    return Topology(
        template=network.template.astype(np.float32),
        faces=network.faces.astype(np.int32),
        joint_regressor=None if joints is None else joints.astype(np.float32),
        joint_parents=network.joint_parents.astype(np.int32),
    )
