# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from cmr_runtime import BundleError
from cmr_runtime.manifest import PARTS, check_part, read_manifest, write_manifest

TABLE = {
    "schema": 1,
    "name": "n",
    "licence": "l",
    "provenance": {"a": "b"},
    "units": "m",
    "input": {"size": 32, "mean": [0, 0, 0], "std": [1, 1, 1]},
    "root_joint": 9,
    "parts": {name: {"sha256": "0" * 64, "bytes": 3} for name in PARTS},
}


def _read(table: object):
    return read_manifest(json.dumps(table).encode(), "x.cmr")


def test_round_trip() -> None:
    manifest = _read(TABLE)
    assert manifest.input_size == 32
    assert json.loads(write_manifest(manifest)) == TABLE


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
        ({"schema": 2}, "schema 2; this version reads 1"),
        ({"schema": "1"}, "schema"),
        ({"name": 3}, "key name .* is a int, not str"),
        ({"provenance": {"a": 1}}, "provenance"),
        ({"units": "mm"}, "units"),
        ({"root_joint": 21}, "root_joint"),
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
