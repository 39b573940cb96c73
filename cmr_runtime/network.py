# SPDX-License-Identifier: Apache-2.0
"""The two stages of the network: graphs with typed outputs, checked against the bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .bundle import Bundle
from .errors import BundleError
from .roi import Roi, normalise
from .session import CPU, Form, Shapes, check_shapes, open_stage

__all__ = ["MeshOutput", "MeshStage", "PriorOutput", "PriorStage"]

_Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PriorOutput:
    """What the prior stage sees in a crop; maps, presence and right are probabilities.

    A network gives some of it; None stands for what it does not give.

    Attributes
    ----------
    heatmaps : (J, H, H) float32, or None
    silhouette : (Hs, Hs) float32, or None
    presence : float or None
        That the crop shows a hand.
    right : float
        That the hand, as the crop shows it, is a right one; 0.5 of a network that does not tell.
    keypoints : (J, 2) float32, or None
        Joints (x, y) in fractions of the crop's side: 0 and 1 are its edges.
    features : float32 array, or None
        For the mesh stage.
    """

    heatmaps: _Array | None = None
    silhouette: _Array | None = None
    presence: float | None = None
    right: float = 0.5
    keypoints: _Array | None = None
    features: _Array | None = None


@dataclass(frozen=True, eq=False)
class MeshOutput:
    """What the mesh stage makes of it; None stands for what it does not give.

    Attributes
    ----------
    vertices : (V, 3) float32
        Metres, relative to the root joint, frame of the crop camera.
    heatmaps : (J, H2, H2) float32, or None
        Probabilities, refined.
    silhouette : (M, M) float32, or None
        Probabilities, refined.
    presence : float or None
        That the crop shows a hand, whatever the cues said; of a network that `recall` can use.
    """

    vertices: _Array
    heatmaps: _Array | None = None
    silhouette: _Array | None = None
    presence: float | None = None


#: Field of `PriorOutput` from the tensor of the same name.
_PRIOR: dict[str, Callable[[_Array], Any]] = {
    "heatmaps": lambda tensor: tensor[0],
    "silhouette": lambda tensor: tensor[0, 0],
    "presence": lambda tensor: float(tensor[0, 0]),
    "right": lambda tensor: float(tensor[0, 0]),
    "keypoints": lambda tensor: tensor[0],
    "features": lambda tensor: tensor,
}
#: Field of `MeshOutput` and how it comes from the tensor, by the tensor's name.
_MESH: dict[str, tuple[str, Callable[[_Array], Any]]] = {
    "vertices": ("vertices", lambda tensor: tensor[0]),
    "refined_heatmaps": ("heatmaps", lambda tensor: tensor[0]),
    "refined_silhouette": ("silhouette", lambda tensor: tensor[0, 0]),
    "refined_presence": ("presence", lambda tensor: float(tensor[0, 0])),
}


class PriorStage:
    """Crop to what the network sees in it: some of the fields of `PriorOutput`.

    Parameters
    ----------
    bundle : Bundle
        Holds the graph and the normalisation of its input.
    threads : int
        Threads inside an operator.
    providers : sequence of str
        Execution providers of ONNX Runtime, the preferred one first; see `open_stage`.

    Attributes
    ----------
    size : int
        Side S of the crop, pixels.
    cell_centre : float
        Where in its cell the peak of a heat map lies, in cells.
    shapes : dict
        Shapes of the outputs that the stage gives, by name.

    Raises
    ------
    BundleError
        The graph does not load, its input is missing, or an input or output is unknown or of another shape than the
        bundle's form has.
    """

    def __init__(self, bundle: Bundle, threads: int = 1, providers: Sequence[str] = CPU) -> None:
        S, J = bundle.input_size, bundle.topology.joints
        self._session, self._part = open_stage(bundle, "prior", threads, providers)
        check_shapes(self._session.get_inputs(), {"image": (1, 3, S, S)}, self._part, required=("image",))
        optional: dict[str, Form] = {
            "heatmaps": (1, J, None, None),
            "silhouette": (1, 1, None, None),
            "presence": (1, 1),
            "right": (1, 1),
            "keypoints": (1, J, 2),
            "features": None,
            "coarse_heatmaps": (1, J, None, None),
        }
        shapes = check_shapes(self._session.get_outputs(), optional, self._part)
        self.size, self.cell_centre = S, bundle.cell_centre
        self._names = [name for name in _PRIOR if name in shapes]  # coarse heat maps are for readers of the graph
        self.shapes = {name: shapes[name] for name in self._names}
        _check_square(self.shapes, ("heatmaps", "silhouette"), self._part)
        mean, std = np.array(bundle.mean, np.float32), np.array(bundle.std, np.float32)
        self._gain: _Array = 1.0 / (255.0 * std)
        self._bias: _Array = mean / std
        self._buffer = np.empty((1, 3, S, S), np.float32)

    def __call__(self, crop: npt.NDArray[np.uint8]) -> PriorOutput:
        """Run on a crop, (S, S, 3) uint8 RGB, as `run` does. Not for two threads at once: they share `prepared`."""
        return self.run(self.prepared(crop))

    def run(self, shown: _Array) -> PriorOutput:
        """Run on a crop as the graph takes it: what `prepared` or `sampled` gave.

        Raises
        ------
        BundleError
            The network gives keypoints that are not finite.
        """
        tensors = self._session.run(self._names, {"image": shown})
        output = PriorOutput(**{name: _PRIOR[name](value) for name, value in zip(self._names, tensors, strict=True)})
        if output.keypoints is not None and not np.isfinite(output.keypoints).all():
            raise BundleError(f"{self._part} gives keypoints that are not finite; export it again")
        return output

    def prepared(self, crop: npt.NDArray[np.uint8]) -> _Array:
        """Return a crop as the graph takes it, (1, 3, S, S), in a buffer that the next call fills again."""
        normalise(crop, self._gain, self._bias, self._buffer[0])
        return self._buffer

    def sampled(self, image: npt.NDArray[np.uint8], roi: Roi) -> _Array:
        """Return the crop of a region of an image, (H, W, 3) RGB, as `prepared` does, in the same buffer."""
        roi.fill(image, self._gain, self._bias, self._buffer[0])
        return self._buffer


class MeshStage:
    """What the prior stage gives to the mesh, and refined 2D cues where the network has them.

    Parameters
    ----------
    bundle : Bundle
        Holds the graph and the topology that its vertices must fit.
    prior : PriorStage
        The stage of whose outputs it takes some.
    threads : int
        Threads inside an operator.
    providers : sequence of str
        Execution providers of ONNX Runtime, the preferred one first; see `open_stage`.

    Attributes
    ----------
    inputs, shapes : dict
        Shapes of what the stage takes of the prior's outputs, and of the outputs that it gives, by name.

    Raises
    ------
    BundleError
        The graph does not load or fits neither the prior nor the topology.
    """

    def __init__(self, bundle: Bundle, prior: PriorStage, threads: int = 1, providers: Sequence[str] = CPU) -> None:
        J = bundle.topology.joints
        self._session, part = open_stage(bundle, "mesh", threads, providers)
        inputs = self._session.get_inputs()
        if foreign := [node.name for node in inputs if node.name not in prior.shapes]:
            raise BundleError(
                f"part {part} takes {foreign[0]}, which the prior stage does not give; it gives {sorted(prior.shapes)}"
            )
        self.inputs = check_shapes(inputs, prior.shapes, part)
        if not self.inputs:
            raise BundleError(f"part {part} takes nothing; it must take some of {sorted(prior.shapes)}")
        wanted: dict[str, Form] = {
            "vertices": (1, len(bundle.topology.template), 3),
            "refined_heatmaps": (1, J, None, None),
            "refined_silhouette": (1, 1, None, None),
            "refined_presence": (1, 1),
        }
        self.shapes = check_shapes(self._session.get_outputs(), wanted, part, required=("vertices",))
        _check_square(self.shapes, ("refined_heatmaps", "refined_silhouette"), part)
        self._names = list(self.shapes)
        self._fields = [_MESH[name] for name in self._names]

    def __call__(self, prior: PriorOutput) -> MeshOutput:
        """Run on what the prior stage gave."""
        cues = {
            name: np.asarray(getattr(prior, name), np.float32).reshape(shape) for name, shape in self.inputs.items()
        }
        tensors = self._session.run(self._names, cues)
        return MeshOutput(**{name: read(value) for (name, read), value in zip(self._fields, tensors, strict=True)})


def _check_square(shapes: Shapes, names: Sequence[str], part: str) -> None:
    for name in names:
        if name in shapes and shapes[name][2] != shapes[name][3]:
            raise BundleError(f"{name} of {part} has shape {shapes[name]}; it must be square")
