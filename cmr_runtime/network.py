# SPDX-License-Identifier: Apache-2.0
"""The two stages of the network: ONNX Runtime sessions with typed outputs, checked against the bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from .bundle import Bundle
from .errors import BundleError, InputError
from .topology import JOINTS

__all__ = ["MeshOutput", "MeshStage", "PriorOutput", "PriorStage"]

_Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PriorOutput:
    """What the prior stage sees in a crop; all but the features are probabilities.

    Attributes
    ----------
    heatmaps : (21, H, H) float32
    silhouette : (H, H) float32
    presence : float
        That the crop shows a hand.
    right : float
        That the hand, as the crop shows it, is a right one.
    features : (1, C, G, G) float32
        For the mesh stage.
    """

    heatmaps: _Array
    silhouette: _Array
    presence: float
    right: float
    features: _Array


@dataclass(frozen=True, eq=False)
class MeshOutput:
    """What the mesh stage makes of it.

    Attributes
    ----------
    vertices : (V, 3) float32
        Metres, relative to the root joint, frame of the crop camera.
    heatmaps : (21, H, H) float32
        Probabilities, refined.
    silhouette : (M, M) float32
        Probabilities, refined.
    """

    vertices: _Array
    heatmaps: _Array
    silhouette: _Array


class PriorStage:
    """Crop to heat maps, silhouette, presence, handedness and features.

    Parameters
    ----------
    bundle : Bundle
        Holds the graph and the normalisation of its input.
    threads : int
        Threads inside an operator.

    Raises
    ------
    BundleError
        The graph does not load, or an input or output is missing or of another shape than the bundle's form has.
    """

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        S = bundle.input_size
        name = "prior.onnx"
        self._session = _session(bundle.prior, name, bundle.source, threads)
        _expect(self._session.get_inputs(), {"image": (1, 3, S, S)}, name, bundle.source)
        shapes = _expect(
            self._session.get_outputs(),
            {
                "heatmaps": (1, JOINTS, None, None),
                "silhouette": (1, 1, None, None),
                "presence": (1, 1),
                "right": (1, 1),
                "features": (1, None, None, None),
            },
            name,
            bundle.source,
        )
        self.size = S
        self.shapes = {key: shapes[key] for key in ("features", "heatmaps", "silhouette")}
        if len({*shapes["heatmaps"][2:], *shapes["silhouette"][2:]}) != 1:
            raise BundleError(f"heatmaps and silhouette of {name} of {bundle.source} are not squares of one size")
        self._gain = (1.0 / (255.0 * np.array(bundle.std, np.float32))).reshape(3, 1, 1)
        self._bias = (np.array(bundle.mean, np.float32) / np.array(bundle.std, np.float32)).reshape(3, 1, 1)
        self._buffer = np.empty((1, 3, S, S), np.float32)

    def __call__(self, crop: npt.NDArray[np.uint8]) -> PriorOutput:
        """Run on a crop, (S, S, 3) uint8 RGB. Not for two threads at once: the input buffer is shared."""
        np.multiply(crop.transpose(2, 0, 1), self._gain, out=self._buffer[0])
        np.subtract(self._buffer[0], self._bias, out=self._buffer[0])
        names = ["heatmaps", "silhouette", "presence", "right", "features"]
        heatmaps, silhouette, presence, right, features = self._session.run(names, {"image": self._buffer})
        return PriorOutput(heatmaps[0], silhouette[0, 0], float(presence[0, 0]), float(right[0, 0]), features)


class MeshStage:
    """Features and 2D cues to the mesh, and refined 2D cues.

    Parameters
    ----------
    bundle : Bundle
        Holds the graph and the topology that its vertices must fit.
    prior : PriorStage
        The stage whose outputs it takes.
    threads : int
        Threads inside an operator.

    Raises
    ------
    BundleError
        The graph does not load or fits neither the prior nor the topology.
    """

    def __init__(self, bundle: Bundle, prior: PriorStage, threads: int = 1) -> None:
        name = "mesh.onnx"
        self._session = _session(bundle.mesh, name, bundle.source, threads)
        _expect(self._session.get_inputs(), prior.shapes, name, bundle.source)
        shapes = _expect(
            self._session.get_outputs(),
            {
                "vertices": (1, len(bundle.topology.template), 3),
                "refined_heatmaps": (1, JOINTS, None, None),
                "refined_silhouette": (1, 1, None, None),
            },
            name,
            bundle.source,
        )
        for key in ("refined_heatmaps", "refined_silhouette"):
            if shapes[key][2] != shapes[key][3]:
                raise BundleError(f"{key} of {name} of {bundle.source} has shape {shapes[key]}; it must be square")

    def __call__(self, prior: PriorOutput) -> MeshOutput:
        """Run on what the prior stage gave."""
        cues = {
            "features": prior.features,
            "heatmaps": prior.heatmaps[None],
            "silhouette": prior.silhouette[None, None],
        }
        names = ["vertices", "refined_heatmaps", "refined_silhouette"]
        vertices, heatmaps, silhouette = self._session.run(names, cues)
        return MeshOutput(vertices[0], heatmaps[0], silhouette[0, 0])


def _session(graph: bytes, name: str, source: str, threads: int) -> ort.InferenceSession:
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 256:
        raise InputError(f"threads is {threads!r}; give a whole number from 1 to 256")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # The stages take turns: a worker of one that spins would hold the core that the other needs (measured with two
    # threads on two cores: 8.2 ms a frame with, 5.4 ms without).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises classes of its own that share no base but Exception.
        raise BundleError(
            f"part {name} of {source} does not load in ONNX Runtime {ort.__version__}: {error}"
        ) from error


def _expect(
    nodes: Sequence[ort.NodeArg], wanted: Mapping[str, tuple[int | None, ...]], part: str, source: str
) -> dict[str, tuple[int, ...]]:
    """Shapes by name; None in `wanted` stands for any fixed size."""
    found = {node.name: node for node in nodes}
    shapes = {}
    for name, shape in wanted.items():
        if name not in found:
            raise BundleError(f"part {part} of {source} lacks {name}; it has {sorted(found)}")
        node = found[name]
        sizes = tuple(node.shape)
        fits = len(sizes) == len(shape) and all(
            isinstance(a, int) and a > 0 and b in (None, a) for a, b in zip(sizes, shape, strict=True)
        )
        if not fits or node.type != "tensor(float)":
            form = tuple("any" if b is None else b for b in shape)
            raise BundleError(f"{name} of {part} of {source} is {node.type} {sizes}; it must be tensor(float) {form}")
        shapes[name] = sizes
    if extra := sorted(set(found) - set(wanted)):
        raise BundleError(f"part {part} of {source} has {extra[0]}, which this version does not know")
    return shapes
