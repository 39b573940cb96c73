# SPDX-License-Identifier: Apache-2.0
"""What `bake` makes of the mesh: its coarser levels, the mesh from a coarser level, joints from vertices."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import torch

from .model import HandModel

__all__ = ["build_levels", "fit_joint_regressor", "fit_surfaces"]

#: A joint is regressed from this many vertices of its neighbourhood.
REGRESSOR_VERTICES = 60
#: Coarser levels from which the mesh follows (from the third it would be off by 0.3 mm in the mean, 8 at most), the
#: vertices there of which each of its vertices is a sum, and what keeps their weights small.
SURFACE_LEVELS, SURFACE_VERTICES, SURFACE_RIDGE = 2, 16, 1e-3


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
    from scipy.optimize import nnls

    index = arrays["vertex_index"]
    model = _model(arrays)
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


def fit_surfaces(arrays: dict) -> dict:
    """Fit every vertex of the mesh as a sum of vertices of a coarser level, over random shapes and poses.

    A hand bends at few places, so that a quarter of its vertices tells where all of them are, to 0.1 mm in the mean.
    Neighbours are those along the surface: fingers that touch have nothing to do with each other.

    Parameters
    ----------
    arrays : dict
        What `HandTopology` holds, without the surfaces.

    Returns
    -------
    dict
        Arrays ``surface_index_l`` and ``surface_weight_l`` (V, SURFACE_VERTICES) of level l + 1; weights sum to one.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import dijkstra

    model, draw = _model(arrays), 400
    generator = torch.Generator().manual_seed(0)
    random = torch.rand(draw, 16, 3, generator=generator, dtype=torch.float64)
    low, high = torch.zeros(16, 3, dtype=torch.float64), torch.zeros(16, 3, dtype=torch.float64)
    low[0], high[0] = torch.tensor([-0.8, -0.4, 0.0]), torch.tensor([0.8, 0.4, 0.0])
    low[1:, 0], high[1:, 0] = -0.3, 1.6
    low[1::3, 1], high[1::3, 1] = -0.3, 0.3
    shape = torch.randn(draw, model.shape_count, generator=generator, dtype=torch.float64)
    mesh = model(low + (high - low) * random, shape).vertices[:, arrays["vertex_index"]].numpy()

    edges = np.concatenate([arrays["faces"][:, pair] for pair in ([0, 1], [1, 2], [2, 0])])
    rest = arrays["rest"][arrays["vertex_index"]]
    lengths = np.linalg.norm(rest[edges[:, 0]] - rest[edges[:, 1]], axis=1)
    apart = dijkstra(coo_array((lengths, tuple(edges.T)), shape=(len(rest), len(rest))).tocsr(), directed=False)

    out, coarse = {}, np.arange(len(rest))
    for level in range(SURFACE_LEVELS):
        coarse = coarse[arrays[f"level_index_{level}"]]
        near = np.argsort(apart[:, coarse], 1, kind="stable")[:, :SURFACE_VERTICES]
        weight = np.empty(near.shape)
        for vertex, (first, *others) in enumerate(coarse[near]):
            # Weights that sum to one: what is left of the vertex beside the first, from the others beside it.
            system = (mesh[:, others] - mesh[:, [first]]).transpose(0, 2, 1).reshape(-1, len(others))
            wanted = (mesh[:, vertex] - mesh[:, first]).reshape(-1)
            normal = system.T @ system
            normal += SURFACE_RIDGE * np.trace(normal) / len(others) * np.eye(len(others))
            weight[vertex, 1:] = np.linalg.solve(normal, system.T @ wanted)
        weight[:, 0] = 1 - weight[:, 1:].sum(1)
        error = 1000 * np.linalg.norm(np.einsum("nvkx,vk->nvx", mesh[:, coarse[near]], weight) - mesh, axis=2)
        print(f"mesh from {len(coarse)} vertices: error {error.mean():.2f}, most {error.max():.2f} mm")
        out[f"surface_index_{level}"], out[f"surface_weight_{level}"] = near.astype(np.int16), weight.astype(np.float32)
    return out


def _model(arrays: dict) -> HandModel:
    """Hand model of arrays that may still lack what is fitted on it."""
    plain = {k: np.asarray(v, np.float32) if np.asarray(v).dtype == np.float16 else v for k, v in arrays.items()}
    plain["joint_regressor"] = np.zeros((21, len(arrays["vertex_index"])), np.float32)
    return HandModel(SimpleNamespace(**plain), torch.float64)
