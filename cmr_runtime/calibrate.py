# SPDX-License-Identifier: Apache-2.0
"""`cmr-calibrate`: a camera's intrinsics from a checkerboard held before it in many ways.

The size of the squares does not matter: it is the board's distance that depends on it, not the intrinsics.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from .arguments import check_whole
from .camera import DISTORTED, Camera
from .command import command
from .errors import CmrError, InputError
from .files import write_whole
from .image_io import read_image
from .options import up_to
from .progress import Progress
from .sources import Video, expand, is_still, quiet

__all__ = ["Calibration", "calibrate", "diverse", "find_board", "main"]

_Array = npt.NDArray[np.float64]
_Image = npt.NDArray[np.uint8]

#: Fewest views of the board; three determine the intrinsics, more average out the errors of the corners.
MIN_VIEWS = 6
#: Most views that may be asked for.
_MAX_VIEWS = 1000
#: Frames of a video that are searched for the board, spread evenly; most of them show what others show too.
_FRAMES = 150
#: Root mean square error of a sound calibration, pixels.
_SOUND = 1.0


@dataclass(frozen=True)
class Calibration:
    """Result: the camera, and how far to trust it.

    Attributes
    ----------
    camera : Camera
        Intrinsics of the images.
    distortion : tuple of 4 float
        k1, k2, p1, p2 of OpenCV's model.
    rms_px : float
        Root mean square distance of corners seen and projected, pixels.
    focal_sigma : float
        Standard deviation of the focal length, as a share of it.
    displacement_px : float
        Largest displacement by the lens within the image, pixels.
    views : int
        Views of the board that were used.
    """

    camera: Camera
    distortion: tuple[float, float, float, float]
    rms_px: float
    focal_sigma: float
    displacement_px: float
    views: int


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run `cmr-calibrate`; returns the exit code: 0, 2 after an error."""
    options = _parser().parse_args(arguments)
    quiet()
    try:
        board = _parse_board(options.board)
        most = check_whole("--views", options.views, MIN_VIEWS, _MAX_VIEWS)
        found, size = _search(options.input, board)
        result = calibrate(found, board, size, most)
        record = {**asdict(result.camera), **{k: v for k, v in asdict(result).items() if k != "camera"}}
        write_whole(options.out, (json.dumps(record, indent=1) + "\n").encode("utf-8"), "camera")
    except (CmrError, OSError) as error:
        print(f"cmr-calibrate: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    _tell(result, len(found), options.out)
    return 0


def find_board(image: _Image, board: tuple[int, int]) -> _Array | None:
    """Inner corners of a checkerboard in an image, (rows·columns, 2) pixels, or None if not all are seen.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB.
    board : (columns, rows)
        Numbers of inner corners.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    found, corners = cv2.findChessboardCornersSB(grey, board, flags=cv2.CALIB_CB_NORMALIZE_IMAGE)
    if not found:
        return None
    points: _Array = corners.reshape(-1, 2).astype(np.float64)
    # A board turned upside down looks the same: one order for both, so that views can be compared.
    return points if points[0].sum() <= points[-1].sum() else points[::-1].copy()


def diverse(views: Sequence[_Array], count: int) -> list[int]:
    """Numbers of the views that differ most in place, size and slant: each the farthest from those taken before.

    Parameters
    ----------
    views : sequence of (N, 2) array
        Corners of the board, pixels, in the same order in each.
    count : int
        How many to take; all if there are no more.
    """
    outlines = np.array(views).reshape(len(views), -1)
    taken = [int(np.linalg.norm(outlines - outlines.mean(axis=0), axis=1).argmin())]
    gaps = np.linalg.norm(outlines - outlines[taken[0]], axis=1)
    while len(taken) < min(count, len(views)):
        taken.append(int(gaps.argmax()))
        gaps = np.minimum(gaps, np.linalg.norm(outlines - outlines[taken[-1]], axis=1))
    return sorted(taken)


def calibrate(views: Sequence[_Array], board: tuple[int, int], size: tuple[int, int], most: int = 30) -> Calibration:
    """Intrinsics from views of a checkerboard.

    Parameters
    ----------
    views : sequence of (rows·columns, 2) array
        Corners, as `find_board` gives them.
    board : (columns, rows)
        Numbers of inner corners.
    size : (width, height)
        Of the images, pixels.
    most : int
        Views that are used, the most diverse ones.

    Raises
    ------
    InputError
        Fewer than six views, or views that do not determine a camera.
    """
    if len(views) < MIN_VIEWS:
        raise InputError(
            f"the board of {board[0]}×{board[1]} inner corners is seen in {len(views)} images; at least {MIN_VIEWS} "
            "are needed. Show all of it, flat and sharp, and count the corners where four squares meet"
        )
    chosen = [views[number].astype(np.float32) for number in diverse(views, most)]
    grid = np.zeros((board[0] * board[1], 3), np.float32)
    grid[:, :2] = np.mgrid[: board[0], : board[1]].T.reshape(-1, 2)
    try:
        # A third radial coefficient is only for fish-eyes, and makes the rest less sure.
        rms, matrix, distortion, _, _, spread, _, _ = cv2.calibrateCameraExtended(
            [grid] * len(chosen), chosen, size, np.eye(3), np.zeros(5), flags=cv2.CALIB_FIX_K3
        )
        camera = Camera.from_matrix(matrix, *size)
    except (cv2.error, CmrError) as error:
        raise InputError(f"the views do not determine a camera ({error}); tilt the board more") from None
    if not (np.isfinite(rms) and np.isfinite(spread).all() and spread[0, 0] > 0):
        raise InputError("the views do not determine a camera; tilt the board, and move it to all corners of the image")
    k1, k2, p1, p2 = (float(value) for value in distortion.ravel()[:4])
    return Calibration(
        camera=camera,
        distortion=(k1, k2, p1, p2),
        rms_px=float(rms),
        focal_sigma=float(spread[0, 0] / camera.fx),
        displacement_px=_displacement(camera, np.asarray(distortion, dtype=np.float64)),
        views=len(chosen),
    )


def _displacement(camera: Camera, distortion: _Array) -> float:
    """Largest distance, within the image, of a pixel with and without the lens's distortion."""
    x, y = np.meshgrid(np.linspace(0, camera.width - 1, 17), np.linspace(0, camera.height - 1, 17))
    seen = np.stack([x, y], axis=-1).reshape(-1, 1, 2)
    straight = cv2.undistortPoints(seen, camera.matrix, distortion, P=camera.matrix)
    return float(np.linalg.norm(straight - seen, axis=2).max())


def _search(inputs: Sequence[str], board: tuple[int, int]) -> tuple[list[_Array], tuple[int, int]]:
    """Find the board in images and videos, which must be of one size."""
    found: list[_Array] = []
    size: tuple[int, int] | None = None
    with Progress("images", None) as progress:
        for name, image in _images(inputs):
            now = image.shape[1], image.shape[0]
            size = size or now
            if now != size:
                raise InputError(
                    f"{name} has {now[0]}×{now[1]} pixels, the first image {size[0]}×{size[1]}; give one size"
                )
            corners = find_board(image, board)
            if corners is not None:
                found.append(corners)
            progress.step()
    assert size is not None  # an input without an image has raised
    return found, size


def _images(inputs: Sequence[str]) -> Iterator[tuple[str, _Image]]:
    """Images, and frames of videos: of a video file evenly spread ones, of a webcam the first."""
    for source in (source for text in inputs for source in expand(text)):
        if isinstance(source, Path) and is_still(source):
            yield str(source), read_image(source)
            continue
        with Video(source) as video:
            step = 5 if video.count is None else max(1, math.ceil(video.count / _FRAMES))
            for number, frame in enumerate(video):
                if number >= step * _FRAMES:
                    break
                if number % step == 0:
                    yield f"frame {number} of {source}", frame.image


def _tell(result: Calibration, found: int, out: str) -> None:
    camera = result.camera
    print(f"{result.views} views, the most diverse of {found} in which the board is seen")
    print(f"fx {camera.fx:.1f}  fy {camera.fy:.1f}  cx {camera.cx:.1f}  cy {camera.cy:.1f}  pixels", end=", ")
    print(f"of {camera.width}×{camera.height}; focal length known to {100 * result.focal_sigma:.2f} %")
    print(f"reprojection error {result.rms_px:.2f} pixels (root mean square); written to {out}")
    if result.rms_px > _SOUND:
        print(
            f"warning: an error above {_SOUND:g} pixel tells of a bent board, blur, or a wrong --board", file=sys.stderr
        )
    if result.displacement_px > DISTORTED * camera.width:
        print(
            f"warning: the lens moves points by up to {result.displacement_px:.1f} pixels, and cmr-runtime takes "
            "images for undistorted; straighten them first: cv2.undistort(image, K, distortion), numbers as written",
            file=sys.stderr,
        )


def _parse_board(text: str) -> tuple[int, int]:
    """Numbers of inner corners from ``9x6``."""
    try:
        columns, rows = (int(number) for number in text.lower().split("x"))
    except ValueError:
        columns = rows = 0
    if not (3 <= columns <= 50 and 3 <= rows <= 50):
        raise InputError(f"--board is {text!r}; give the inner corners, columns x rows from 3 to 50, for instance 9x6")
    return columns, rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cmr-calibrate",
        description="Measure a camera with a checkerboard: film it from many sides, near and far, tilted, and in all "
        "corners of the image. The size of its squares does not matter.",
    )
    parser.add_argument("input", nargs="+", metavar="INPUT", help="video, images, folder, number of a webcam, or -")
    parser.add_argument("--board", required=True, metavar="CxR", help="inner corners, columns x rows, for instance 9x6")
    parser.add_argument("--out", default="camera.json", metavar="FILE", help="camera to write (default camera.json)")
    parser.add_argument(
        "--views", type=up_to(_MAX_VIEWS), default=30, metavar="N", help="most views that are used (default 30)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
