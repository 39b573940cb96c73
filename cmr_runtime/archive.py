# SPDX-License-Identifier: Apache-2.0
"""The archive that a bundle is: a ZIP file, stored, whose comment seals it.

The seal is ``sha256:`` and the SHA-256 of every byte before the comment. The manifest's hashes name the part that
changed; the seal covers the rest (the manifest and the archive's own tables).
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from collections.abc import Mapping

from .errors import BundleError
from .manifest import OPTIONAL, PARTS

__all__ = ["MANIFEST", "check_seal", "pack", "seal", "unpack"]

#: Part that describes the others.
MANIFEST = "manifest.json"

_SEAL = b"sha256:"
_SEALED = len(_SEAL) + 2 * hashlib.sha256().digest_size


def pack(parts: Mapping[str, bytes]) -> bytes:
    """Sealed archive, stored, with fixed times."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = bytes(_SEALED)  # room for the seal
        for name, content in parts.items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)
    with buffer.getbuffer() as data:  # in place: networks may take hundreds of megabytes
        data[-_SEALED:] = seal(data)
    return buffer.getvalue()


def check_seal(data: bytes, source: str) -> None:
    """Refuse an archive whose seal does not fit (raises `BundleError`)."""
    if data[-_SEALED:] != seal(data):
        raise BundleError(f"{source} is changed: its seal does not fit its content; copy or export it again")


def seal(data: bytes | memoryview) -> bytes:
    """Seal that fits an archive, in the place of its last `_SEALED` bytes."""
    return _SEAL + hashlib.sha256(memoryview(data)[:-_SEALED]).hexdigest().encode("ascii")


def unpack(data: bytes, source: str) -> dict[str, bytes]:
    """Content by name, after names, sizes and storage of the archive are checked; raises `BundleError`."""
    known = {MANIFEST: MANIFEST} | {name: names[0] for names in PARTS.values() for name in names}
    optional = {PARTS[kind][0] for kind in OPTIONAL}
    at = "its table of contents"
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            for entry in entries:
                if entry.filename not in known:
                    raise BundleError(
                        f"{source} holds the unexpected part {entry.filename!r}; a bundle holds {sorted(known)}"
                    )
            slots = [known[entry.filename] for entry in entries]
            for slot in sorted({*known.values()}):
                if slots.count(slot) > 1:
                    raise BundleError(f"{source} holds part {slot} more than once; export it again")
                if slot not in slots and slot not in optional:
                    raise BundleError(f"{source} lacks part {slot}; export it again")
            parts, room = {}, len(data)
            for entry in entries:
                at = entry.filename
                if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                    raise BundleError(f"part {at} of {source} is compressed; a bundle is stored")
                room -= entry.file_size
                if room < 0:
                    raise BundleError(
                        f"part {at} of {source} declares {entry.file_size} bytes; all parts have {len(data)}"
                    )
                parts[at] = archive.read(entry)
    except (zipfile.BadZipFile, struct.error) as error:
        if at == "its table of contents":
            raise BundleError(f"{source} is no bundle, or is cut short ({error})") from error
        raise BundleError(f"part {at} of {source} is changed: {error}; copy or export it again") from error
    except (ValueError, OSError, EOFError, NotImplementedError, RuntimeError, OverflowError) as error:
        raise BundleError(f"{source} is changed at {at}: {error}; copy or export it again") from error
    return parts
