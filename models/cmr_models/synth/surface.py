# SPDX-License-Identifier: Apache-2.0
"""The surface that is drawn: the hand's triangles with the forearm's open end closed, clothes and rings put on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..hand import HandTopology
from .appearance import Cloth, cloth_thickness
from .rings import Rings, proximal_phalanges, ring_thickness

__all__ = ["Surface", "forearm_distance", "vertex_normals"]


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Compute unit normals (B, R, 3) of vertices (B, R, 3), outward for counter-clockwise faces (F, 3)."""
    a, b, c = (vertices.index_select(1, faces[:, k]) for k in range(3))
    normal = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices)
    for k in range(3):
        total.index_add_(1, faces[:, k], normal)
    return torch.nn.functional.normalize(total, dim=-1)


def close_holes(faces: np.ndarray) -> np.ndarray:
    """Triangles (F', 3) that close the open borders of faces (F, 3) by fans."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    known = {(int(a), int(b)) for a, b in edges}
    following = {b: a for a, b in known if (b, a) not in known}  # around a hole, against the neighbours' order
    caps = []
    while following:
        start, here = following.popitem()
        loop = [start]
        while here != start:
            loop.append(here)
            here = following.pop(here)
        caps += [(loop[0], loop[i], loop[i + 1]) for i in range(1, len(loop) - 1)]
    return np.array(caps, np.int64).reshape(-1, 3)


def forearm_distance(hand: HandTopology) -> np.ndarray:
    """Distance (R,) up the forearm from the wrist in the rest pose, metres; negative on the hand."""
    end = hand.rest[~hand.is_hand.astype(bool)]
    far = end[end[:, 1] > np.percentile(end[:, 1], 80)].mean(0)
    return hand.rest @ (far / np.linalg.norm(far))


class Surface:
    """The drawn triangles of a hand model.

    Parameters
    ----------
    hand : HandTopology
        Hand with forearm stub.
    device : torch.device
        Where the tensors live.
    """

    def __init__(self, hand: HandTopology, device: torch.device) -> None:
        faces = hand.render_faces.astype(np.int64)
        faces = np.concatenate([faces, close_holes(faces)])
        self.count = len(hand.rest)
        self.faces = torch.from_numpy(faces).to(device)
        self.up_arm = torch.from_numpy(forearm_distance(hand).astype(np.float32)).to(device)
        self._phalanges = proximal_phalanges(hand, device)
        self._is_hand = torch.from_numpy(hand.is_hand.astype(bool)[faces].all(1)).to(device)

    def dress(self, vertices: Tensor, cloth: Cloth, rings: Rings) -> Tensor:
        """Let clothes stand off the arm and rings off the fingers: vertices (B, R, 3) moved along their normals."""
        thickness = cloth_thickness(cloth, self.up_arm[None]) + ring_thickness(rings, self._phalanges)
        return vertices + vertex_normals(vertices, self.faces) * thickness[..., None]

    def hand_face(self, face: Tensor) -> Tensor:
        """Whether triangles (P,) of the scene belong to the hand; numbers past the hand's are objects."""
        count = len(self.faces)
        return self._is_hand.index_select(0, face.clamp_max(count - 1)) & (face < count)
