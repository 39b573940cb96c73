# SPDX-License-Identifier: Apache-2.0
"""The baked hand keeps what `cmr_models.hand.topology` says of it."""

from importlib.resources import files

import numpy as np
import pytest
import torch

from cmr_models.hand import JOINT_NAMES, JOINT_PARENTS, ROOT_JOINT, HandModel, load_hand

HAND = load_hand(4)
LEVELS = range(len(HAND.level_index))
TIPS = (4, 8, 12, 16, 20)
JOINTS = HAND.joint_regressor @ HAND.template


def faces_of(level: int) -> np.ndarray:
    return HAND.faces if level == 0 else HAND.level_faces[level - 1]


def directed_edges(faces: np.ndarray) -> np.ndarray:
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def signed_volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (vertices[faces[:, k]].astype(float) for k in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def close(faces: np.ndarray, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Close the (single) hole by a fan around its centroid."""
    edges = {tuple(e) for e in directed_edges(faces).tolist()}
    rim = [(b, a) for a, b in edges if (b, a) not in edges]
    centre = vertices[sorted({a for a, _ in rim})].mean(0)
    fan = [(a, b, len(vertices)) for a, b in rim]
    return np.concatenate([faces, np.array(fan)]), np.concatenate([vertices, centre[None]])


def test_the_asset_is_small_and_holds_no_pickles():
    asset = files("cmr_models.hand") / "assets" / "hand.npz"
    data = asset.read_bytes()
    assert len(data) < 1_000_000
    with asset.open("rb") as stream:
        kinds = {array.dtype.kind for array in np.load(stream, allow_pickle=False).values()}
    assert kinds <= {"f", "i", "b"}


def test_the_default_hand_is_the_same_without_the_coarsest_level():
    usual = load_hand()
    assert [len(index) for index in usual.level_index] == [390, 195, 98]
    for name in HAND.__dataclass_fields__:
        usually, whole = getattr(usual, name), getattr(HAND, name)
        pairs = zip(usually, whole, strict=False) if isinstance(usually, tuple) else [(usually, whole)]
        for mine, other in pairs:
            np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("levels", [-1, 5])
def test_levels_that_the_hand_does_not_have_are_refused(levels):
    with pytest.raises(ValueError, match=f"levels is {levels}; the hand has 4"):
        load_hand(levels)


def test_every_array_has_the_shape_it_states_and_is_finite():
    rest, bones, shapes = len(HAND.rest), len(HAND.bone_heads), len(HAND.shape_directions)
    assert bones == 16
    assert HAND.skin_weights.shape == (rest, bones + 1)
    assert HAND.shape_directions.shape == (shapes, rest, 3)
    assert HAND.bone_shape_directions.shape == (shapes, bones, 3)
    assert HAND.bone_frames.shape == (bones, 3, 3)
    assert HAND.joint_regressor.shape == (21, len(HAND.vertex_index))
    assert {HAND.is_hand.shape, HAND.nail.shape, HAND.dorsal.shape, HAND.bone.shape} == {(rest,)}
    for name in HAND.__dataclass_fields__:
        value = getattr(HAND, name)
        for array in value if isinstance(value, tuple) else (value,):
            assert np.isfinite(array).all(), name
            assert array.dtype != np.float16, name


def test_names_and_parents_tell_the_same_tree():
    assert len(JOINT_NAMES) == len(set(JOINT_NAMES)) == len(JOINT_PARENTS) == 21
    assert JOINT_NAMES[0] == "wrist"
    assert JOINT_NAMES[ROOT_JOINT] == "middle_1"
    for joint, parent in enumerate(JOINT_PARENTS[1:], 1):
        finger, number = JOINT_NAMES[joint].split("_")
        assert JOINT_NAMES[parent] == ("wrist" if number == "1" else f"{finger}_{int(number) - 1}")


def test_regressor_is_convex_and_local():
    weights = HAND.joint_regressor
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    for joint in range(21):
        used = HAND.template[weights[joint] > 0]
        assert np.linalg.norm(used - JOINTS[joint], axis=1).max() < 0.06


@pytest.mark.parametrize("tip", TIPS)
def test_tip_is_the_skin_vertex_farthest_along_its_finger(tip):
    (row,) = np.flatnonzero(HAND.joint_regressor[tip])
    assert HAND.joint_regressor[tip, row] == 1
    along = JOINTS[tip] - JOINTS[tip - 1]
    along /= np.linalg.norm(along)
    last_bone = 3 * (tip // 4 - 1) + 3
    own = HAND.bone[HAND.vertex_index] == last_bone
    assert own[row]
    reach = (HAND.template - JOINTS[tip - 1]) @ along
    assert reach[row] > reach[own].max() - 0.002


def test_inner_joints_lie_at_their_bone_heads_inside_the_flesh():
    """At rest, each inner joint is near the head of the bone that it ends, by the bake's own error of some mm."""
    for finger in range(5):
        for k in range(3):
            head = HAND.bone_heads[3 * finger + 1 + k]
            assert np.linalg.norm(JOINTS[4 * finger + 1 + k] - head) < 0.004
    inner = [j for j in range(21) if j not in TIPS]
    distance = np.linalg.norm(HAND.template[None] - JOINTS[inner][:, None], axis=2).min(1)
    assert distance.min() > 0.002  # under the skin
    assert distance.max() < 0.025


def test_skin_weights_are_convex_and_agree_with_the_bone_of_each_vertex():
    weights = HAND.skin_weights
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(1), 1, atol=2e-3)  # stored as float16
    best = np.take_along_axis(weights, HAND.bone[:, None].astype(int), 1)[:, 0]
    np.testing.assert_allclose(best, weights.max(1), atol=1e-3)


def test_canonical_frame_is_a_right_hand_seen_from_its_back():
    assert np.linalg.norm(JOINTS[0]) < 0.003  # origin at the wrist
    middle = JOINTS[9] / np.linalg.norm(JOINTS[9])
    np.testing.assert_allclose(middle, [0, -1, 0], atol=0.03)
    assert JOINTS[[1, 2, 3, 4], 0].max() < 0  # thumb on -x
    knuckles = JOINTS[[5, 9, 13, 17], 0]
    assert (np.diff(knuckles) > 0).all()  # index to little finger along +x
    palm, back = HAND.rest[HAND.dorsal < -0.9], HAND.rest[HAND.dorsal > 0.9]
    assert palm[:, 2].mean() > back[:, 2].mean() + 0.01
    nails = HAND.rest[HAND.nail > 0.5]
    assert len(nails) > 20
    assert HAND.dorsal[(HAND.nail > 0.5) & (HAND.bone > 3)].mean() > 0.6  # fingers' nails, not the thumb's


def test_the_hand_has_human_proportions():
    """Bones of index to little finger after Buryanov & Kotiuk (2010): proximal, middle, distal phalanx in mm."""
    length = lambda a, b: 1000 * float(np.linalg.norm(JOINTS[a] - JOINTS[b]))  # noqa: E731
    assert 160 < length(0, 12) < 210
    expected = {
        5: (39.78, 22.38, 15.82),
        9: (44.63, 26.33, 17.40),
        13: (41.37, 25.65, 17.30),
        17: (32.74, 18.11, 15.96),
    }
    for knuckle, bones in expected.items():
        found = [length(knuckle + k, knuckle + k + 1) for k in range(3)]
        shares = np.array(found) / sum(found)
        # Published lengths end at the bone, ours at the skin: about 4 mm of pulp on the distal phalanx.
        wanted = np.add(bones, (0, 0, 4))
        np.testing.assert_allclose(shares, wanted / wanted.sum(), atol=0.06)


@pytest.mark.parametrize("level", range(len(HAND.level_index) + 1))
def test_faces_of_a_level_form_an_oriented_manifold_that_uses_every_vertex(level):
    faces, vertices = faces_of(level), HAND.level_template(level)
    assert set(faces.ravel().tolist()) == set(range(len(vertices)))
    assert (faces[:, [0, 1, 2]] != faces[:, [1, 2, 0]]).all()
    edges = directed_edges(faces)
    assert len(np.unique(edges, axis=0)) == len(edges)  # each direction once: consistently oriented, manifold
    closed, points = close(faces, vertices)
    assert 1.2e-4 < signed_volume(points, closed) < 5e-4  # outward, and a hand's volume (0.12 to 0.5 litres)
    euler = len(points) - len(np.unique(np.sort(directed_edges(closed), 1), axis=0)) + len(closed)
    assert euler == 2  # a ball, with one hole at the wrist closed


def test_render_mesh_is_closed_and_faces_outwards():
    faces = HAND.render_faces
    assert faces.min() == 0
    assert faces.max() == len(HAND.rest) - 1
    edges = {tuple(e) for e in directed_edges(faces).tolist()}
    assert len(edges) == 3 * len(faces)
    assert {(b, a) for a, b in edges} == edges
    assert signed_volume(HAND.rest, faces) > 3e-4
    assert len(HAND.rest) - len(edges) // 2 + len(faces) == 2


def test_network_vertices_are_distinct_vertices_of_the_hand():
    assert len(np.unique(HAND.vertex_index)) == len(HAND.vertex_index)
    assert HAND.is_hand[HAND.vertex_index].all()
    np.testing.assert_array_equal(HAND.template, HAND.rest[HAND.vertex_index])
    assert not HAND.is_hand.all()  # there is a forearm


@pytest.mark.parametrize("level", LEVELS)
def test_down_sampling_picks_vertices(level):
    fine, index = HAND.level_template(level), HAND.level_index[level]
    assert len(np.unique(index)) == len(index)
    assert index.max() < len(fine)
    assert 0.4 < len(index) / len(fine) < 0.6
    np.testing.assert_array_equal(HAND.level_template(level + 1), fine[index])


@pytest.mark.parametrize("level", LEVELS)
def test_up_sampling_is_barycentric_on_coarse_faces(level):
    index, weight = HAND.up_index[level], HAND.up_weight[level]
    assert index.shape == weight.shape == (len(HAND.level_template(level)), 3)
    np.testing.assert_allclose(weight.sum(1), 1, atol=1e-6)
    assert weight.min() >= 0
    known = {tuple(sorted(f)) for f in faces_of(level + 1).tolist()}
    assert {tuple(sorted(row)) for row in index.tolist()} <= known


@pytest.mark.parametrize("level", LEVELS)
def test_up_sampling_keeps_constants_kept_vertices_and_nearly_the_surface(level):
    index, weight = HAND.up_index[level], HAND.up_weight[level]
    coarse, fine = HAND.level_template(level + 1), HAND.level_template(level)
    up = lambda values: (values[index] * weight[..., None]).sum(1)  # noqa: E731
    np.testing.assert_allclose(up(np.full((len(coarse), 2), 3.5)), 3.5, rtol=1e-6)
    np.testing.assert_allclose(up(coarse)[HAND.level_index[level]], coarse, atol=1e-6)
    error = np.linalg.norm(up(coarse) - fine, axis=1)
    # 49 vertices do not hold every finger tip; the network predicts no vertices on that level.
    assert error.mean() < (0.002 if level < 3 else 0.004)
    assert error.max() < (0.012 if level < 3 else 0.045)


@pytest.mark.parametrize("level", LEVELS)
def test_up_sampling_reproduces_linear_functions_where_the_fine_vertex_lies_on_the_coarse_face(level):
    index, weight = HAND.up_index[level], HAND.up_weight[level]
    coarse = HAND.level_template(level + 1).astype(float)
    points = (coarse[index] * weight[..., None]).sum(1)  # feet of the fine vertices on the coarse mesh
    slope = np.array([2.0, -3.0, 0.5])
    found = ((coarse @ slope + 1)[index] * weight).sum(1)
    np.testing.assert_allclose(found, points @ slope + 1, atol=1e-6)
    # The foot is the nearest point of its triangle: no corner, and no step along the triangle, comes nearer.
    fine = HAND.level_template(level)
    reach = np.linalg.norm(points - fine, axis=1)
    for towards in range(3):
        step = points + 0.01 * (coarse[index[:, towards]] - points)
        assert (np.linalg.norm(step - fine, axis=1) >= reach - 1e-6).all()


def test_fingertips_bend_to_the_palm_side():
    model, angles = HandModel(HAND), torch.zeros(1, 16, 3)
    shape = torch.zeros(1, model.shape_count)
    at_rest = model(angles, shape).joints[0]
    angles[:, 4:, 0] = 0.5  # all but the thumb
    bent = model(angles, shape).joints[0]
    assert ((bent - at_rest)[[8, 12, 16, 20], 2] > 0.02).all()


@pytest.mark.parametrize(("level", "mean", "most"), [(1, 1e-4, 0.002), (2, 3e-4, 0.005)])
def test_the_mesh_follows_from_a_coarser_level_in_poses_that_it_was_not_fitted_to(level, mean, most):
    generator = torch.Generator().manual_seed(5)
    angles, shape = 0.5 * torch.randn(64, 16, 3, generator=generator), torch.randn(64, 13, generator=generator)
    angles[..., 1:] *= 0.3
    mesh = HandModel(HAND)(angles, shape).vertices[:, HAND.vertex_index].numpy()
    coarse = mesh
    for index in HAND.level_index[:level]:
        coarse = coarse[:, index]
    surface = HAND.surface(level)
    np.testing.assert_allclose(surface.sum(1), 1, atol=1e-5)  # so that it moves with the hand
    error = np.linalg.norm(surface @ coarse - mesh, axis=2)
    assert error.mean() < mean
    assert error.max() < most


@pytest.mark.parametrize("level", [0, 3])
def test_the_mesh_does_not_follow_from_other_levels(level):
    with pytest.raises(ValueError, match=rf"level is {level}; the mesh follows from levels 1 to 2"):
        HAND.surface(level)
