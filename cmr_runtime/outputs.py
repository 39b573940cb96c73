# SPDX-License-Identifier: Apache-2.0
"""The files that `cmr-track` writes: overlays, meshes, JSON lines, and arrays of the whole run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import numpy.typing as npt

from .draw import draw_hands
from .errors import InputError
from .files import write_error
from .image_io import write_image
from .mesh_io import JsonLines
from .results import Hand
from .sequence import HandSequence

__all__ = ["Outputs", "OverlayVideo"]

_Image = npt.NDArray[np.uint8]


class OverlayVideo:
    """An MP4 file of frames, begun with the first one.

    Parameters
    ----------
    path : path
        File to write.
    rate : float
        Frames per second.

    Raises
    ------
    InputError
        While writing: a frame is not of the first one's size.
    OSError
        While writing or at the end: the file cannot be begun, or is not whole, as on a full disk.
    """

    def __init__(self, path: str | os.PathLike[str], rate: float) -> None:
        self._path, self._rate = Path(path), rate
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def __enter__(self) -> OverlayVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        written = self._writer is not None
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        # OpenCV keeps silent about what it could not write; a file without an end cannot be opened.
        if written and not (isinstance(error, OSError) or cv2.VideoCapture(str(self._path)).isOpened()):
            raise OSError(f"video {self._path} could not be written to its end; is the disk full?")

    def write(self, image: _Image) -> None:
        """Append a frame, (H, W, 3) uint8 RGB, of the first one's size."""
        size = (image.shape[1], image.shape[0])
        if self._writer is None:
            self._size = size
            self._writer = cv2.VideoWriter(str(self._path), cv2.VideoWriter.fourcc(*"mp4v"), self._rate, size)
            if not self._writer.isOpened():
                self._writer = None
                raise OSError(f"video {self._path} cannot be written: no encoder for mp4v, or no room")
        if size != self._size:  # OpenCV would leave the frame out
            raise InputError(
                f"video {self._path} has frames of {self._size[0]}×{self._size[1]} pixels, this one has "
                f"{size[0]}×{size[1]}; give one size"
            )
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


class Outputs:
    """The folder of a run and the files in it.

    Parameters
    ----------
    folder : path
        Made if absent.
    mesh_format : {"ply", "obj", "glb"}
        Of the meshes.
    npz : bool
        Whether the arrays of the whole run are written, when it ends and however it ends.
    vertices : bool
        Whether meshes of frames are wanted, and vertices among the arrays.

    Raises
    ------
    OSError
        Here or later: a file cannot be written.
    """

    def __init__(
        self, folder: str | os.PathLike[str], mesh_format: str = "ply", npz: bool = False, vertices: bool = False
    ) -> None:
        self.folder = Path(folder)
        self._form, self._vertices = mesh_format, vertices
        self._sequence = HandSequence(vertices) if npz else None
        self._taken: set[str] = set()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"{write_error('--out', self.folder, error)}; give a folder, or a free name for one"
            ) from error
        self._lines = JsonLines(self.folder / "hands.jsonl")

    def __enter__(self) -> Outputs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        if self._sequence is not None:
            self._sequence.save(self.folder / "hands.npz")

    def name(self, stem: str) -> str:
        """Name for the files of an input; a second input of the same name gets a number."""
        name, number = stem, 2
        while name in self._taken:
            name, number = f"{stem}_{number}", number + 1
        self._taken.add(name)
        return name

    def image(self, path: Path, image: _Image, hands: Sequence[Hand], camera_from: str) -> None:
        """Write what was found in an image."""
        name = self.name(path.stem)
        write_image(self.folder / f"{name}_overlay.png", draw_hands(image, hands))
        self._meshes(name, hands)
        self._record(str(path), None, None, hands, camera_from)

    def video(self, name: str, rate: float) -> OverlayVideo:
        """Begin the overlay of a video."""
        return OverlayVideo(self.folder / f"{name}_overlay.mp4", rate)

    def frame(
        self, name: str, source: str, number: int, seconds: float, hands: Sequence[Hand], camera_from: str
    ) -> None:
        """Write what was found in a frame, except for the overlay."""
        if self._vertices:
            self._meshes(f"{name}_{number:06d}", hands)
        self._record(source, number, seconds, hands, camera_from)

    def _meshes(self, name: str, hands: Sequence[Hand]) -> None:
        for number, hand in enumerate(hands):
            hand.to_mesh(self.folder / f"{name}_hand{number}.{self._form}")

    def _record(
        self, source: str, frame: int | None, seconds: float | None, hands: Sequence[Hand], camera_from: str
    ) -> None:
        record = {"source": source, "frame": frame, "timestamp_s": seconds, "camera_from": camera_from}
        self._lines.write(record | {"hands": [hand.to_dict() for hand in hands]})
        if self._sequence is not None:
            self._sequence.add(hands, source, frame, seconds)
