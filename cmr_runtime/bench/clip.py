# SPDX-License-Identifier: Apache-2.0
"""The frames that all contestants see: decoded and scaled beforehand, into one file that each reads from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..files import write_error
from ..image_io import read_image
from ..sources import Source, Video, expand, is_still, quiet

__all__ = ["Clip", "prepare"]

_Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Clip:
    """Frames in a file: RGB, uint8, one after the other.

    Attributes
    ----------
    path : Path
        The file.
    name : str
        Of the source.
    width, height : int
        Pixels.
    rate : float
        Frames a second.
    frames : int
        How many are shown in a pass; those of the file are shown again and again.
    still : bool
        Whether the source is a single image.
    """

    path: Path
    name: str
    width: int
    height: int
    rate: float
    frames: int
    still: bool


def prepare(text: str, folder: Path, size: tuple[int, int], most: int) -> Clip:
    """Decode a source.

    Parameters
    ----------
    text : str
        Path of an image or video, or the number of a webcam.
    folder : Path
        Where the file is written.
    size : (int, int)
        Width and height, pixels, into which frames are fitted; they keep their shape.
    most : int
        Most frames; of an image, how often it is shown.

    Raises
    ------
    InputError
        The source is none, is several, or cannot be read.
    OSError
        The frames cannot be written.
    """
    quiet()
    sources = expand(text)
    if len(sources) != 1:
        raise InputError(f"{text} names {len(sources)} files; give one image, one video or the number of a webcam")
    (source,) = sources
    still, path = is_still(source), folder / "frames.rgb"
    name = source.name if isinstance(source, Path) else f"webcam {source}"
    rate, images = (30.0, iter([read_image(cast(Path, source))])) if still else _video(source)
    shape, count = (0, 0, 0), 0
    try:
        with open(path, "wb") as file:
            for image in islice(images, most):
                fitted = _fit(image, size)
                if count and fitted.shape != shape:
                    raise InputError(f"{name} has frames of several sizes; give a video of one size")
                shape, count = fitted.shape, count + 1
                file.write(fitted.tobytes())
    except OSError as error:
        raise write_error("file of frames", path, error) from error
    return Clip(path, name, shape[1], shape[0], rate, most if still else count, still)


def _video(source: Source) -> tuple[float, Iterator[_Image]]:
    video = Video(source)

    def images() -> Iterator[_Image]:
        with video:
            yield from (frame.image for frame in video)

    return video.rate, images()


def _fit(image: _Image, size: tuple[int, int]) -> _Image:
    """Scale an image so that it just fits into a width and height."""
    height, width = image.shape[:2]
    scale = min(size[0] / width, size[1] / height)
    fitted = (max(1, round(scale * width)), max(1, round(scale * height)))
    if fitted == (width, height):
        return image
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cast("_Image", cv2.resize(image, fitted, interpolation=way))
