# SPDX-License-Identifier: Apache-2.0
"""Files written as a whole: a reader, or whoever presses Ctrl-C, finds the old file or the new one, never a part."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

__all__ = ["write_error", "write_whole"]


def write_whole(path: str | os.PathLike[str], data: bytes, what: str, durable: bool = False) -> None:
    """Write a file under a temporary name beside it, then give it its own.

    Parameters
    ----------
    path : path
        File to write; its folder exists.
    data : bytes
        All of it.
    what : str
        What it is, for the message.
    durable : bool
        Whether the data is on the disk, too, before it takes the old file's place.

    Raises
    ------
    OSError
        The disk is full, the folder is absent or may not be written to; the message names the file and the reason.
    """
    path = Path(path)
    temporary = path.parent / f".{path.name}.{secrets.token_urlsafe(6)}"
    try:
        with open(temporary, "xb") as file:  # with the rights that the user's umask leaves
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise write_error(what, path, error) from error
        raise


def write_error(what: str, path: str | os.PathLike[str], error: OSError) -> OSError:
    """Return an error of one clear line: what could not be written, where, and why."""
    return OSError(f"{what} {os.fspath(path)} cannot be written: {error.strerror or error}")
