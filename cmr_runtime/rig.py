# SPDX-License-Identifier: Apache-2.0
"""A mesh that follows its joints: bones get another length, and the skin goes with them."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from .errors import InputError
from .topology import Topology

__all__ = ["MOST_JOINTS", "Entries", "Rig", "along_bones", "norms"]

_Float = npt.NDArray[np.floating[Any]]

#: Metres within which a vertex follows its nearest bone rather than the next ones.
REACH = 0.004
#: Share of a joint's move, some millimetres, under which the compiled core takes a vertex not to follow it.
NOTHING = 1e-9
#: Most joints that the compiled core has room for; a hand has 21.
MOST_JOINTS = 64


def norms(vectors: _Float) -> _Float:
    """Lengths of vectors that are columns: (D, ...) to (...)."""
    return cast("_Float", np.sqrt(np.add.reduce(vectors * vectors)))


class Entries(NamedTuple):
    """The entries of a matrix that are not 0, as the compiled core takes them: a joint regressor has few."""

    starts: npt.NDArray[np.intc]
    """Those of row j are from starts[j] to starts[j + 1] - 1."""
    columns: npt.NDArray[np.intc]
    weights: npt.NDArray[np.float32]

    @classmethod
    def of(cls, matrix: _Float) -> Entries:
        """Entries of a matrix."""
        rows, columns = np.nonzero(matrix)
        starts = np.searchsorted(rows, np.arange(len(matrix) + 1))
        return cls(starts.astype(np.intc), columns.astype(np.intc), matrix[rows, columns].astype(np.float32))


class Rig:
    """A mesh that follows its joints: how bones hang together, and what moves when one gets another length.

    Points are columns here: (3, V) vertices, (3, J) joints, (B,) bones.

    Parameters
    ----------
    topology : Topology
        With a joint regressor.
    root : int
        Joint that stays where it is.

    Attributes
    ----------
    regressor : (V, J) float32
        Joints are vertices times this.
    follow : (J, V) float32
        Vertices move by the moves of the joints times this, and the joints then do as they should, or nearly.
    packed : tuple or None
        The same for the compiled core: numbers of bones, joints and vertices, the root, numbers of entries; then all
        arrays of whole numbers, and all of real ones. None for more joints than it has room for.
    """

    def __init__(self, topology: Topology, root: int) -> None:
        if topology.joint_regressor is None:
            raise InputError("the topology has no joint_regressor; a rig needs the joints of its mesh")
        self.root = root
        self.regressor = topology.joint_regressor.T
        parents = topology.joint_parents
        joints = np.arange(len(parents))
        ends = np.flatnonzero(parents != joints)
        self._bones = np.zeros((len(parents), len(ends)), np.float32)
        self._bones[ends, range(len(ends))] = 1.0
        self._bones[parents[ends], range(len(ends))] = -1.0
        # A joint is the sum of the bones that lead to it; relative to the root, less those that lead there.
        paths = np.zeros((len(ends), len(parents)), np.float32)
        for joint in joints:
            link = joint
            while parents[link] != link:
                paths[np.searchsorted(ends, link), joint] = 1.0
                link = parents[link]
        self._paths = paths - paths[:, root, None]
        follow = _follow(topology.template, topology.joint_regressor @ topology.template, parents)
        # The joints of a mesh moved so follow only nearly as they should; it is moved so that they do.
        moves = np.linalg.pinv(follow @ self.regressor, rcond=0.1)
        self.follow = (moves @ follow).astype(np.float32)
        self._then = self.follow @ self.regressor
        self.packed = None
        if len(parents) <= MOST_JOINTS:
            near = Entries.of(np.where(follow > NOTHING, follow, 0.0).T)
            self.packed = self._pack(parents[ends], ends, moves, Entries.of(topology.joint_regressor), near)

    def _pack(
        self, starts: npt.NDArray[Any], ends: npt.NDArray[Any], moves: _Float, regressor: Entries, follow: Entries
    ) -> tuple[tuple[int, ...], npt.NDArray[np.intc], npt.NDArray[np.float32]]:
        """Order of smoothing_python.c; vertices move by the moves of the joints times `moves` times `follow`."""
        sizes = len(ends), len(moves), len(follow.starts) - 1, self.root, len(regressor.columns), len(follow.columns)
        whole = starts, ends, regressor.starts, regressor.columns, follow.starts, follow.columns
        real = self._paths.ravel(), self._then.ravel(), moves.ravel(), regressor.weights, follow.weights
        return sizes, np.concatenate(whole).astype(np.intc), np.concatenate(real).astype(np.float32)

    def lengths(self, joints: _Float) -> _Float:
        """Lengths of the bones, (B,), of joints (3, J)."""
        return norms(joints @ self._bones)

    def stretch(self, joints: _Float, lengths: _Float, points: _Float | None) -> tuple[_Float, _Float | None]:
        """Give bones a length and leave their direction.

        Parameters
        ----------
        joints : (3, J) array
            Relative to the root.
        lengths : (B,) array
            Of the bones.
        points : (3, V) array or None
            The mesh; None if only the joints matter.

        Returns
        -------
        joints, points : (3, J), (3, V) array
            The joints are those of the mesh.
        """
        bones = joints @ self._bones
        wanted = (bones * (lengths / np.maximum(norms(bones), 1e-9))) @ self._paths
        if points is None:
            return wanted, None
        move = wanted - joints
        return joints + move @ self._then, points + move @ self.follow


def along_bones(
    points: _Float, joints: _Float, parents: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Where each point is nearest to each bone, and how far from it.

    Parameters
    ----------
    points, joints : (V, 3), (J, 3) array
        Metres.
    parents : (J,) array
        As in `Topology`: the bone of column b leads to joint b + 1, from its parent.

    Returns
    -------
    place, distance : (V, J - 1) float64
        The place from 0, where the bone begins, to 1, where it ends; the distance in metres.
    """
    start = joints[parents[1:]].astype(np.float64)
    along = joints[1:] - start
    offset = points[:, None] - start
    square = np.maximum(np.einsum("bd,bd->b", along, along), 1e-12)
    place = np.clip(np.einsum("vbd,bd->vb", offset, along) / square, 0.0, 1.0)
    return place, np.linalg.norm(offset - place[..., None] * along, axis=2)


def _follow(template: _Float, joints: _Float, parents: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """How far each vertex moves with each joint, (J, V): as the nearest points of the bones near it do."""
    place, distance = along_bones(template, joints, parents)
    share = np.exp(-np.square((distance - distance.min(axis=1, keepdims=True)) / REACH))
    share /= share.sum(axis=1, keepdims=True)
    weights = np.zeros((len(joints), len(template)))
    weights[1:] = (share * place).T
    np.add.at(weights, parents[1:], (share * (1.0 - place)).T)
    return weights
