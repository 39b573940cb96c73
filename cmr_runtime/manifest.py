# SPDX-License-Identifier: Apache-2.0
"""The manifest of a bundle: its keys, their types, and the hash of every other part."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from .errors import BundleError
from .topology import JOINTS

__all__ = ["PARTS", "SCHEMA", "Manifest", "check_part", "read_manifest", "write_manifest"]

#: Version of the form of the bundle; a reader refuses any other.
SCHEMA = 1
#: Parts besides the manifest, in the order in which they are written.
PARTS = ("prior.onnx", "mesh.onnx", "topology.npz", "LICENSE.txt")

_MAX_MANIFEST = 1 << 20
_KEYS: dict[str, type] = {
    "schema": int,
    "name": str,
    "licence": str,
    "provenance": dict,
    "units": str,
    "input": dict,
    "root_joint": int,
    "parts": dict,
}
_Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Manifest:
    """What a manifest says, checked; the fields are those of `Bundle`, and `parts` is {name: (bytes, SHA-256)}."""

    name: str
    licence: str
    provenance: dict[str, str]
    input_size: int
    mean: _Triple
    std: _Triple
    root_joint: int
    parts: Mapping[str, tuple[int, str]]


def write_manifest(manifest: Manifest) -> bytes:
    """Write a manifest as UTF-8 JSON; equal manifests give equal bytes."""
    table = {
        "schema": SCHEMA,
        "name": manifest.name,
        "licence": manifest.licence,
        "provenance": dict(manifest.provenance),
        "units": "m",
        "input": {"size": manifest.input_size, "mean": list(manifest.mean), "std": list(manifest.std)},
        "root_joint": manifest.root_joint,
        "parts": {name: {"sha256": digest, "bytes": size} for name, (size, digest) in manifest.parts.items()},
    }
    return json.dumps(table, indent=1, ensure_ascii=False, sort_keys=True).encode("utf-8")


def read_manifest(content: bytes, source: str) -> Manifest:
    """Parse and check the text of a manifest; `source` names the bundle in messages.

    Raises
    ------
    BundleError
        No JSON object, another schema, or a key that is missing, of another type, or out of range; it is named.
    """
    if len(content) > _MAX_MANIFEST:
        raise BundleError(f"manifest of {source} has {len(content)} bytes; the limit is {_MAX_MANIFEST}")
    try:
        manifest = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BundleError(f"manifest of {source} is no JSON ({error}); export it again") from error
    if not isinstance(manifest, dict):
        raise BundleError(f"manifest of {source} is a {type(manifest).__name__}; it must be an object")
    if manifest.get("schema", SCHEMA) != SCHEMA:
        found = manifest["schema"]
        raise BundleError(f"{source} has schema {found!r}; this version reads {SCHEMA}: install the one that fits")
    for key, kind in _KEYS.items():
        _need(manifest, key, kind, source)
    if not all(isinstance(value, str) for value in manifest["provenance"].values()):
        raise BundleError(f"manifest key provenance of {source} holds a value that is no text")
    if set(manifest["parts"]) != set(PARTS):
        raise BundleError(f"manifest key parts of {source} names {sorted(manifest['parts'])}, not {sorted(PARTS)}")
    root = manifest["root_joint"]
    if not 0 <= root < JOINTS:
        raise BundleError(f"manifest key root_joint of {source} is {root}; a joint is 0 to {JOINTS - 1}")
    if manifest["units"] != "m":
        raise BundleError(f"manifest key units of {source} is {manifest['units']!r}; it must be 'm' (metres)")
    size, mean, std = _input(manifest["input"], source)
    parts = {}
    for name, entry in manifest["parts"].items():
        if not isinstance(entry, dict):
            raise BundleError(f"manifest entry of part {name} of {source} is no object")
        parts[name] = (_need(entry, "bytes", int, source), _need(entry, "sha256", str, source))
    return Manifest(
        manifest["name"], manifest["licence"], manifest["provenance"], size, mean, std, root, MappingProxyType(parts)
    )


def _need(table: Mapping[str, Any], key: str, kind: type, source: str) -> Any:
    if key not in table:
        raise BundleError(f"manifest of {source} lacks key {key}; export it again")
    value = table[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise BundleError(f"manifest key {key} of {source} is a {type(value).__name__}, not {kind.__name__}")
    return value


def check_part(name: str, content: bytes, manifest: Manifest, source: str) -> None:
    """Refuse, by name, a part that is not the one that the manifest describes (raises `BundleError`)."""
    size, digest = manifest.parts[name]
    if len(content) != size:
        raise BundleError(f"part {name} of {source} is changed: {len(content)} bytes, the manifest says {size}")
    if (found := hashlib.sha256(content).hexdigest()) != digest:
        raise BundleError(
            f"part {name} of {source} is changed: SHA-256 {found[:12]}…, the manifest says {digest[:12]}…"
        )


def _input(table: dict[str, Any], source: str) -> tuple[int, _Triple, _Triple]:
    size = _need(table, "size", int, source)
    if not 8 <= size <= 4096:
        raise BundleError(f"manifest key input.size of {source} is {size}; it must be 8 to 4096 pixels")
    mean, std = (_triple(_need(table, key, list, source), key, source) for key in ("mean", "std"))
    if min(std) <= 0:
        raise BundleError(f"manifest key input.std of {source} is {list(std)}; it must be greater than 0")
    return size, mean, std


def _triple(values: list[Any], key: str, source: str) -> _Triple:
    numbers = [float(v) for v in values if isinstance(v, int | float) and abs(v) < 1e6]
    if len(values) != 3 or len(numbers) != 3:
        raise BundleError(f"manifest key input.{key} of {source} is {values}; it must be 3 finite numbers")
    return numbers[0], numbers[1], numbers[2]
