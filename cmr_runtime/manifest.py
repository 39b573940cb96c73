# SPDX-License-Identifier: Apache-2.0
"""The manifest of a bundle: its keys, their types, and the hash of every other part."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, cast, get_args

from .errors import BundleError

__all__ = [
    "OPTIONAL",
    "PARTS",
    "SCHEMA",
    "Manifest",
    "Precision",
    "check_part",
    "graph_part",
    "kind_of",
    "read_manifest",
    "write_manifest",
]

#: How a network's weights are stored; its inputs and outputs are float32 whichever it is.
Precision = Literal["fp32", "fp16", "int8"]

#: Version of the form of the bundle that is written.
SCHEMA = 2
#: Versions that are read. Version 1 does not state `_SINCE_2` and has every output of the default network.
_READ = (1, SCHEMA)
#: Parts besides the manifest by kind, in the order in which they are written; a bundle has one part of each kind, of
#: those in `OPTIONAL` one or none.
PARTS = {
    "prior": ("prior.onnx", "prior.ort"),
    "mesh": ("mesh.onnx", "mesh.ort"),
    "shallow": ("shallow.onnx", "shallow.ort"),
    "detector": ("detector.onnx", "detector.ort"),
    "plan": ("plan.json",),
    "topology": ("topology.npz",),
    "LICENSE": ("LICENSE.txt",),
}
OPTIONAL = frozenset({"detector", "plan", "shallow"})
#: Parts that hold a graph, in one of two formats.
GRAPHS = tuple(kind for kind, names in PARTS.items() if len(names) == 2)

# File identifier of ONNX Runtime's own format, a FlatBuffer, after the 4 bytes of its first offset.
_ORT = slice(4, 8), b"ORTM"
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
_SINCE_2: dict[str, type] = {"architecture": str, "precision": str}
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
    architecture: str
    precision: Precision
    cell_centre: float
    detector_size: int | None
    parts: Mapping[str, tuple[int, str]]


def kind_of(name: str) -> str:
    """Kind of a part by its name; of a name that no part has, something that is no kind."""
    return next((kind for kind, names in PARTS.items() if name in names), "")


def graph_part(kind: str, graph: bytes) -> str:
    """Name of the part that holds a stage's graph: it says whether the graph is in ONNX or in ORT format."""
    place, mark = _ORT
    return PARTS[kind][graph[place] == mark]


def write_manifest(manifest: Manifest) -> bytes:
    """Write a manifest as UTF-8 JSON; equal manifests give equal bytes."""
    table: dict[str, Any] = {
        "schema": SCHEMA,
        "name": manifest.name,
        "licence": manifest.licence,
        "provenance": dict(manifest.provenance),
        "units": "m",
        "architecture": manifest.architecture,
        "precision": manifest.precision,
        "input": {
            "size": manifest.input_size,
            "mean": list(manifest.mean),
            "std": list(manifest.std),
            "cell_centre": manifest.cell_centre,
        },
        "root_joint": manifest.root_joint,
        "parts": {name: {"sha256": digest, "bytes": size} for name, (size, digest) in manifest.parts.items()},
    }
    if manifest.detector_size is not None:
        table["detector"] = {"size": manifest.detector_size}
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
    schema = manifest.get("schema", SCHEMA)
    if schema not in _READ:
        known = " and ".join(map(str, _READ))
        raise BundleError(f"{source} has schema {schema!r}; this version reads {known}: install the one that fits")
    for key, kind in (_KEYS if schema == 1 else _KEYS | _SINCE_2).items():
        _need(manifest, key, kind, source)
    if not all(isinstance(value, str) for value in manifest["provenance"].values()):
        raise BundleError(f"manifest key provenance of {source} holds a value that is no text")
    kinds = [kind_of(name) for name in manifest["parts"]]
    if {*kinds, *OPTIONAL} != {*PARTS} or len({*kinds}) != len(kinds):
        wanted = ", ".join(" or ".join(names) for kind, names in PARTS.items() if kind not in OPTIONAL)
        raise BundleError(f"manifest key parts of {source} names {sorted(manifest['parts'])}; it must name {wanted}")
    root = manifest["root_joint"]
    if root < 0:
        raise BundleError(f"manifest key root_joint of {source} is {root}; joints count from 0")
    architecture, precision, cell_centre = "", "fp32", 0.5
    if schema != 1:
        architecture, precision = manifest["architecture"], manifest["precision"]
        cell_centre = _cell_centre(manifest["input"].get("cell_centre", cell_centre), source)
    if precision not in get_args(Precision):
        raise BundleError(f"manifest key precision of {source} is {precision!r}; it must be of {get_args(Precision)}")
    if manifest["units"] != "m":
        raise BundleError(f"manifest key units of {source} is {manifest['units']!r}; it must be 'm' (metres)")
    size, mean, std = _input(manifest["input"], source)
    detector_size = None
    if "detector" in kinds:
        detector_size = _size(_need(manifest, "detector", dict, source), "detector", source)
    parts = {}
    for name, entry in manifest["parts"].items():
        if not isinstance(entry, dict):
            raise BundleError(f"manifest entry of part {name} of {source} is no object")
        parts[name] = (_need(entry, "bytes", int, source), _need(entry, "sha256", str, source))
    return Manifest(
        name=manifest["name"],
        licence=manifest["licence"],
        provenance=manifest["provenance"],
        input_size=size,
        mean=mean,
        std=std,
        root_joint=root,
        architecture=architecture,
        precision=cast("Precision", precision),
        cell_centre=cell_centre,
        detector_size=detector_size,
        parts=MappingProxyType(parts),
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
    if name not in manifest.parts:
        raise BundleError(f"{source} holds part {name}, which its manifest does not name; export it again")
    size, digest = manifest.parts[name]
    if len(content) != size:
        raise BundleError(f"part {name} of {source} is changed: {len(content)} bytes, the manifest says {size}")
    if (found := hashlib.sha256(content).hexdigest()) != digest:
        raise BundleError(
            f"part {name} of {source} is changed: SHA-256 {found[:12]}…, the manifest says {digest[:12]}…"
        )
    if (kind := kind_of(name)) in GRAPHS and (fits := graph_part(kind, content)) != name:
        raise BundleError(f"part {name} of {source} holds a graph of the other format; {fits} is the name for it")


def _input(table: dict[str, Any], source: str) -> tuple[int, _Triple, _Triple]:
    size = _size(table, "input", source)
    mean, std = (_triple(_need(table, key, list, source), key, source) for key in ("mean", "std"))
    if min(std) <= 0:
        raise BundleError(f"manifest key input.std of {source} is {list(std)}; it must be greater than 0")
    return size, mean, std


def _size(table: dict[str, Any], key: str, source: str) -> int:
    size: int = _need(table, "size", int, source)
    if not 8 <= size <= 4096:
        raise BundleError(f"manifest key {key}.size of {source} is {size}; it must be 8 to 4096 pixels")
    return size


def _cell_centre(value: Any, source: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        raise BundleError(f"manifest key input.cell_centre of {source} is {value!r}; it must be a number from 0 to 1")
    return float(value)


def _triple(values: list[Any], key: str, source: str) -> _Triple:
    numbers = [float(v) for v in values if isinstance(v, int | float) and abs(v) < 1e6]
    if len(values) != 3 or len(numbers) != 3:
        raise BundleError(f"manifest key input.{key} of {source} is {values}; it must be 3 finite numbers")
    return numbers[0], numbers[1], numbers[2]
