# SPDX-License-Identifier: Apache-2.0
"""Spiral neighbourhoods of mesh vertices (Lim et al., 2018; Gong et al., SpiralNet++, 2019).

A spiral starts at a vertex and visits its neighbours ring by ring, each ring in the order in which the faces turn
around the vertex. A spiral convolution gathers these vertices and applies one linear layer to the concatenation.
"""

from __future__ import annotations

import numpy as np

__all__ = ["half_edge_rings", "spiral_indices", "vertex_rings"]


def _directed_neighbours(faces: np.ndarray, count: int) -> list[dict[int, int]]:
    """Return for each vertex the map neighbour -> next neighbour, counter-clockwise seen from outside.

    The last entry belongs to the last face of the list that holds the vertex.
    """
    following: list[dict[int, int]] = [{} for _ in range(count)]
    for a, b, c in np.asarray(faces, int).tolist():
        following[a][b] = c
        following[b][c] = a
        following[c][a] = b
    return following


def vertex_rings(faces: np.ndarray, count: int) -> list[list[int]]:
    """Order the direct neighbours of every vertex.

    Parameters
    ----------
    faces : ndarray (F, 3)
        Triangles, counter-clockwise seen from outside.
    count : int
        Number of vertices V.

    Returns
    -------
    list of V lists
        Neighbours in counter-clockwise order. On a boundary vertex the walk starts at the boundary, inside it at the
        smallest index, so that the order depends on the connectivity alone.
    """
    rings = []
    for following in _directed_neighbours(faces, count):
        starts = sorted(set(following) - set(following.values()))  # boundary: nobody leads here
        pending = set(following) | set(following.values())
        ring: list[int] = []
        while pending:
            at = next((s for s in starts if s in pending), min(pending))
            while at in pending:
                ring.append(at)
                pending.discard(at)
                at = following.get(at, -1)
        rings.append(ring)
    return rings


def half_edge_rings(faces: np.ndarray, count: int) -> list[list[int]]:
    """Order the direct neighbours of every vertex as a half-edge mesh (OpenMesh) circulates about it.

    The order is clockwise. It starts at the vertex' outgoing half-edge: on the boundary the one without a face, inside
    the one in the last face that was added, since that face closed the ring. Parameters and result as for
    `vertex_rings`; the result depends on the order of the faces.
    """
    rings = []
    directed = _directed_neighbours(faces, count)
    for ring, following in zip(vertex_rings(faces, count), directed, strict=True):
        ring.reverse()
        if set(following) == set(following.values()) and ring:  # no boundary
            start = ring.index(next(reversed(following)))
            ring = ring[start:] + ring[:start]
        rings.append(ring)
    return rings


def spiral_indices(
    faces: np.ndarray, vertices: np.ndarray, length: int, dilation: int = 1, half_edge: bool = False
) -> np.ndarray:
    """Compute one spiral per vertex.

    Parameters
    ----------
    faces : ndarray (F, 3)
        Triangles, counter-clockwise seen from outside.
    vertices : ndarray (V, 3)
        Rest positions, used where the walk over the connectivity ends early (small components, boundaries).
    length : int
        Number of vertices in a spiral, itself included.
    dilation : int
        Keep every ``dilation``-th vertex of a spiral of ``length * dilation`` vertices.
    half_edge : bool
        The convention. False: counter-clockwise (`vertex_rings`), the result depends on the connectivity alone; where
        the walk ends early, the nearest vertices not yet visited follow. True: that of SpiralNet++ and of the networks
        trained with it (`half_edge_rings`); where the walk ends early, the nearest vertices replace the spiral.

    Returns
    -------
    ndarray (V, length), int64
        Row v starts with v.

    Raises
    ------
    ValueError
        If the mesh has fewer vertices than the spiral needs.
    """
    count = len(vertices)
    wanted = length * dilation
    if wanted > count:
        raise ValueError(f"a spiral of {wanted} vertices does not fit a mesh of {count}; shorten it or lower dilation")
    rings = half_edge_rings(faces, count) if half_edge else vertex_rings(faces, count)
    spirals = np.empty((count, wanted), np.int64)
    for v in range(count):
        spiral, visited, ring = [v], {v}, [v]
        while len(spiral) < wanted:
            outer: list[int] = []
            inner = set(ring)
            for u in ring:
                neighbours = rings[u]
                # Start behind a vertex that the spiral has seen, so that the walk keeps turning one way: behind the
                # last of all, or (half-edge) behind the first of the present ring.
                seen = [i for i, n in enumerate(neighbours) if n in (inner if half_edge else visited)]
                shift = seen[0 if half_edge else -1] + 1 if seen and u != v else 0
                for n in neighbours[shift:] + neighbours[:shift]:
                    if n not in visited:
                        visited.add(n)
                        outer.append(n)
            if not outer:
                break
            spiral += outer
            ring = outer
        if len(spiral) < wanted:
            nearest = np.argsort(((vertices - vertices[v]) ** 2).sum(1), kind="stable").tolist()
            spiral = nearest if half_edge else spiral + [n for n in nearest if n not in visited]
        spirals[v] = spiral[:wanted]
    return spirals[:, ::dilation]
