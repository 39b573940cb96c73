# SPDX-License-Identifier: Apache-2.0
"""What a tracker returns: one frozen value per hand."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from .camera import Camera
from .roi import Roi

if TYPE_CHECKING:
    from .registration import Registration

__all__ = ["Hand", "StageTimes", "changed"]


@dataclass(frozen=True)
class StageTimes:
    """Time that each stage took for one hand, milliseconds.

    `detect` is what the search for hands took in the hand's frame beyond the looks that `crop` and `prior` tell of: the
    same for all hands of the frame, 0 where none ran. `crop` is the way from the frame to the network's input. `prior`
    is that of its first layers alone where a followed hand went on as expected (`cmr_runtime.recall`); where it then
    did not, all times are those of both looks. `smooth` is 0 where nothing is smoothed.
    """

    crop: float
    prior: float
    mesh: float
    decode: float
    registration: float
    detect: float = 0.0
    smooth: float = 0.0

    def __add__(self, other: StageTimes) -> StageTimes:
        """Return the times of both, stage by stage."""
        names = [stage.name for stage in dataclasses.fields(self)]
        return StageTimes(**{name: getattr(self, name) + getattr(other, name) for name in names})

    @property
    def total(self) -> float:
        """Sum of the stages, milliseconds."""
        return float(sum(getattr(self, stage.name) for stage in dataclasses.fields(self)))


@dataclass(frozen=True, eq=False)
class Hand:
    """One hand in one image.

    The network gives no joint rotations; `cmr_runtime.rotations.bone_rotations` reads those of the bones off the mesh.

    Attributes
    ----------
    vertices, joints : (V, 3), (J, 3) float32
        Metres, camera frame (x right, y down, z forward).
    keypoints : (J, 2) float32
        Joints in the image, pixels of the image given: what the network sees in 2D, settled with the placed mesh by
        their scores. They differ from the projected `joints` where the network sees a joint clearly.
    keypoint_scores : (J,) float32
        Of what the network sees in 2D, 0 to 1; a low score leaves the keypoint to the mesh. 1 where the network gives
        points without scores.
    silhouette : (N, 2) float32
        Outer contour, pixels of the image given; N = 0 if no region was large enough, or the network gives none.
    translation : (3,) float64
        Position of the root joint (of the default network the middle finger's knuckle), metres, camera frame. Its
        depth lies within the tracker's `depth_bounds`; whether to rely on it, `registration.usable` and ``sigma`` say.
    scale : float
        Factor by which the network's hand was enlarged.
    handedness : "left" or "right"
    handedness_score : float
        Probability of that side, 0 to 1: 1 where the caller said it, 0.5 where neither caller nor network tell.
    score : float
        Probability that there is a hand, 0 to 1: the prior's, and where that rested the mesh stage's. Of a network that
        does not judge it, the clarity of its heat maps: the mean height of their peaks, and 1 if it has none.
    registration : Registration
        How well mesh and image agree, and whether the depth is metric. It is that of this frame alone: in a video
        `translation` and `scale` above are smoothed, those of the registration are not.
    roi : Roi
        The region that the network saw.
    camera : Camera
        The camera used; the default one if none was given.
    faces : (F, 3) int32
        Triangles, counter-clockwise seen from outside, for this side of the body.
    joint_parents : (J,) int32
        Parent of each joint; the first (the wrist) is its own.
    times : StageTimes
    track_id : int or None
        Which hand of the video it is, from 0: the same from frame to frame. None where hands are not followed.
    """

    vertices: npt.NDArray[np.float32] = field(repr=False)
    joints: npt.NDArray[np.float32] = field(repr=False)
    keypoints: npt.NDArray[np.float32] = field(repr=False)
    keypoint_scores: npt.NDArray[np.float32] = field(repr=False)
    silhouette: npt.NDArray[np.float32] = field(repr=False)
    translation: npt.NDArray[np.float64]
    scale: float
    handedness: Literal["left", "right"]
    handedness_score: float
    score: float
    registration: Registration = field(repr=False)
    roi: Roi
    camera: Camera = field(repr=False)
    faces: npt.NDArray[np.int32] = field(repr=False)
    joint_parents: npt.NDArray[np.int32] = field(repr=False)
    times: StageTimes = field(repr=False)
    track_id: int | None = None

    @property
    def vertices_root(self) -> npt.NDArray[np.float32]:
        """Mesh, (V, 3) metres, relative to the root joint, axes of the camera."""
        return self.vertices - self.translation.astype(np.float32)

    @property
    def joints_root(self) -> npt.NDArray[np.float32]:
        """Joints, (J, 3) metres, relative to the root joint, axes of the camera."""
        return self.joints - self.translation.astype(np.float32)

    def to_dict(self, mesh: bool = False) -> dict[str, Any]:
        """Plain numbers, lists and text, fit for JSON (what is not a number becomes None, no contour an empty list).

        In a video ``translation_m`` and ``scale`` are smoothed; those under ``registration`` are of the frame alone.

        Parameters
        ----------
        mesh : bool
            Also the vertices, which take most of the space. The faces are `tracker.faces` for a right hand, and for a
            left hand those with their corners in the opposite order, as in `faces`.
        """
        record: dict[str, Any] = {
            "track_id": self.track_id,
            "handedness": self.handedness,
            "handedness_score": self.handedness_score,
            "score": self.score,
            "translation_m": self.translation,
            "scale": self.scale,
            "joints_m": self.joints,
            "keypoints_px": self.keypoints,
            "keypoint_scores": self.keypoint_scores,
            "silhouette_px": self.silhouette,
            "registration": dataclasses.asdict(self.registration),
            "roi": dataclasses.asdict(self.roi),
            "camera": dataclasses.asdict(self.camera),
            "times_ms": dataclasses.asdict(self.times),
        }
        if mesh:
            record["vertices_m"] = self.vertices
        plain: dict[str, Any] = _plain(record)
        return plain

    def draw(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Draw mesh, contour and skeleton on a copy of the image, (H, W, 3) uint8 RGB; `InputError` for any other."""
        from .draw import draw_hands

        return draw_hands(image, [self])

    def to_mesh(self, path: str | os.PathLike[str]) -> None:
        """Write the mesh, metres, camera frame, as its name says: ``.ply`` (binary), ``.obj`` or ``.glb``.

        See `cmr_runtime.mesh_io.write_mesh`; GLB needs trimesh (``pip install 'cmr-runtime[mesh]'``).

        Raises
        ------
        InputError
            Another suffix, or a GLB without trimesh.
        OSError
            The file cannot be written.
        """
        from .mesh_io import write_mesh

        write_mesh(path, self.vertices, self.faces)


_Frozen = TypeVar("_Frozen", Hand, StageTimes)


def changed(value: _Frozen, **others: Any) -> _Frozen:
    """Return a copy with other values of some fields: `dataclasses.replace` in a fifth of its time.

    It is for each frame, and for classes that check nothing when they are made.
    """
    copy = object.__new__(type(value))
    copy.__dict__.update(value.__dict__, **others)
    return copy


def _plain(value: Any) -> Any:
    """Return the value in JSON's types; floats rounded to a tenth of a micrometre or of a millionth."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return round(value, 7) if math.isfinite(value) else None
    return value
