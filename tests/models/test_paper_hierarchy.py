# SPDX-License-Identifier: Apache-2.0
"""Mesh hierarchies: of the own hand, of files in the reference's form, and what is refused."""

import io
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from paper_assets import write_transform
from scipy.sparse import csc_matrix

from cmr_models.hand import JOINT_PARENTS
from cmr_models.paper.assets import BODY_PARENTS, FROM_MANO, MAX_BYTES, read_transform
from cmr_models.paper.hierarchy import MeshHierarchy

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "handmesh"
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference's mesh files are not here")
HAND = MeshHierarchy.from_hand()


def up(hierarchy: MeshHierarchy, level: int, values: np.ndarray) -> np.ndarray:
    return (values[hierarchy.up_index[level]] * hierarchy.up_weight[level][..., None]).sum(1)


def test_the_own_hand_has_the_levels_of_the_paper():
    assert HAND.counts == (778, 390, 195, 98, 49)
    assert (HAND.levels, HAND.joints) == (4, 21)
    for level in range(4):
        np.testing.assert_allclose(HAND.up_weight[level].sum(1), 1, atol=1e-6)
        np.testing.assert_array_equal(HAND.vertices[level][HAND.down_index[level]], HAND.vertices[level + 1])
        error = np.linalg.norm(up(HAND, level, HAND.vertices[level + 1]) - HAND.vertices[level], axis=1)
        assert error.mean() < 0.004  # metres


@pytest.mark.parametrize("parents", [JOINT_PARENTS, BODY_PARENTS])
def test_a_joint_follows_its_parent(parents):
    assert parents[0] == 0
    assert (parents[1:] < np.arange(1, len(parents))).all()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_file_in_the_references_form_gives_the_hierarchy_back(tmp_path, protocol):
    write_transform(tmp_path, HAND, protocol)
    mano = np.empty_like(HAND.joint_regressor, dtype=float)
    mano[list(FROM_MANO)] = HAND.joint_regressor
    np.save(tmp_path / "j_reg.npy", mano)
    read = MeshHierarchy.from_assets(tmp_path)
    assert read.counts == HAND.counts
    assert (read.root_joint, read.unit) == (0, 0.2)
    np.testing.assert_array_equal(read.joint_regressor, HAND.joint_regressor)
    for level in range(4):
        np.testing.assert_array_equal(read.down_index[level], HAND.down_index[level])
        features = np.random.default_rng(level).normal(size=(HAND.counts[level + 1], 2))
        np.testing.assert_allclose(up(read, level, features), up(HAND, level, features), atol=1e-6)
        np.testing.assert_array_equal(read.spirals(level, 9), HAND.spirals(level, 9))


class Command:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path):
    (tmp_path / "transform.pkl").write_bytes(pickle.dumps({"vertices": [Command(tmp_path / "made")]}))
    with pytest.raises(ValueError, match=r"transform\.pkl: refused .* posix\.mkdir|nt\.mkdir"):
        MeshHierarchy.from_assets(tmp_path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"cos\nsystem\n(S'true'\ntR.",
        b"c_codecs\nencode\n(S'true'\nS'rot13'\ntR.",
        pickle.dumps([1]),
        pickle.dumps({"vertices": [np.zeros(3)]}),
    ],
)
def test_what_is_no_transform_is_refused(tmp_path, content):
    (tmp_path / "transform.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=r"transform\.pkl: (refused|need lists)"):
        read_transform(tmp_path / "transform.pkl")


def test_a_truncated_or_huge_transform_is_refused(tmp_path):
    write_transform(tmp_path, HAND)
    path = tmp_path / "transform.pkl"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="refused as a file of arrays"):
        MeshHierarchy.from_assets(tmp_path)
    with path.open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    with pytest.raises(ValueError, match=f"{MAX_BYTES + 1} bytes; the limit is {MAX_BYTES}"):
        MeshHierarchy.from_assets(tmp_path)


def _rewrite(directory: Path, change) -> None:
    write_transform(directory, HAND)
    path = directory / "transform.pkl"
    content = pickle.loads(path.read_bytes())
    change(content)
    path.write_bytes(pickle.dumps(content))


def _far_index(content: dict) -> None:
    content["up_transform"][1].indices[5] = 1000


def _four_entries(content: dict) -> None:
    content["up_transform"][2] = csc_matrix(np.ones((195, 98), np.float32))


def _wrong_face(content: dict) -> None:
    content["face"][3][0, 0] = 98


def _lost_level(content: dict) -> None:
    content["up_transform"].pop()


def _array_for_matrix(content: dict) -> None:
    content["up_transform"][0] = np.zeros((778, 389))


def _other_shape(content: dict) -> None:
    content["up_transform"][0] = content["up_transform"][0][:777]


def _lists_for_arrays(content: dict) -> None:
    values = [1.0, 1.0, 1.0]
    for _ in range(20):  # a few bytes of pickle, 25 MB once copied
        values = [values, values]
    content["vertices"][0] = values


class Repeated:
    """A pickle of 10^13 elements, all in the same eight bytes."""

    def __reduce__(self):
        return np.ndarray, ((10**13,), "f8", bytes(8), 0, (0,))


def _repeated_memory(content: dict) -> None:
    content["up_transform"][0].data = Repeated()


def _shape(height: int, width: int, *starts: int):
    def change(content: dict) -> None:
        matrix = content["up_transform"][0]
        matrix.__dict__.update(_shape=(height, width), indices=matrix.indices[:0], data=matrix.data[:0])
        matrix.indptr = np.array(starts)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_lists_for_arrays, "holds a list where an array of numbers belongs"),
        (_repeated_memory, "holds a ndarray where an array of numbers belongs, of 67108864 bytes at most"),
        (_shape(10**13, 0, 0), r"\(10000000000000, 0\) is inconsistent"),
        (_shape(3, 10**13, 0), r"\(3, 10000000000000\) is inconsistent"),
        (_shape(3, 1, 0, 10**13), r"\(3, 1\) is inconsistent"),
        (_shape(3, 2, 0, 10**13, 0), r"\(3, 2\) is inconsistent"),
        (_far_index, "is inconsistent"),
        (_four_entries, "has 98 entries; the limit is 3"),
        (_wrong_face, "faces of level 3: indices 0 to 98, need 0 to 97"),
        (_lost_level, r"\(5, 5, 4, 3\) .* need L \+ 1"),
        (_array_for_matrix, "no attribute 'rows'"),
        (_other_shape, r"up_index of level 0: shape \(777, 3\), need \(778, 3\)"),
    ],
)
def test_an_inconsistent_transform_is_refused(tmp_path, change, message):
    _rewrite(tmp_path, change)
    with pytest.raises(ValueError, match=message):
        MeshHierarchy.from_assets(tmp_path)


def test_missing_files_and_joints_are_named(tmp_path):
    (tmp_path / "transform_body.pkl").touch()
    with pytest.raises(ValueError, match=r"transform\.pkl: not found \(there is \['transform_body\.pkl'\]\)"):
        MeshHierarchy.from_assets(tmp_path)
    with pytest.raises(ValueError, match="joints is 16; need 21"):
        MeshHierarchy.from_assets(tmp_path, 16)
    write_transform(tmp_path, HAND)
    assert MeshHierarchy.from_assets(tmp_path).joint_regressor is None  # its maker keeps it
    (tmp_path / "j_reg.npy").write_bytes(pickle.dumps(np.eye(21)))
    with pytest.raises(ValueError, match=r"j_reg\.npy: no \.npy array of numbers"):
        MeshHierarchy.from_assets(tmp_path)


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _header(*shape: int) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_npy(np.zeros((20, 778))), r"shape \(20, 778\); need 21 rows"),
        (_npy(np.zeros((21, 778)))[:-8], r"declares float64 \(21, 778\), 130704 bytes; it holds 130696"),
        (_header(21, 10**13), r"declares float32 \(21, 10000000000000\), 840000000000000 bytes; it holds 0"),
        (_npy(np.full((21, 778), "a")), "declares <U1"),
        (_npy(np.full((21, 778), 2 / 778)), r"a row sums to 2\.0000; each row .* 1 within 0\.001"),
        (_npy(np.where(np.eye(21, 778) > 0, np.nan, 1 / 777)), "not finite"),
        (b"PK\x03\x04 cut short", "no .npy array of numbers"),
        (b"", "no .npy array of numbers"),
    ],
    ids=["rows", "cut", "huge", "text", "sum", "no number", "archive", "empty"],
)
def test_a_regressor_that_is_none_is_refused(tmp_path, content, message):
    write_transform(tmp_path, HAND)
    (tmp_path / "j_reg.npy").write_bytes(content)
    with pytest.raises(ValueError, match=f"j_reg\\.npy: .*{message}"):
        MeshHierarchy.from_assets(tmp_path)


def test_numbers_in_any_form_that_numpy_saves_are_read(tmp_path):
    mano = np.eye(21, 778, k=5, dtype=int)
    write_transform(tmp_path, HAND)
    for array in (mano, np.asfortranarray(mano, np.float16), mano.astype(">f8")):
        np.save(tmp_path / "j_reg.npy", array)
        read = MeshHierarchy.from_assets(tmp_path).joint_regressor
        np.testing.assert_array_equal(read, array[list(FROM_MANO)].astype(np.float32))


def test_a_regressor_of_another_mesh_is_refused():
    with pytest.raises(ValueError, match=r"joint_regressor: shape \(21, 777\), need \(21, 778\)"):
        replace(HAND, joint_regressor=HAND.joint_regressor[:, 1:])


@needs_reference
def test_the_references_hand_has_joints_in_the_order_of_the_heat_maps():
    hand = MeshHierarchy.from_assets(REFERENCE)
    assert hand.counts == (778, 389, 195, 98, 49)
    joints = hand.joint_regressor @ hand.template
    wrist, fingers = joints[0], joints[1:].reshape(5, 4, 3)
    # Along every finger each joint is farther from the wrist, in steps of a phalanx; the tip is a vertex of the skin.
    assert (np.diff(np.linalg.norm(fingers - wrist, axis=2), axis=1) > 0.002).all()
    steps = np.linalg.norm(np.diff(fingers, axis=1), axis=2)
    assert ((steps > 0.015) & (steps < 0.05)).all()
    assert [int(row.argmax()) for row in hand.joint_regressor[4::4]] == [744, 333, 444, 555, 672]
    # Neighbouring fingers are the nearest: thumb, index, middle, ring, little.
    tips = np.linalg.norm(fingers[:, None, 3] - fingers[None, :, 3], axis=2)
    for finger in range(1, 4):
        assert sorted(np.argsort(tips[finger])[1:3].tolist()) == [finger - 1, finger + 1] or finger == 1
    knuckles = fingers[1:, 0]
    across = (knuckles - knuckles[0]) @ (knuckles[-1] - knuckles[0])
    assert (np.diff(across) > 0).all()
    thumb_side = (fingers[0, 3] - knuckles[0]) @ (knuckles[-1] - knuckles[0])
    assert thumb_side < 0


@needs_reference
def test_the_references_body_is_in_metres_and_keeps_its_regressor_elsewhere():
    body = MeshHierarchy.from_assets(REFERENCE, 17)
    assert body.counts == (6890, 1969, 563, 161, 46)
    assert (body.joints, body.root_joint, body.unit, body.joint_regressor) == (17, 0, 1.0, None)
    assert 1.5 < np.ptp(body.template[:, 1]) < 2.0  # a person stands upright
