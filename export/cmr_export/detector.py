# SPDX-License-Identifier: Apache-2.0
"""The palm detector becomes a part of a bundle.

    python -m cmr_export.detector hand.cmr palm.npz --out hand_detector.cmr

adds it to a bundle that is there; `cmr-export --detector palm.npz` writes a bundle with it.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from cmr_models.checkpoints import read_arrays
from cmr_models.detector.palm import SIZE, PalmDetector, load_palm
from cmr_runtime.bundle import Bundle, write_bundle
from cmr_runtime.errors import CmrError

from .calibration import blobs
from .graphs import open_graph, to_onnx
from .half import to_half
from .parity import Difference, check
from .plan import onnx_graphs, plan, written

__all__ = [
    "NOTICE",
    "PRECISION",
    "PROVENANCE",
    "add_detector",
    "detector_graph",
    "detector_parity",
    "load_detector",
    "main",
    "split_prelus",
    "with_notice",
]

#: Whose limits hold for the detector, however its weights are stored: nothing of them is lost.
PRECISION = "fp32"
#: Goes into a bundle's provenance under the key ``detector``, and with the full sentence into its licence text.
PROVENANCE = "MediaPipe palm detection, Apache-2.0"
NOTICE = (
    "Detector: palm detection of MediaPipe 0.10.14, Copyright the MediaPipe Authors (Google LLC), Apache License 2.0\n"
    "(https://www.apache.org/licenses/LICENSE-2.0); its weights, unchanged, in another form of the graph.\n"
)


def load_detector(weights: Path) -> PalmDetector:
    """Read converted weights (`cmr_models.detector.convert`).

    Raises
    ------
    ValueError
        If the file holds no palm detector.
    """
    try:
        return load_palm(read_arrays(weights))
    except ValueError as error:
        text = f"{weights} holds no palm detector ({error}); make it with `python -m cmr_models.detector.convert`"
        raise ValueError(text) from error


def detector_graph(network: PalmDetector, form: str = "onnx") -> bytes:
    """Export the detector.

    Parameters
    ----------
    network : PalmDetector
        In evaluation mode.
    form : {"onnx", "ort"}
        For "onnx" it is ready for a bundle: weights in half precision, as MediaPipe has them, so that nothing is lost,
        and PRelus split. For "ort" it is left for `cmr_export.ort_format.to_ort` to convert, which would widen the
        weights and gain nothing from the split.

    Returns
    -------
    bytes
        A checked ONNX model.
    """
    image = torch.zeros(1, 3, SIZE, SIZE)
    graph = to_onnx(network, {"image": image}, network.outputs)
    if form == "ort":
        return graph
    model = onnx.load_from_string(graph)
    split_prelus(model)
    return to_half(model.SerializeToString())


def detector_parity(network: PalmDetector, graph: bytes) -> dict[str, Difference]:
    """Compare PyTorch with ONNX Runtime on generated images, by output."""
    images, session = blobs(SIZE), open_graph(graph)
    with torch.no_grad():
        expected = [value.numpy() for value in network(torch.from_numpy(images))]
    found = [session.run(list(network.outputs), {"image": image[None]}) for image in images]
    return {
        f"detector.{name}": Difference.between(value, np.concatenate([outputs[k] for outputs in found]))
        for k, (name, value) in enumerate(zip(network.outputs, expected, strict=True))
    }


def split_prelus(model: onnx.ModelProto) -> int:
    """Write each PRelu as a x + (1 − a) relu(x), in place; return how many.

    The products are depthwise 1 × 1 convolutions: where it optimises the graph itself, ONNX Runtime then keeps feature
    maps in its blocked layout from the first convolution to the last; each PRelu would have it convert them to and fro.
    """
    constants = {i.name: i for i in model.graph.initializer}
    one = "prelu.one"
    nodes: list[onnx.NodeProto] = []
    split = 0
    for node in model.graph.node:
        if node.op_type != "PRelu" or node.input[1] not in constants:
            nodes.append(node)
            continue
        (x, slope), (y,) = node.input, node.output
        values = numpy_helper.to_array(constants[slope])
        channels = values.size
        constants[slope].CopyFrom(numpy_helper.from_array(values.reshape(channels, 1, 1, 1), slope))
        # 1 − a is left to ONNX Runtime, once, when it loads the graph: a may be stored in half precision, 1 − a not.
        nodes += [
            helper.make_node("Sub", [one, slope], [f"{y}.rest"]),
            helper.make_node("Relu", [x], [f"{y}.relu"]),
            helper.make_node("Conv", [x, slope], [f"{y}.line"], group=channels),
            helper.make_node("Conv", [f"{y}.relu", f"{y}.rest"], [f"{y}.bend"], group=channels),
            helper.make_node("Add", [f"{y}.line", f"{y}.bend"], [y]),
        ]
        split += 1
    if split:
        model.graph.initializer.append(numpy_helper.from_array(np.float32(1.0), one))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    return split


def add_detector(bundle: Path, weights: Path, out: Path) -> Bundle:
    """Write a bundle again with a detector beside its stages, in the place of one that it may have.

    Raises
    ------
    BundleError
        If the bundle cannot be read or written.
    ValueError
        If the weights are no palm detector's.
    ParityError
        If the graph computes something else than the network.
    """
    network = load_detector(weights)
    graph = detector_graph(network)
    check(detector_parity(network, graph), PRECISION)
    old = Bundle.open(bundle)
    unwritten = {"source", "bits"}  # what a file does not say of itself
    content = {each.name: getattr(old, each.name) for each in dataclasses.fields(old) if each.name not in unwritten}
    content |= {"detector": graph, "detector_size": SIZE}
    content["provenance"] = {**old.provenance, "detector": PROVENANCE}
    content["licence_text"] = with_notice(old.licence_text)
    planned = plan(onnx_graphs(dataclasses.replace(old, detector=graph)))
    content["plan"] = None if planned is None else written(planned)
    return write_bundle(out, **content)


def with_notice(licence_text: str) -> str:
    """Licence text of a bundle with the detector's terms, once."""
    return licence_text if NOTICE in licence_text else f"{licence_text.rstrip()}\n\n{NOTICE}"


def main(argv: Sequence[str] | None = None) -> int:
    """Add the detector to a bundle; return 0, or 2 with one line on standard error."""
    parser = argparse.ArgumentParser(prog="python -m cmr_export.detector", description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("weights", type=Path, help="palm.npz of cmr_models.detector.convert")
    parser.add_argument("--out", type=Path, required=True, help="bundle to write")
    args = parser.parse_args(argv)
    try:
        bundle = add_detector(args.bundle, args.weights, args.out)
    except (CmrError, ValueError, RuntimeError, OSError) as error:
        print(f"cmr_export.detector: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"{args.out}: {args.out.stat().st_size:,} bytes, detector {len(bundle.detector or b''):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
