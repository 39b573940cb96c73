# SPDX-License-Identifier: Apache-2.0
"""The bundle, one file with everything that the runtime needs: write, open, verify.

A ZIP archive, stored, whose comment seals it: ``sha256:`` and the SHA-256 of every byte before the comment. The
manifest's hashes name the part that changed; the seal covers the rest (the manifest and the archive's own tables).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.resources
import io
import os
import struct
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .errors import BundleError
from .manifest import PARTS, Manifest, check_part, read_manifest, write_manifest
from .topology import Topology

__all__ = ["MAX_BYTES", "Bundle", "write_bundle"]

#: Largest file that is read, bytes.
MAX_BYTES = 256 << 20

_MANIFEST = "manifest.json"
_SEAL = b"sha256:"


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
        The two ONNX graphs.
    licence_text : str
        Terms of weights and hand model.
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
    def default(cls) -> Bundle:
        """Open the bundle that comes with the package.

        Raises
        ------
        BundleError
            This copy of the package holds none (a source tree before its first export).
        """
        resource = importlib.resources.files("cmr_runtime.data").joinpath("hand.cmr")
        if not resource.is_file():
            raise BundleError(
                "this copy of cmr_runtime holds no default bundle; make it with "
                "`cmr-export --ckpt MODEL.pt --out cmr_runtime/data/hand.cmr`, or name a bundle of your own"
            )
        return cls.from_bytes(resource.read_bytes(), "hand.cmr")

    @classmethod
    def from_bytes(cls, data: bytes, source: str) -> Bundle:
        """Verify the content of a bundle file; `source` names it in messages. Raises `BundleError` as `open` does."""
        if len(data) > MAX_BYTES:
            raise BundleError(f"{source} has {len(data)} bytes; a bundle has at most {MAX_BYTES}")
        parts = _unpack(data, source)
        manifest = read_manifest(parts.pop(_MANIFEST), source)
        for name, content in parts.items():
            check_part(name, content, manifest, source)
        _check_seal(data, source)
        try:
            licence_text = parts["LICENSE.txt"].decode("utf-8")
        except UnicodeDecodeError:
            raise BundleError(f"part LICENSE.txt of {source} is not UTF-8 text; export it again") from None
        return cls(
            source=source,
            name=manifest.name,
            licence=manifest.licence,
            provenance=manifest.provenance,
            input_size=manifest.input_size,
            mean=manifest.mean,
            std=manifest.std,
            root_joint=manifest.root_joint,
            topology=Topology.from_npz(parts["topology.npz"]),
            prior=parts["prior.onnx"],
            mesh=parts["mesh.onnx"],
            licence_text=licence_text,
        )


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
) -> Bundle:
    """Write a bundle, verified before it replaces what was at `path`; the same content gives the same bytes.

    Parameters
    ----------
    path : path
        File to write; its folder exists. A reader sees the old file or the new one, never a part.
    prior, mesh : bytes
        The ONNX graphs.
    topology : Topology
        Mesh of the right hand.
    licence_text : str
        Terms of weights and hand model.
    name, licence, provenance, input_size, mean, std, root_joint
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
    content = (prior, mesh, topology.to_npz(), licence_text.encode("utf-8"))
    parts = dict(zip(PARTS, content, strict=True))
    manifest = Manifest(
        name=name,
        licence=licence,
        provenance=dict(provenance),
        input_size=int(input_size),
        mean=_triple(mean),
        std=_triple(std),
        root_joint=int(root_joint),
        parts={key: (len(value), hashlib.sha256(value).hexdigest()) for key, value in parts.items()},
    )
    text = write_manifest(manifest)
    data = _seal(_pack({_MANIFEST: text, **parts}))
    bundle = Bundle.from_bytes(data, path.name)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return bundle


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _pack(parts: Mapping[str, bytes]) -> bytes:
    """Archive in memory, stored, with fixed times, and room for the seal as its comment."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = _SEAL + b"0" * 64
        for name, content in parts.items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def _seal(data: bytes) -> bytes:
    body = data[: -len(_SEAL) - 64]
    return body + _SEAL + hashlib.sha256(body).hexdigest().encode("ascii")


def _check_seal(data: bytes, source: str) -> None:
    if _seal(data) != data:
        raise BundleError(f"{source} is changed: its seal does not fit its content; copy or export it again")


def _unpack(data: bytes, source: str) -> dict[str, bytes]:
    """Names, sizes and storage of the archive checked, then its content."""
    wanted = {_MANIFEST, *PARTS}
    at = "its table of contents"
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            for name in names:
                if name not in wanted:
                    raise BundleError(f"{source} holds the unexpected part {name!r}; a bundle holds {sorted(wanted)}")
                if names.count(name) > 1:
                    raise BundleError(f"{source} holds part {name} more than once; export it again")
            if missing := sorted(wanted.difference(names)):
                raise BundleError(f"{source} lacks part {missing[0]}; export it again")
            parts = {}
            for entry in entries:
                at = entry.filename
                if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                    raise BundleError(f"part {at} of {source} is compressed; a bundle is stored")
                if entry.file_size > len(data):
                    raise BundleError(
                        f"part {at} of {source} declares {entry.file_size} bytes; the file has {len(data)}"
                    )
                parts[at] = archive.read(entry)
    except (zipfile.BadZipFile, struct.error) as error:
        if at == "its table of contents":
            raise BundleError(f"{source} is no bundle, or is cut short ({error})") from error
        raise BundleError(f"part {at} of {source} is changed: {error}; copy or export it again") from error
    except (ValueError, OSError, EOFError, NotImplementedError, RuntimeError, OverflowError) as error:
        raise BundleError(f"{source} is changed at {at}: {error}; copy or export it again") from error
    return parts
