# SPDX-License-Identifier: Apache-2.0
"""Spirals: rings in the order of distance, turning one way, the same whatever the order of the faces.

In the half-edge convention they are those of the reference implementation, to the last index.
"""

from pathlib import Path

import numpy as np
import pytest

from cmr_models.hand import load_hand
from cmr_models.hand.spirals import half_edge_rings, spiral_indices, vertex_rings
from cmr_models.paper.hierarchy import MeshHierarchy

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "handmesh"


def icosahedron() -> tuple[np.ndarray, np.ndarray]:
    golden = (1 + 5**0.5) / 2
    points = [(0, a, b * golden) for a in (-1, 1) for b in (-1, 1)]
    points = np.array([p[k:] + p[:k] for p in points for k in range(3)], float)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    faces = []
    for a in range(12):
        for b in range(a + 1, 12):
            for c in range(b + 1, 12):
                if max(distance[a, b], distance[b, c], distance[a, c]) < 2.01:
                    outward = np.linalg.det(points[[a, b, c]]) > 0
                    faces.append((a, b, c) if outward else (a, c, b))
    return points, np.array(faces)


def grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Flat mesh with a boundary in z = 0, seen from +z as outside."""
    y, x = np.divmod(np.arange(side * side), side)
    faces = []
    for row in range(side - 1):
        for column in range(side - 1):
            a = row * side + column
            faces += [(a, a + 1, a + side + 1), (a, a + side + 1, a + side)]
    return np.stack([x, y, 0 * x], 1).astype(float), np.array(faces)


def distances_from(faces: np.ndarray, count: int, start: int) -> np.ndarray:
    """Steps along edges, by repeated application of the adjacency matrix."""
    adjacent = np.zeros((count, count), bool)
    for a, b in ((0, 1), (1, 2), (2, 0)):
        adjacent[faces[:, a], faces[:, b]] = adjacent[faces[:, b], faces[:, a]] = True
    steps = np.full(count, -1)
    steps[start], front, step = 0, np.arange(count) == start, 0
    while front.any():
        step += 1
        front = adjacent[front].any(0) & (steps < 0)
        steps[front] = step
    return steps


HAND = load_hand()
COARSE = len(HAND.level_faces)
MESHES = {
    "icosahedron": icosahedron(),
    "grid": grid(6),
    "hand": (HAND.level_template(COARSE), HAND.level_faces[-1]),
}


@pytest.mark.parametrize("half_edge", [False, True])
@pytest.mark.parametrize("name", MESHES)
def test_a_spiral_starts_at_its_vertex_and_visits_the_rings_in_order(name, half_edge):
    vertices, faces = MESHES[name]
    length = min(len(vertices), 24)
    if half_edge:
        length -= len(vertices) == length  # the walk ends at the last vertex: the nearest ones would replace it
    spirals = spiral_indices(faces, vertices, length, half_edge=half_edge)
    assert spirals.shape == (len(vertices), length)
    np.testing.assert_array_equal(spirals[:, 0], np.arange(len(vertices)))
    for v, spiral in enumerate(spirals):
        assert len(set(spiral.tolist())) == length
        steps = distances_from(faces, len(vertices), v)
        assert (np.diff(steps[spiral]) >= 0).all()
        last = steps[spiral[-1]]  # all rings before the last are complete
        assert set(np.flatnonzero(steps < last).tolist()) <= set(spiral.tolist())


def test_first_ring_turns_counter_clockwise_seen_from_outside():
    vertices, faces = icosahedron()
    spirals = spiral_indices(faces, vertices, 12)
    for v, spiral in enumerate(spirals):
        ring = vertices[spiral[1:6]]
        turns = np.cross(ring, np.roll(ring, -1, 0)) @ vertices[v]
        assert (turns > 0).all()  # each step turns the same way ...
        second = vertices[spiral[6:11]]
        turns = np.cross(second[:-1], second[1:]) @ vertices[v]
        assert (turns > 0).all()  # ... and the second ring goes on like the first
        np.testing.assert_allclose(vertices[spiral[11]], -vertices[v])  # the opposite vertex is last


def test_spirals_of_the_opposite_orientation_turn_the_other_way():
    vertices, faces = icosahedron()
    there, back = spiral_indices(faces, vertices, 6), spiral_indices(faces[:, ::-1], vertices, 6)
    for a, b in zip(there[:, 1:].tolist(), back[:, 1:].tolist(), strict=True):
        start = b.index(a[0])
        assert a == [b[(start - k) % 5] for k in range(5)]


def test_half_edge_rings_turn_clockwise_from_the_last_face_or_the_boundary():
    _, faces = grid(4)
    for ours, theirs in zip(vertex_rings(faces, 16), half_edge_rings(faces, 16), strict=True):
        start = theirs.index(ours[-1])
        assert theirs[start:] + theirs[:start] == ours[::-1]
    rings = half_edge_rings(faces, 16)
    assert rings[1] == [0, 5, 6, 2]  # half-edge 1 -> 0 has no face
    # The last face that holds vertex 5 is (5, 10, 9): its half-edge from 5 leads to 10.
    assert rings[5][0] == 10
    moved = np.concatenate([faces[(faces != 5).all(1)], faces[(faces == 5).any(1)][::-1]])
    assert half_edge_rings(moved, 16)[5][0] == 0  # now the last is (0, 1, 5)


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference's mesh files are not here")
@pytest.mark.parametrize(
    ("network", "joints"), [("cmr_pg_freihand", 21), ("mobrecon_ds_freihand", 21), ("cmr_pg_human36m", 17)]
)
def test_spirals_are_those_of_the_reference(network, joints):
    golden = np.load(REFERENCE / f"golden_{network}.npz")
    hierarchy = MeshHierarchy.from_assets(REFERENCE, joints)
    for level in range(hierarchy.levels):
        wanted = golden[f"spiral_{level}"]
        np.testing.assert_array_equal(hierarchy.spirals(level, wanted.shape[1]), wanted)


def test_ring_of_a_boundary_vertex_runs_from_boundary_to_boundary():
    _, faces = grid(4)
    rings = vertex_rings(faces, 16)
    assert rings[1] == [2, 6, 5, 0]  # y down the list is up in the plane: counter-clockwise from +x
    assert rings[5][0] == min(rings[5])  # inside: from the smallest index
    assert sorted(rings[5]) == [0, 1, 4, 6, 9, 10]
    assert [len(r) for r in (rings[0], rings[3], rings[12], rings[15])] == [3, 2, 2, 3]


@pytest.mark.parametrize("name", MESHES)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_of_the_face_list_does_not_matter(name, seed):
    vertices, faces = MESHES[name]
    random = np.random.default_rng(seed)
    shuffled = random.permutation(faces)
    shuffled = np.stack([np.roll(f, random.integers(3)) for f in shuffled])
    np.testing.assert_array_equal(spiral_indices(shuffled, vertices, 9), spiral_indices(faces, vertices, 9))


def test_dilation_keeps_every_second_vertex_of_a_spiral_twice_as_long():
    vertices, faces = MESHES["hand"]
    np.testing.assert_array_equal(spiral_indices(faces, vertices, 9, 2), spiral_indices(faces, vertices, 18)[:, ::2])


def test_where_the_connectivity_ends_the_nearest_vertices_follow():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [9, 0, 0], [3, 0, 0], [5, 0, 0]], float)
    faces = np.array([[0, 1, 2], [3, 4, 5]])
    assert spiral_indices(faces, vertices, 6)[0].tolist() == [0, 1, 2, 4, 5, 3]
    assert spiral_indices(faces, vertices, 5, half_edge=True)[4].tolist() == [4, 1, 5, 0, 2]  # nearest, ring or not


@pytest.mark.parametrize(("length", "dilation"), [(13, 1), (7, 2)])
def test_a_spiral_longer_than_the_mesh_is_refused(length, dilation):
    vertices, faces = icosahedron()
    with pytest.raises(ValueError, match=f"spiral of {length * dilation} vertices .* mesh of 12"):
        spiral_indices(faces, vertices, length, dilation)


@pytest.mark.parametrize("level", range(COARSE + 1))
def test_spirals_of_a_level_belong_to_that_level(level):
    spirals = HAND.spirals(level, 9, 2)
    vertices = HAND.level_template(level)
    assert spirals.shape == (len(vertices), 9)
    assert spirals.max() < len(vertices)
    reach = np.linalg.norm(vertices[spirals] - vertices[:, None], axis=2)
    edge = np.median(reach[:, 1])
    assert np.median(reach.max(1)) < 5 * edge  # neighbourhoods, not any vertices
