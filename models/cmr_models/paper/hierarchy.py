# SPDX-License-Identifier: Apache-2.0
"""The mesh at all its resolutions: what the paper's networks know of a hand or a body beside their weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..hand import JOINT_PARENTS, ROOT_JOINT, load_hand
from ..hand.spirals import spiral_indices
from .assets import BODY_PARENTS, read_assets

__all__ = ["MeshHierarchy"]

#: Up-samplings of the paper's networks: each resolution has about half the vertices of the finer one.
LEVELS = 4


@dataclass(frozen=True, eq=False)
class MeshHierarchy:
    """A mesh and its coarser levels: level 0 has V vertices, level L the fewest.

    Attributes
    ----------
    vertices : tuple of L + 1 ndarray (V_l, 3)
        Rest positions, metres.
    faces : tuple of L + 1 ndarray (F_l, 3)
        Triangles, counter-clockwise seen from outside.
    down_index : tuple of L ndarray (V_{l + 1},)
        Vertices of level l that make level l + 1.
    up_index, up_weight : tuple of L ndarray (V_l, 3)
        Up-sampling of level l + 1 to level l: three coarse vertices and their weights, 0 where fewer are needed.
    joint_regressor : ndarray (J, V) or None
        Joints from the mesh in the order of the heat maps, rows sum to one; None where its maker keeps it.
    joint_parents : ndarray (J,)
        Parent of each joint; the first is its own.
    root_joint : int
        The joint that is the mesh's origin.
    unit : float
        Networks on this hierarchy give vertices in units of this many metres.

    Raises
    ------
    ValueError
        If the levels do not fit together.
    """

    vertices: tuple[np.ndarray, ...]
    faces: tuple[np.ndarray, ...]
    down_index: tuple[np.ndarray, ...]
    up_index: tuple[np.ndarray, ...]
    up_weight: tuple[np.ndarray, ...]
    joint_regressor: np.ndarray | None
    joint_parents: np.ndarray
    root_joint: int
    unit: float

    def __post_init__(self) -> None:
        counts = self.counts
        for level, faces in enumerate(self.faces):
            _expect(f"faces of level {level}", faces, (len(faces), 3), counts[level])
        for level in range(self.levels):
            fine, coarse = counts[level : level + 2]
            _expect(f"down_index of level {level}", self.down_index[level], (coarse,), fine)
            _expect(f"up_index of level {level}", self.up_index[level], (fine, 3), coarse)
            _expect(f"up_weight of level {level}", self.up_weight[level], (fine, 3))
        if self.joint_regressor is not None:
            _expect("joint_regressor", self.joint_regressor, (self.joints, counts[0]))

    @property
    def template(self) -> np.ndarray:
        """Rest mesh (V, 3) of level 0, metres."""
        return self.vertices[0]

    @property
    def levels(self) -> int:
        """Number of up-samplings L."""
        return len(self.up_index)

    @property
    def counts(self) -> tuple[int, ...]:
        """Vertices of each level, finest first."""
        return tuple(len(v) for v in self.vertices)

    @property
    def joints(self) -> int:
        """Number of joints J."""
        return len(self.joint_parents)

    def spirals(self, level: int, length: int, dilation: int = 1) -> np.ndarray:
        """Spiral indices (V_l, length) of one level, in the half-edge convention of `hand.spirals`."""
        return spiral_indices(self.faces[level], self.vertices[level], length, dilation, half_edge=True)

    @classmethod
    def from_hand(cls) -> MeshHierarchy:
        """Make the hierarchy of this project's own hand: 778, 390, 195, 98, 49 vertices, 21 joints."""
        hand = load_hand(LEVELS)
        return cls(
            vertices=tuple(hand.level_template(level) for level in range(LEVELS + 1)),
            faces=(hand.faces, *hand.level_faces),
            down_index=hand.level_index,
            up_index=hand.up_index,
            up_weight=hand.up_weight,
            joint_regressor=hand.joint_regressor,
            joint_parents=JOINT_PARENTS,
            root_joint=ROOT_JOINT,
            unit=0.2,
        )

    @classmethod
    def from_assets(cls, directory: Path, joints: int = 21) -> MeshHierarchy:
        """Make the hierarchy of the reference implementation's hand (21 joints) or body (17 joints).

        Parameters
        ----------
        directory : Path
            Holds ``transform.pkl`` and ``j_reg.npy``, or ``transform_body.pkl`` and, if at hand,
            ``J_regressor_h36m*.npy``. They derive from MANO and SMPL: users bring their own.
        joints : int
            21 or 17.

        Raises
        ------
        ValueError
            If a file is missing, holds anything but arrays, or does not fit.
        """
        assets = read_assets(Path(directory), joints)
        # The reference's meshes are relative to the wrist, in 0.2 m; its bodies to the pelvis, in metres.
        return cls(
            vertices=assets.vertices,
            faces=assets.faces,
            down_index=assets.down_index,
            up_index=assets.up_index,
            up_weight=assets.up_weight,
            joint_regressor=assets.joint_regressor,
            joint_parents=JOINT_PARENTS if joints == len(JOINT_PARENTS) else BODY_PARENTS,
            root_joint=0,
            unit=0.2 if joints == len(JOINT_PARENTS) else 1.0,
        )


def _expect(name: str, array: np.ndarray, shape: tuple[int, ...], below: int | None = None) -> None:
    """Check a shape and, for indices, the range 0 .. below - 1; values are finite."""
    if array.shape != shape:
        raise ValueError(f"{name}: shape {array.shape}, need {shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: holds values that are not finite")
    if below is not None and (array.min() < 0 or array.max() >= below):
        raise ValueError(f"{name}: indices {array.min()} to {array.max()}, need 0 to {below - 1}")
