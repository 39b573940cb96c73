# SPDX-License-Identifier: Apache-2.0
import dataclasses
import hashlib
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cmr_runtime import Bundle, BundleError, Topology, write_bundle
from cmr_runtime.archive import seal

PARTS = ["manifest.json", "prior.onnx", "mesh.onnx", "topology.npz", "LICENSE.txt"]


def _rebuilt(data: bytes, change, compression: int = zipfile.ZIP_STORED) -> bytes:
    """The archive with its parts changed and a seal that fits: what somebody who forges a bundle can do."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = [(info.filename, archive.read(info)) for info in archive.infolist()]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.comment = b"sha256:" + b"0" * 64
        for name, content in change(parts):
            archive.writestr(name, content)
    data = buffer.getvalue()
    return data[:-71] + seal(data)


def test_round_trip(bundle: Bundle, content: dict) -> None:
    assert bundle.prior == content["prior"]
    assert bundle.mesh == content["mesh"]
    assert (bundle.name, bundle.input_size, bundle.root_joint) == ("disc", 32, 9)
    assert bundle.provenance == content["provenance"]
    assert bundle.licence_text == content["licence_text"]
    np.testing.assert_array_equal(bundle.topology.faces, content["topology"].faces)
    assert (bundle.architecture, bundle.precision, bundle.cell_centre) == ("", "fp32", 0.5)


def test_stored_with_the_documented_parts_and_reproducible(bundle_path: Path, content: dict, tmp_path: Path) -> None:
    with zipfile.ZipFile(bundle_path) as archive:
        assert [info.filename for info in archive.infolist()] == PARTS
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
    data = bundle_path.read_bytes()
    assert data[-64:].decode() == hashlib.sha256(data[:-71]).hexdigest()
    write_bundle(tmp_path / "again.cmr", **content)
    assert (tmp_path / "again.cmr").read_bytes() == data


def test_what_a_network_states_about_itself_is_kept(content: dict, tmp_path: Path) -> None:
    about = {"architecture": "cmr_pg_res18", "precision": "fp16", "cell_centre": 0.0, "root_joint": 0}
    write_bundle(tmp_path / "a.cmr", **{**content, **about})
    bundle = Bundle.open(tmp_path / "a.cmr")
    assert {key: getattr(bundle, key) for key in about} == about


def test_a_detector_is_kept_in_either_format(content: dict, bundle: Bundle, tmp_path: Path) -> None:
    assert (bundle.detector, bundle.detector_size) == (None, None)
    for graph, part in ((b"\x08\x09\x12\x04onnx", "detector.onnx"), (b"\x08\0\0\0ORTM...", "detector.ort")):
        write_bundle(tmp_path / "d.cmr", **content, detector=graph, detector_size=192)
        again = Bundle.open(tmp_path / "d.cmr")
        assert (again.detector, again.detector_size) == (graph, 192)
        with zipfile.ZipFile(tmp_path / "d.cmr") as archive:
            assert sorted(archive.namelist()) == sorted([*PARTS, part])
    for given in ({"detector": b"graph"}, {"detector_size": 192}):
        with pytest.raises(BundleError, match=r"detector_size of e\.cmr is .*; give it with a detector"):
            write_bundle(tmp_path / "e.cmr", **content, **given)
    assert not (tmp_path / "e.cmr").exists()


def test_a_bundle_of_schema_1_opens(bundle: Bundle, bundle_path: Path) -> None:
    def change(parts):
        table = json.loads(parts[0][1])
        del table["architecture"], table["precision"], table["input"]["cell_centre"]
        return [(parts[0][0], json.dumps({**table, "schema": 1}).encode()), *parts[1:]]

    old = Bundle.from_bytes(_rebuilt(bundle_path.read_bytes(), change), "hand.cmr")
    for field in dataclasses.fields(Bundle):
        if field.name != "topology":
            assert getattr(old, field.name) == getattr(bundle, field.name)


def test_an_unknown_schema_is_refused(bundle_path: Path) -> None:
    def change(parts):
        return [(n, c.replace(b'"schema": 2', b'"schema": 3')) for n, c in parts]

    with pytest.raises(BundleError, match="h has schema 3; this version reads 1 and 2"):
        Bundle.from_bytes(_rebuilt(bundle_path.read_bytes(), change), "h")


def test_the_root_is_one_of_the_joints(content: dict, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"root_joint of a\.cmr is 21; a joint is 0 to 20"):
        write_bundle(tmp_path / "a.cmr", **{**content, "root_joint": 21})


def test_a_mesh_of_other_joints_without_a_regressor_opens(content: dict, tmp_path: Path) -> None:
    full = content["topology"]
    body = Topology(full.template, full.faces, None, np.maximum(np.arange(17) - 1, 0).astype(np.int32))
    write_bundle(tmp_path / "body.cmr", **{**content, "topology": body, "root_joint": 0})
    topology = Bundle.open(tmp_path / "body.cmr").topology
    assert topology.joint_regressor is None
    assert topology.joints == 17


def test_every_flipped_byte_is_refused(bundle_path: Path) -> None:
    data = bundle_path.read_bytes()
    rng = np.random.default_rng(0)
    end = len(data)
    places = {*rng.integers(0, end, 150).tolist(), *range(end - 480, end, 2), *range(0, 60)}
    for place in sorted(places):
        changed = bytearray(data)
        changed[place] ^= int(rng.integers(1, 256))
        with pytest.raises(BundleError):
            Bundle.from_bytes(bytes(changed), "hand.cmr")


@pytest.mark.parametrize("part", PARTS)
def test_a_changed_part_is_named(bundle_path: Path, part: str) -> None:
    data = bytearray(bundle_path.read_bytes())
    with zipfile.ZipFile(bundle_path) as archive:
        info = archive.getinfo(part)
    place = info.header_offset + 30 + len(part) + info.file_size // 2
    data[place] ^= 1
    with pytest.raises(BundleError, match=rf"part {part} of hand\.cmr is changed"):
        Bundle.from_bytes(bytes(data), "hand.cmr")


@pytest.mark.parametrize("part", PARTS[1:])
def test_a_forged_part_is_named_by_its_hash(bundle_path: Path, part: str) -> None:
    def change(parts):
        return [(n, bytes([c[0] ^ 1]) + c[1:] if n == part else c) for n, c in parts]

    with pytest.raises(BundleError, match=rf"part {part} of h is changed: SHA-256"):
        Bundle.from_bytes(_rebuilt(bundle_path.read_bytes(), change), "h")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda p: p[:-1], "lacks part LICENSE.txt"),
        (lambda p: p[1:], "lacks part manifest.json"),
        (lambda p: [*p, ("../evil", b"x")], "unexpected part '../evil'"),
        (lambda p: [*p, ("/etc/passwd", b"x")], "unexpected part"),
        (lambda p: [*p, ("extra.onnx", b"x")], "unexpected part 'extra.onnx'"),
    ],
)
def test_forged_names_are_refused(bundle_path: Path, change, word: str) -> None:
    with pytest.raises(BundleError, match=word):
        Bundle.from_bytes(_rebuilt(bundle_path.read_bytes(), change), "h")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_part_twice_is_refused(bundle_path: Path) -> None:
    with pytest.raises(BundleError, match=r"mesh\.onnx more than once"):
        Bundle.from_bytes(_rebuilt(bundle_path.read_bytes(), lambda p: [*p, p[2]]), "h")
    with pytest.raises(BundleError, match=r"mesh\.onnx more than once"):
        Bundle.from_bytes(_rebuilt(bundle_path.read_bytes(), lambda p: [*p, ("mesh.ort", b"x")]), "h")


def test_a_part_that_the_manifest_calls_otherwise_is_refused(bundle_path: Path) -> None:
    def change(parts):
        return [(n.replace("mesh.onnx", "mesh.ort"), c) for n, c in parts]

    with pytest.raises(BundleError, match=r"holds part mesh\.ort, which its manifest does not name"):
        Bundle.from_bytes(_rebuilt(bundle_path.read_bytes(), change), "h")


def test_parts_that_overlap_are_not_unpacked(bundle_path: Path) -> None:
    # Two entries of the archive's table that point at the same bytes: a small file could fill the memory.
    data = bytearray(bundle_path.read_bytes())
    with zipfile.ZipFile(bundle_path) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    for name in ("topology.npz", "LICENSE.txt"):
        place = data.rindex(name.encode()) - 46  # of the entry in the table
        for field in (20, 24):  # its compressed and plain size
            data[place + field : place + field + 4] = (len(data) - 1).to_bytes(4, "little")
    assert sum(sizes.values()) < len(data)
    with pytest.raises(BundleError, match="declares"):
        Bundle.from_bytes(bytes(data), "h")


def test_compression_is_refused(bundle_path: Path) -> None:
    with pytest.raises(BundleError, match="compressed"):
        Bundle.from_bytes(_rebuilt(bundle_path.read_bytes(), lambda p: p, zipfile.ZIP_DEFLATED), "h")


def test_bytes_before_the_archive_are_refused(bundle_path: Path) -> None:
    with pytest.raises(BundleError):
        Bundle.from_bytes(b"#!/bin/sh\n" + bundle_path.read_bytes(), "h")


@pytest.mark.parametrize("keep", [0, 1, 100, 5000, -1, -100])
def test_cut_short(bundle_path: Path, keep: int) -> None:
    with pytest.raises(BundleError):
        Bundle.from_bytes(bundle_path.read_bytes()[:keep], "h")


def test_absent_foreign_and_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BundleError, match="cmr-export"):
        Bundle.open(tmp_path / "none.cmr")
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.open(tmp_path)
    (tmp_path / "text.cmr").write_text("hello")
    with pytest.raises(BundleError, match="no bundle"):
        Bundle.open(tmp_path / "text.cmr")
    monkeypatch.setattr("cmr_runtime.bundle.MAX_BYTES", 4)
    with pytest.raises(BundleError, match="at most 4"):
        Bundle.open(tmp_path / "text.cmr")


def test_failed_write_leaves_the_old_file(tmp_path: Path, content: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hand.cmr"
    path.write_bytes(b"old")
    with pytest.raises(BundleError, match="std"):
        write_bundle(path, **{**content, "std": [1.0, 1.0, -1.0]})

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_bundle(path, **content)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["hand.cmr"]


def test_default_without_a_bundle_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.resources.files", lambda _: tmp_path)
    with pytest.raises(BundleError, match="cmr-export"):
        Bundle.default()
