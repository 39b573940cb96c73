# SPDX-License-Identifier: Apache-2.0
"""Mesh hierarchy and joint regressor for `bake`: decimation, down- and up-sampling, joints from vertices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

__all__ = ["build_levels", "fit_joint_regressor"]

#: A joint is regressed from this many vertices of its neighbourhood.
REGRESSOR_VERTICES = 60


def decimate(vertices: np.ndarray, faces: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Quadric edge collapse onto existing vertices.

    Returns
    -------
    index : ndarray (count',)
        Vertices that stay.
    faces : ndarray
        Triangles over them.
    """
    import pymeshlab
    from scipy.spatial import cKDTree

    meshes = pymeshlab.MeshSet()
    meshes.add_mesh(pymeshlab.Mesh(vertices.astype(np.float64), faces.astype(np.int32)))
    # A collapse of an inner edge removes one vertex and two faces.
    meshes.meshing_decimation_quadric_edge_collapse(
        targetfacenum=len(faces) - 2 * (len(vertices) - count),
        optimalplacement=False,
        preserveboundary=True,
        preservetopology=True,
        preservenormal=True,
        autoclean=True,
        qualitythr=0.5,
    )
    mesh = meshes.current_mesh()
    distance, nearest = cKDTree(vertices).query(mesh.vertex_matrix())
    if distance.max() > 1e-6 or len(set(nearest)) != len(nearest):
        raise RuntimeError(f"decimation moved a vertex by {distance.max()} m; it must keep existing vertices")
    index = np.sort(nearest)
    return index, np.searchsorted(index, nearest[mesh.face_matrix()])


def up_sampling(fine: np.ndarray, coarse: np.ndarray, coarse_faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Three coarse vertices and barycentric weights for every fine vertex: its nearest point on the coarse mesh."""
    import igl

    _, face, point = igl.point_mesh_squared_distance(fine, coarse, coarse_faces.astype(np.int64))
    corners = coarse[coarse_faces[face]]
    weights = igl.barycentric_coordinates(point, *(np.ascontiguousarray(corners[:, k]) for k in range(3)))
    weights = np.clip(weights, 0, 1)
    return coarse_faces[face].astype(np.int32), (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def build_levels(vertices: np.ndarray, faces: np.ndarray, counts: Sequence[int], keep: Sequence[int]) -> dict:
    """Decimate step by step.

    Parameters
    ----------
    vertices, faces : ndarray
        Full hand at rest.
    counts : sequence of int
        Vertices of the network's mesh, then of each coarser level.
    keep : sequence of int
        Vertices (finger tips) that the network's mesh must hold.

    Returns
    -------
    dict
        Arrays ``vertex_index``, ``faces``, ``levels`` and, per level, ``level_index_l``, ``level_faces_l``,
        ``up_index_l``, ``up_weight_l``.
    """
    index, level_faces = decimate(vertices, faces, counts[0])
    missing = sorted(set(keep) - set(index.tolist()))
    for tip in missing:  # move the nearest kept vertex onto the tip: the connectivity stays
        nearest = ((vertices[index] - vertices[tip]) ** 2).sum(1).argmin()
        index[nearest] = tip
    out = {"vertex_index": index.astype(np.int32), "faces": level_faces.astype(np.int32), "levels": len(counts) - 1}
    fine, fine_faces = vertices[index], level_faces
    for level, count in enumerate(counts[1:]):
        index, coarse_faces = decimate(fine, fine_faces, count)
        up_index, up_weight = up_sampling(fine, fine[index], coarse_faces)
        out[f"level_index_{level}"] = index.astype(np.int32)
        out[f"level_faces_{level}"] = coarse_faces.astype(np.int32)
        out[f"up_index_{level}"], out[f"up_weight_{level}"] = up_index, up_weight
        fine, fine_faces = fine[index], coarse_faces
    return out


def fit_joint_regressor(arrays: dict, landmarks: np.ndarray, tips: Sequence[int]) -> np.ndarray:
    """Fit joints as convex combinations of nearby vertices, over random shapes and poses.

    Inner joints follow the bones (a joint moves with its own bone's head), tips are one vertex each.

    Parameters
    ----------
    arrays : dict
        What `HandTopology` holds, without the regressor.
    landmarks : ndarray (21, 3)
        Joints of the mean shape at rest, metres.
    tips : sequence of int
        Render vertex of each finger tip.

    Returns
    -------
    ndarray (21, V), float32
    """
    from types import SimpleNamespace

    from scipy.optimize import nnls

    from .model import HandModel

    index = arrays["vertex_index"]
    plain = {k: np.asarray(v, np.float32) if np.asarray(v).dtype == np.float16 else v for k, v in arrays.items()}
    plain["joint_regressor"] = np.zeros((21, len(index)), np.float32)
    model = HandModel(SimpleNamespace(**plain), torch.float64)
    generator = torch.Generator().manual_seed(0)
    draw = 48
    angles = torch.zeros(draw, 16, 3, dtype=torch.float64)
    angles[:, 1:, 0] = torch.rand(draw, 15, generator=generator, dtype=torch.float64) * 1.2
    angles[:, 1::3, 1] = (torch.rand(draw, 5, generator=generator, dtype=torch.float64) - 0.5) * 0.4
    angles[:8] = 0
    shape = torch.randn(draw, model.shape_count, generator=generator, dtype=torch.float64)
    vertices = model(angles, shape).vertices[:, index].numpy()
    rotations, offsets = model.bone_transforms(angles, shape)
    heads = torch.einsum("bjxy,bjy->bjx", rotations[:, :16], model.rest_heads(shape)) + offsets[:, :16]
    heads = heads.numpy()

    regressor = np.zeros((21, len(index)), np.float32)
    of_joint = [None] + [None if k == 3 else 3 * f + k + 1 for f in range(5) for k in range(4)]
    for joint in range(21):
        if joint and joint % 4 == 0:
            regressor[joint, int(np.flatnonzero(index == tips[joint // 4 - 1])[0])] = 1
            continue
        # The wrist's landmark is rigid with the hand: fixed in the canonical frame of an unbent wrist.
        wanted = heads[:, of_joint[joint]] if joint else np.broadcast_to(landmarks[0], (draw, 3))
        near = np.argsort(((vertices[0] - wanted[0]) ** 2).sum(1))[:REGRESSOR_VERTICES]
        system = vertices[:, near].transpose(0, 2, 1).reshape(-1, len(near))
        weight = 10.0  # sums to one, as a strong extra equation (metres)
        solution, _ = nnls(np.vstack([system, np.full(len(near), weight)]), np.append(wanted.reshape(-1), weight))
        solution /= solution.sum()
        regressor[joint, near] = solution
        error = np.linalg.norm(vertices[:, near].transpose(0, 2, 1) @ solution - wanted, axis=1)
        used, millimetres = np.count_nonzero(solution), 1000 * error
        print(f"joint {joint:2d}: {used:2d} vertices, error {millimetres.mean():.2f}, most {millimetres.max():.2f} mm")
    return regressor
