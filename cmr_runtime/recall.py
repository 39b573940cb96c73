# SPDX-License-Identifier: Apache-2.0
"""A hand that goes on as expected: the mesh stage takes up its own 2D cues of the last frame, and the prior rests.

Regions move with the hand, so that in its crop a hand lies where it lay before. The prior's first layers, which both
stages share, are a graph of their own in bundles whose mesh stage was trained for this; all of it that is left of the
prior in such a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from .bundle import Bundle
from .errors import BundleError
from .network import MeshOutput, MeshStage, PriorOutput, PriorStage
from .session import CPU, check_shapes, open_stage

__all__ = ["Recall", "Said"]


#: What the mesh stage may take of the prior's outputs: other ones would be the last frame's.
_TAKEN = {"features", "heatmaps", "silhouette"}
#: What the stages must give.
_GIVEN = (*_TAKEN, "presence", "refined_heatmaps", "refined_silhouette", "refined_presence")


class Said(NamedTuple):
    """What both stages said of a hand in the last frame, each in the crop of its region."""

    prior: PriorOutput
    mesh: MeshOutput


class Recall:
    """Crop and last frame to what takes the place of the prior's output.

    Parameters
    ----------
    bundle : Bundle
        With a graph of the first layers.
    prior : PriorStage
        The stage that it stands in for.
    mesh : MeshStage
        The stage whose cues it takes up.
    threads : int
        Threads inside an operator.
    providers : sequence of str
        Execution providers of ONNX Runtime, the preferred one first; see `open_stage`.

    Raises
    ------
    BundleError
        There is no such graph, it does not load, or the stages do not give what it needs.
    """

    def __init__(
        self, bundle: Bundle, prior: PriorStage, mesh: MeshStage, threads: int = 1, providers: Sequence[str] = CPU
    ) -> None:
        if bundle.shallow is None:
            raise BundleError(f"{bundle.source} has no graph of the first layers alone; export it again")
        self._prior = prior
        self._session, self._part = open_stage(bundle, "shallow", threads, providers)
        S, given = prior.size, prior.shapes | mesh.shapes
        if lacking := sorted({*_GIVEN} - {*given}):
            raise BundleError(f"part {self._part} needs stages that give {lacking[0]}; they give {sorted(given)}")
        if foreign := sorted({*mesh.inputs} - _TAKEN):
            raise BundleError(
                f"part {self._part} stands in for {sorted(_TAKEN)}, but the mesh stage takes {foreign[0]}"
            )
        check_shapes(self._session.get_inputs(), {"image": (1, 3, S, S)}, self._part, required=("image",))
        check_shapes(self._session.get_outputs(), {"features": given["features"]}, self._part, required=("features",))
        self._cells, fine = given["silhouette"][-1], given["refined_silhouette"][-1]
        if given["refined_heatmaps"] != given["heatmaps"] or fine % self._cells:
            raise BundleError(
                f"part {self._part} needs refined heat maps of the prior's size and an outline some times as fine; "
                f"they are {given['refined_heatmaps']} and {given['refined_silhouette']}"
            )

    def __call__(self, crop: npt.NDArray[np.uint8], said: Said) -> PriorOutput:
        """Run on a crop, (S, S, 3) uint8 RGB. Presence and side stay as they were last told."""
        return self.run(self._prior.prepared(crop), said)

    def run(self, shown: npt.NDArray[np.float32], said: Said) -> PriorOutput:
        """Run on a crop as `PriorStage.run` takes it."""
        (features,) = self._session.run(["features"], {"image": shown})
        fine = said.mesh.silhouette
        assert fine is not None
        # By a whole factor this is the mean of the cells within each.
        outline = cv2.resize(fine, (self._cells, self._cells), interpolation=cv2.INTER_AREA)
        was = said.prior
        cues = said.mesh.heatmaps, np.asarray(outline, np.float32)
        return PriorOutput(*cues, was.presence, was.right, was.keypoints, features)
