# SPDX-License-Identifier: Apache-2.0
"""The bundle, one file with everything that the runtime needs: write, open, verify."""

from __future__ import annotations

import hashlib
import importlib.resources
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

from .archive import MANIFEST, check_seal, pack, unpack
from .errors import BundleError
from .files import write_whole
from .manifest import Manifest, Precision, check_part, graph_part, kind_of, read_manifest, write_manifest
from .topology import Topology

__all__ = ["MAX_BYTES", "SHIPPED", "Bundle", "shipped_file", "write_bundle"]

#: Largest file that is read, bytes: room for two stages of ResNet-50 encoders in float32 (some 600 MB).
MAX_BYTES = 1 << 30
#: File of the default network by precision.
SHIPPED = {"fp32": "hand.cmr", "int8": "hand_int8.cmr"}


@dataclass(frozen=True)
class Bundle:
    """A verified bundle, in memory.

    Attributes
    ----------
    source : str
        Where it was read from, for messages.
    name, licence : str
        Of the model, as its maker states them.
    provenance : dict of str
        Where weights and hand model come from.
    input_size : int
        Side S of the network's square input, pixels.
    mean, std : tuple of 3 float
        Normalisation per channel (RGB): ``(rgb / 255 − mean) / std``.
    root_joint : int
        The joint that is the mesh's origin.
    topology : Topology
        Template, triangles, joint regressor.
    prior, mesh : bytes
        The two graphs, each in ONNX or ORT format.
    licence_text : str
        Terms of weights and hand model.
    architecture : str
        Of the networks, as the exporter names it; empty where it is not stated.
    precision : {"fp32", "fp16", "int8"}
        In which the weights are stored; inputs and outputs are float32.
    cell_centre : float
        Where in its cell the peak of a heat map lies, in cells, 0 to 1; see `cmr_runtime.heatmaps.decode`.
    detector : bytes or None
        A graph that finds hands in a whole image, see `cmr_runtime.detect`; in ONNX or ORT format.
    detector_size : int or None
        Side of its square input, pixels.
    shallow : bytes or None
        The first layers of the prior alone, see `cmr_runtime.recall`; in ONNX or ORT format.
    plan : bytes or None
        How the compiled core runs the graphs, see `cmr_runtime.plan`; JSON.
    bits : {8, 16, 32}
        Of the products of the stages, where the compiled core makes them; 32 are floats. A matter of running it, which
        no file has: see `cmr_runtime.precision`.
    """

    source: str
    name: str
    licence: str
    provenance: dict[str, str]
    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    root_joint: int
    topology: Topology = field(repr=False)
    prior: bytes = field(repr=False)
    mesh: bytes = field(repr=False)
    licence_text: str = field(repr=False)
    architecture: str = ""
    precision: Precision = "fp32"
    cell_centre: float = 0.5
    detector: bytes | None = field(default=None, repr=False)
    detector_size: int | None = None
    shallow: bytes | None = field(default=None, repr=False)
    plan: bytes | None = field(default=None, repr=False)
    bits: Literal[8, 16, 32] = 32

    @property
    def run_in(self) -> str:
        """The precision in which it is run: "int8" or "int16" if `bits` says so, else that of the weights."""
        return self.precision if self.bits == 32 else f"int{self.bits}"

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Bundle:
        """Read a bundle and verify all of it before anything in it is used.

        Raises
        ------
        BundleError
            The file is absent, no bundle, too large, of another schema, incomplete, or changed since it was written.
        """
        path = Path(path)
        try:
            size = path.stat().st_size
            if size > MAX_BYTES:
                raise BundleError(f"{path.name} has {size} bytes; a bundle has at most {MAX_BYTES}")
            data = path.read_bytes()
        except FileNotFoundError:
            raise BundleError(f"no bundle at {path}; make one with `cmr-export --ckpt MODEL.pt --out {path}`") from None
        except OSError as error:
            raise BundleError(f"bundle {path} cannot be read: {error}") from error
        return cls.from_bytes(data, path.name)

    @classmethod
    def default(cls, precision: str = "fp32") -> Bundle:
        """Open the bundle that comes with the package, in one of the precisions in `SHIPPED`.

        Raises `BundleError` as `shipped_file` does.
        """
        file = shipped_file(precision)
        return cls.from_bytes(file.read_bytes(), file.name)

    @classmethod
    def from_bytes(cls, data: bytes, source: str) -> Bundle:
        """Verify the content of a bundle file; `source` names it in messages. Raises `BundleError` as `open` does."""
        if len(data) > MAX_BYTES:
            raise BundleError(f"{source} has {len(data)} bytes; a bundle has at most {MAX_BYTES}")
        parts = unpack(data, source)
        manifest = read_manifest(parts.pop(MANIFEST), source)
        for name, content in parts.items():
            check_part(name, content, manifest, source)
        check_seal(data, source)
        by_kind = {kind_of(name): content for name, content in parts.items()}
        try:
            licence_text = by_kind["LICENSE"].decode("utf-8")
        except UnicodeDecodeError:
            raise BundleError(f"part LICENSE.txt of {source} is not UTF-8 text; export it again") from None
        topology = Topology.from_npz(by_kind["topology"])
        if manifest.root_joint >= topology.joints:
            raise BundleError(
                f"manifest key root_joint of {source} is {manifest.root_joint}; a joint is 0 to {topology.joints - 1}"
            )
        return cls(
            source=source,
            name=manifest.name,
            licence=manifest.licence,
            provenance=manifest.provenance,
            input_size=manifest.input_size,
            mean=manifest.mean,
            std=manifest.std,
            root_joint=manifest.root_joint,
            topology=topology,
            prior=by_kind["prior"],
            mesh=by_kind["mesh"],
            licence_text=licence_text,
            architecture=manifest.architecture,
            precision=manifest.precision,
            cell_centre=manifest.cell_centre,
            detector=by_kind.get("detector"),
            detector_size=manifest.detector_size,
            shallow=by_kind.get("shallow"),
            plan=by_kind.get("plan"),
        )


def shipped_file(precision: str) -> Traversable:
    """Return the file of the bundle that comes with the package, in one of the precisions in `SHIPPED`.

    Raises
    ------
    BundleError
        This copy of the package holds none (a source tree before its first export), or not in this precision.
    """
    if precision not in SHIPPED:
        raise BundleError(
            f"the package comes in {' and '.join(SHIPPED)}, not in {precision!r}; "
            "make such a bundle with `cmr-export --precision`"
        )
    name = SHIPPED[precision]
    file = importlib.resources.files("cmr_runtime.data").joinpath(name)
    if not file.is_file():
        raise BundleError(
            "this copy of cmr_runtime holds no default bundle; make it with "
            f"`cmr-export --ckpt MODEL.pt --precision {precision} --out cmr_runtime/data/{name}`, "
            "or name a bundle of your own"
        )
    return file


def write_bundle(
    path: str | os.PathLike[str],
    *,
    prior: bytes,
    mesh: bytes,
    topology: Topology,
    licence_text: str,
    name: str,
    licence: str,
    provenance: Mapping[str, str],
    input_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    root_joint: int = 9,
    architecture: str = "",
    precision: Precision = "fp32",
    cell_centre: float = 0.5,
    detector: bytes | None = None,
    detector_size: int | None = None,
    shallow: bytes | None = None,
    plan: bytes | None = None,
) -> Bundle:
    """Write a bundle, verified before it replaces what was at `path`; the same content gives the same bytes.

    Parameters
    ----------
    path : path
        File to write; its folder exists. A reader sees the old file or the new one, never a part.
    prior, mesh : bytes
        The graphs, each in ONNX or ORT format; ARCHITECTURE.md lists their inputs and outputs.
    topology : Topology
        Mesh of the right hand.
    licence_text : str
        Terms of weights and hand model.
    name, licence, provenance, input_size, mean, std, root_joint, architecture, precision, cell_centre
        As in `Bundle`.
    detector, detector_size
        As in `Bundle`; both or neither.
    shallow, plan
        As in `Bundle`.

    Returns
    -------
    Bundle
        What a reader of the file gets.

    Raises
    ------
    BundleError
        The content is not a valid bundle; nothing is written.
    """
    path = Path(path)
    if (detector is None) != (detector_size is None):
        raise BundleError(f"detector_size of {path.name} is {detector_size}; give it with a detector, and only then")
    parts = {
        graph_part("prior", prior): prior,
        graph_part("mesh", mesh): mesh,
        **({} if shallow is None else {graph_part("shallow", shallow): shallow}),
        **({} if detector is None else {graph_part("detector", detector): detector}),
        **({} if plan is None else {"plan.json": plan}),
        "topology.npz": topology.to_npz(),
        "LICENSE.txt": licence_text.encode("utf-8"),
    }
    manifest = Manifest(
        name=name,
        licence=licence,
        provenance=dict(provenance),
        input_size=int(input_size),
        mean=_triple(mean),
        std=_triple(std),
        root_joint=int(root_joint),
        architecture=architecture,
        precision=precision,
        cell_centre=float(cell_centre),
        detector_size=None if detector_size is None else int(detector_size),
        parts={key: (len(value), hashlib.sha256(value).hexdigest()) for key, value in parts.items()},
    )
    text = write_manifest(manifest)
    data = pack({MANIFEST: text, **parts})
    bundle = Bundle.from_bytes(data, path.name)
    write_whole(path, data, "bundle", durable=True)
    return bundle


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
