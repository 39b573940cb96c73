# SPDX-License-Identifier: Apache-2.0
"""The stages in a row, for one region of one image: prior, mesh, decoding, registration."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from .bundle import Bundle
from .camera import Camera
from .compiled import core
from .cues import Cues, read_cues
from .errors import BundleError
from .motion import extent_of
from .network import MeshStage, PriorStage
from .recall import Recall, Said
from .registration import Registrar, Registration
from .registration.checks import MIN_JOINTS, MIN_SCORE
from .registration.constants import DEPTH_BOUNDS
from .results import Hand, StageTimes
from .rig import Entries
from .roi import Roi
from .session import CPU
from .view import View, Viewer

__all__ = ["Pipeline", "Placed"]

_Image = npt.NDArray[np.uint8]


#: Weight of a joint of the placed mesh, in the image, beside the score of its heat map. Chosen on held-out photos,
#: where it brings the mean error from 8.3 (heat maps alone) and 6.1 (mesh alone) to 6.0 pixels of 256.
_MESH_WEIGHT = 0.6


class Placed(NamedTuple):
    """A hand, and what a video keeps of it for the next frame.

    Attributes
    ----------
    hand : Hand
    said : Said
        What the stages said of it.
    projected : (J, 2) float64
        Its joints in the image, pixels.
    extent : float
        Larger side of the box around these, pixels, 1 at least; NaN if one is.
    """

    hand: Hand
    said: Said
    projected: npt.NDArray[np.float64]
    extent: float


class Pipeline:
    """The stages of one bundle, set up once.

    Parameters
    ----------
    bundle : Bundle
        The model.
    threads : int
        Threads inside a stage.
    hand_scale : (float, float)
        Mean and standard deviation of the hand's size as a multiple of the network's.
    solver : str
        Of the registration.
    hand_length : float or None
        Known length of the hand, metres; see `Registrar`.
    side : {"left", "right"} or None
        Of every hand, if the caller knows it; see `Viewer`.
    providers : sequence of str
        Execution providers of ONNX Runtime; see `open_session`.
    recall : bool
        Whether looks may take up the last one's cues, if the bundle has what it takes.

    Attributes
    ----------
    viewer : Viewer
        The first half: a region's `View`.
    faces : dict
        Triangles by side, (F, 3) int32, counter-clockwise seen from outside.

    Raises
    ------
    BundleError
        A graph that does not fit the bundle, or a bundle whose mesh cannot be placed: without joints of the mesh, or
        without joints in the image.
    """

    def __init__(
        self,
        bundle: Bundle,
        threads: int,
        hand_scale: tuple[float, float],
        solver: str,
        hand_length: float | None = None,
        side: Literal["left", "right"] | None = None,
        providers: Sequence[str] = CPU,
        recall: bool = True,
        depth_bounds: tuple[float, float] = DEPTH_BOUNDS,
    ) -> None:
        if bundle.topology.joint_regressor is None:
            raise BundleError(
                f"{bundle.source} lacks the joint_regressor of its topology, so its mesh has no joints and cannot be "
                "placed in the image; export it again with j_reg.npy among its assets, or with --joint-regressor"
            )
        prior = PriorStage(bundle, threads, providers)
        self._bundle, self._size, self._side = bundle, prior.size, side
        self._mesh = MeshStage(bundle, prior, threads, providers)
        recalls = recall and bundle.shallow is not None
        self.viewer = Viewer(prior, side, Recall(bundle, prior, self._mesh, threads, providers) if recalls else None)
        if not {"heatmaps", "keypoints"} & set(prior.shapes) and "refined_heatmaps" not in self._mesh.shapes:
            raise BundleError(
                f"{bundle.source} gives no 2D pose (heatmaps or keypoints of its prior stage, refined_heatmaps of its "
                "mesh stage), so its mesh cannot be placed in the image; take a network that gives one"
            )
        self._registrar = Registrar(hand_scale, solver, hand_length=hand_length, depth_bounds=depth_bounds)
        self._regressor = bundle.topology.joint_regressor.astype(np.float64)
        self._entries = Entries.of(bundle.topology.joint_regressor)
        right = bundle.topology.faces
        left = np.ascontiguousarray(right[:, ::-1])
        left.setflags(write=False)
        self.faces: dict[str, npt.NDArray[np.int32]] = {"right": right, "left": left}

    def hand(self, image: _Image, view: View, camera: Camera, metric: bool) -> Hand:
        """Run the stages after the prior on what it saw, as `placed` does; return the hand alone."""
        return self.placed(image, view, camera, metric).hand

    def placed(self, image: _Image, view: View, camera: Camera, metric: bool) -> Placed:
        """Run the stages after the prior on what it saw.

        Parameters
        ----------
        image : (H, W, 3) uint8
            The image that the view is of.
        view : View
            A region with a hand in it.
        camera : Camera
            Of the image.
        metric : bool
            Whether the camera is known and not assumed.

        Returns
        -------
        Placed
            The hand's score is what the prior said of the presence of a hand; where that did not look, the mesh stage.

        Raises
        ------
        BundleError
            The network gives values that are not finite.
        InputError
            The registration refuses the network's mesh as no hand.
        """
        start = perf_counter()
        output = self._mesh(view.prior)
        meshed = perf_counter()
        cues = read_cues(output, view, self._bundle.cell_centre, image.shape[1], image.shape[0])
        vertices, joints = self._relative(output.vertices, view.roi, camera)
        decoded = perf_counter()
        # The registration wants a few joints to rely on; where none stands out, all count alike.
        few = sum(score >= MIN_SCORE for score in cues.scores.tolist()) < MIN_JOINTS
        weights = np.maximum(cues.scores, MIN_SCORE) if few else cues.scores
        fit = self._registrar(
            vertices, joints, cues.keypoints, weights, cues.outline, camera, cut=cues.marks, metric=metric
        )
        mesh, placed, keypoints, projected, extent = _placed(vertices, joints, fit, cues, camera)
        done = perf_counter()
        presence = view.presence
        if view.recalled:
            assert output.presence is not None
            presence = output.presence
        side: Literal["left", "right"] = "left" if view.roi.mirrored else "right"
        probability = view.right if side == "right" else 1.0 - view.right
        hand = Hand(
            vertices=mesh,
            joints=placed,
            keypoints=keypoints,
            keypoint_scores=cues.scores.astype(np.float32),
            silhouette=np.empty((0, 2), np.float32) if cues.outline is None else cues.outline,
            translation=fit.translation.copy(),
            scale=fit.scale,
            handedness=side,
            handedness_score=probability if self._side is None else 1.0,
            score=presence,
            registration=fit,
            roi=view.roi,
            camera=camera,
            faces=self.faces[side],
            joint_parents=self._bundle.topology.joint_parents,
            times=StageTimes(
                crop=view.crop_ms,
                prior=view.prior_ms,
                mesh=1e3 * (meshed - start),
                decode=1e3 * (decoded - meshed),
                registration=1e3 * (done - decoded),
            ),
        )
        return Placed(hand, Said(view.prior, output), projected, extent)

    def _relative(
        self, mesh: npt.NDArray[np.float32], roi: Roi, camera: Camera
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Vertices and joints, relative to the root, in the camera's frame, of the network's mesh in a region."""
        root_joint = self._bundle.root_joint
        if core is not None:
            vertices, joints = np.empty(mesh.shape), np.empty((len(self._regressor), 3))
            region = roi.cx, roi.cy, roi.angle, roi.mirrored
            if core.relative_hand(mesh, region, camera.pinhole, self._entries, root_joint, vertices, joints):
                return vertices, joints
        vertices = roi.to_camera(mesh, camera)
        joints = self._regressor @ vertices
        root = joints[root_joint].copy()
        if not np.isfinite(root).all():
            raise BundleError(f"mesh stage of {self._bundle.source} gives values that are not finite; export it again")
        vertices -= root
        joints -= root
        return vertices, joints


def _placed(
    vertices: npt.NDArray[np.float64],
    joints: npt.NDArray[np.float64],
    fit: Registration,
    cues: Cues,
    camera: Camera,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float64], float]:
    """Vertices and joints where they are, keypoints settled with these, joints in the image, and their extent."""
    if core is not None:
        mesh, placed = np.empty(vertices.shape, np.float32), np.empty(joints.shape, np.float32)
        projected, keypoints = np.empty(cues.keypoints.shape), np.empty(cues.keypoints.shape, np.float32)
        seen = cues.keypoints, cues.scores, _MESH_WEIGHT
        shown = mesh, placed, projected, keypoints
        side: float = core.place_hand(vertices, joints, fit.scale, fit.translation, camera.pinhole, *seen, *shown)
        return mesh, placed, keypoints, projected, max(side, 1.0)
    there = fit.scale * joints + fit.translation
    projected = camera.project(there)
    keypoints = _settle(cues.keypoints, cues.scores, projected).astype(np.float32)
    mesh = (fit.scale * vertices + fit.translation).astype(np.float32)
    return mesh, there.astype(np.float32), keypoints, projected, extent_of(projected)


def _settle(
    keypoints: npt.NDArray[np.float64], scores: npt.NDArray[np.float64], projected: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Mean of keypoints and projected joints, (J, 2) pixels: a heat map without a clear peak leaves it to the mesh."""
    weight = scores[:, None]
    settled: npt.NDArray[np.float64] = (weight * keypoints + _MESH_WEIGHT * projected) / (weight + _MESH_WEIGHT)
    return settled
