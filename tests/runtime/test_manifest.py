# SPDX-License-Identifier: Apache-2.0
import hashlib
import json

import pytest

from cmr_runtime import BundleError
from cmr_runtime.manifest import OPTIONAL, PARTS, check_part, graph_part, read_manifest, write_manifest

NAMES = [names[0] for kind, names in PARTS.items() if kind not in OPTIONAL]
TABLE = {
    "schema": 2,
    "name": "n",
    "licence": "l",
    "provenance": {"a": "b"},
    "units": "m",
    "input": {"size": 32, "mean": [0, 0, 0], "std": [1, 1, 1], "cell_centre": 0.25},
    "root_joint": 9,
    "architecture": "a",
    "precision": "int8",
    "parts": {name: {"sha256": "0" * 64, "bytes": 3} for name in NAMES},
}


def _read(table: object):
    return read_manifest(json.dumps(table).encode(), "x.cmr")


def test_round_trip() -> None:
    manifest = _read(TABLE)
    assert manifest.input_size == 32
    assert (manifest.architecture, manifest.precision, manifest.cell_centre) == ("a", "int8", 0.25)
    assert json.loads(write_manifest(manifest)) == TABLE


def test_first_layers_are_optional_and_in_one_format() -> None:
    entry = next(iter(TABLE["parts"].values()))
    for part in ("shallow.onnx", "shallow.ort"):
        manifest = _read({**TABLE, "parts": {**TABLE["parts"], part: entry}})
        assert part in manifest.parts
    with pytest.raises(BundleError, match="parts"):
        _read({**TABLE, "parts": {**TABLE["parts"], "shallow.onnx": entry, "shallow.ort": entry}})


def test_a_detector_is_optional() -> None:
    assert _read(TABLE).detector_size is None
    entry = {"sha256": "0" * 64, "bytes": 3}
    for part in ("detector.onnx", "detector.ort"):
        table = {**TABLE, "parts": {**TABLE["parts"], part: entry}, "detector": {"size": 192}}
        manifest = _read(table)
        assert manifest.detector_size == 192
        assert json.loads(write_manifest(manifest)) == table
    both = {**TABLE["parts"], "detector.onnx": entry, "detector.ort": entry}
    for change, word in (
        ({"parts": both, "detector": {"size": 192}}, "parts"),
        ({"parts": {**TABLE["parts"], "detector.onnx": entry}}, "lacks key detector"),
        ({"parts": {**TABLE["parts"], "detector.onnx": entry}, "detector": {"size": 7}}, r"detector\.size .* is 7"),
    ):
        with pytest.raises(BundleError, match=word):
            _read({**TABLE, **change})


def test_schema_1_states_less() -> None:
    manifest = _read({k: v for k, v in {**TABLE, "schema": 1}.items() if k not in ("architecture", "precision")})
    assert (manifest.architecture, manifest.precision, manifest.cell_centre) == ("", "fp32", 0.5)


def test_the_middle_of_the_cell_is_the_usual_centre() -> None:
    assert _read({**TABLE, "input": {"size": 32, "mean": [0] * 3, "std": [1] * 3}}).cell_centre == 0.5


def test_graphs_may_be_in_either_format() -> None:
    parts = {name.replace(".onnx", ".ort"): entry for name, entry in TABLE["parts"].items()}
    assert set(_read({**TABLE, "parts": parts}).parts) == {"prior.ort", "mesh.ort", "topology.npz", "LICENSE.txt"}
    assert graph_part("mesh", b"\x08\0\0\0ORTM...") == "mesh.ort"
    assert graph_part("mesh", b"\x08\x09\x12\x04onnx") == "mesh.onnx"


@pytest.mark.parametrize("key", sorted(TABLE))
def test_missing_key_is_named(key: str) -> None:
    with pytest.raises(BundleError, match=f"lacks key {key}"):
        _read({k: v for k, v in TABLE.items() if k != key})


@pytest.mark.parametrize("key", ["size", "mean", "std"])
def test_missing_input_key_is_named(key: str) -> None:
    with pytest.raises(BundleError, match=f"lacks key {key}"):
        _read({**TABLE, "input": {k: v for k, v in TABLE["input"].items() if k != key}})


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"schema": 3}, "schema 3; this version reads 1 and 2"),
        ({"schema": "1"}, "schema"),
        ({"name": 3}, "key name .* is a int, not str"),
        ({"provenance": {"a": 1}}, "provenance"),
        ({"units": "mm"}, "units"),
        ({"root_joint": -1}, "root_joint"),
        ({"precision": "fp8"}, "precision .* is 'fp8'"),
        ({"input": {**TABLE["input"], "cell_centre": 1.5}}, "cell_centre .* 1.5; it must be a number from 0 to 1"),
        ({"input": {**TABLE["input"], "cell_centre": True}}, "cell_centre"),
        ({"input": {**TABLE["input"], "cell_centre": float("nan")}}, "cell_centre"),
        ({"parts": {**TABLE["parts"], "mesh.ort": TABLE["parts"]["mesh.onnx"]}}, "parts"),
        ({"root_joint": True}, "root_joint"),
        ({"input": {"size": 4, "mean": [0] * 3, "std": [1] * 3}}, "size"),
        ({"input": {"size": 32, "mean": [0, 0], "std": [1] * 3}}, "mean"),
        ({"input": {"size": 32, "mean": [0] * 3, "std": [1, 1, 0]}}, "std"),
        ({"input": {"size": 32, "mean": [0] * 3, "std": [1, 1, 10**400]}}, "std"),
        ({"input": {"size": 32, "mean": [float("nan")] * 3, "std": [1] * 3}}, "mean"),
        ({"parts": {}}, "parts"),
        ({"parts": {**TABLE["parts"], "mesh.onnx": 7}}, "mesh.onnx"),
        ({"parts": {**TABLE["parts"], "mesh.onnx": {"bytes": 3}}}, "sha256"),
    ],
)
def test_wrong_values_are_named(change: dict, word: str) -> None:
    with pytest.raises(BundleError, match=word):
        _read({**TABLE, **change})


@pytest.mark.parametrize("text", [b"", b"\xff", b"[]", b"{", b"[" * 100000])
def test_no_json_object(text: bytes) -> None:
    with pytest.raises(BundleError, match=r"x\.cmr"):
        read_manifest(text, "x.cmr")


def test_part_of_other_size_or_hash() -> None:
    manifest = _read(TABLE)
    with pytest.raises(BundleError, match=r"part mesh\.onnx of x\.cmr is changed: 2 bytes"):
        check_part("mesh.onnx", b"ab", manifest, "x.cmr")
    with pytest.raises(BundleError, match=r"part mesh\.onnx of x\.cmr is changed: SHA-256"):
        check_part("mesh.onnx", b"abc", manifest, "x.cmr")


@pytest.mark.parametrize("kind", ["mesh", "shallow"])
def test_a_graph_is_of_the_format_that_its_name_says(kind: str) -> None:
    content = b"abcd"
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    parts = {k: v for k, v in TABLE["parts"].items() if k != f"{kind}.onnx"} | {f"{kind}.ort": entry}
    with pytest.raises(BundleError, match=rf"part {kind}\.ort of x\.cmr holds .* {kind}\.onnx is the name"):
        check_part(f"{kind}.ort", content, _read({**TABLE, "parts": parts}), "x.cmr")
