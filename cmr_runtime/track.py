# SPDX-License-Identifier: Apache-2.0
"""`cmr-track`: images, folders, videos or a webcam in; overlays, meshes and JSON lines out."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, cast

import cv2
import numpy as np
import numpy.typing as npt

from .arguments import DEFAULT_FOV
from .bundle import Bundle
from .camera import Camera
from .draw import draw_hands
from .errors import CmrError, InputError
from .image_io import IMAGE_SUFFIXES, parse_box, parse_camera, read_image, write_image
from .mesh_io import JsonLines
from .results import Hand
from .tracker import HandMeshTracker

__all__ = ["main"]

_Image = npt.NDArray[np.uint8]
_STAGES = ("crop", "prior", "mesh", "decode", "registration")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `cmr-track`; returns the exit code: 0, 2 after errors (a line each), 130 after Ctrl-C (files are whole)."""
    options = _parser().parse_args(arguments)
    # OpenCV and FFmpeg remark on files that they cannot open; our own line says it.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        return _Command(options).run()
    except (CmrError, OSError) as error:
        print(f"cmr-track: {error}", file=sys.stderr)
        return 2


class _Command:
    """One run of the command: its options, its output folder and the times it has taken."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._out = Path(options.out)
        self._taken: set[str] = set()
        self._hands: list[Hand] = []
        self._frame_ms: list[float] = []
        self._found = 0
        self._cameras: dict[tuple[int, int], Camera | None] = {}
        self._failed = 0
        self._warm: set[HandMeshTracker] = set()
        self._boxes = None if options.box is None else [parse_box(options.box)]

    def run(self) -> int:
        sources, several = self._sources()
        if not sources:
            return 2  # each was named already
        bundle = Bundle.default() if self._options.model is None else Bundle.open(self._options.model)
        parse_camera(self._options.camera, self._options.fov, 2, 2)  # refuse bad numbers before anything is written
        self._out.mkdir(parents=True, exist_ok=True)
        stopped = False
        with JsonLines(self._out / "hands.jsonl") as lines, contextlib.ExitStack() as kept:
            stills: HandMeshTracker | None = None  # one for all images
            try:
                for source in sources:
                    if not _is_still(source):
                        with self._tracker(bundle, "video") as tracker, self._tolerate(several):
                            self._video(tracker, source, lines)
                        continue
                    if stills is None:
                        stills = kept.enter_context(self._tracker(bundle, "image"))
                    with self._tolerate(several):
                        self._image(stills, cast("Path", source), lines)
            except KeyboardInterrupt:
                print("stopped; what was written so far is whole", file=sys.stderr)
                stopped = True
        self._report()
        return 130 if stopped else 2 if self._failed else 0

    def _sources(self) -> tuple[list[Path | int], bool]:
        """Return what the inputs name, and whether it is several things: one may then fail without ending the run."""
        inputs: list[str] = self._options.input
        sources: list[Path | int] = []
        for text in inputs:
            with self._tolerate(len(inputs) > 1):
                sources += _expand(text)
        return sources, len(inputs) > 1 or len(sources) > 1

    @contextlib.contextmanager
    def _tolerate(self, several: bool) -> Iterator[None]:
        """Go on after an input that cannot be used, with a line that says so, where it is one of several."""
        try:
            yield
        except InputError as error:
            if not several:
                raise
            print(f"cmr-track: {error}", file=sys.stderr)
            self._failed += 1

    def _tracker(self, bundle: Bundle, mode: Literal["image", "video"]) -> HandMeshTracker:
        options = self._options
        return HandMeshTracker(bundle, mode, options.num_hands, threads=options.threads, side=options.side)

    def _image(self, tracker: HandMeshTracker, path: Path, lines: JsonLines) -> None:
        image = read_image(path)
        hands = self._track(tracker, image, None)
        name = self._name(path.stem)
        write_image(self._out / f"{name}_overlay.png", draw_hands(image, hands))
        self._write(name, str(path), None, None, hands, lines, meshes=True)

    def _video(self, tracker: HandMeshTracker, source: Path | int, lines: JsonLines) -> None:
        name = self._name(f"webcam{source}" if isinstance(source, int) else source.stem)
        writer: cv2.VideoWriter | None = None
        path = self._out / f"{name}_overlay.mp4"
        try:
            for number, (image, seconds, rate) in enumerate(_frames(source)):
                if self._options.max_frames is not None and number >= self._options.max_frames:
                    break
                hands = self._track(tracker, image, seconds)
                if writer is None:
                    size = (image.shape[1], image.shape[0])
                    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
                    if not writer.isOpened():
                        raise InputError(f"video {path} cannot be written: no encoder for mp4v, or no room")
                writer.write(cv2.cvtColor(draw_hands(image, hands), cv2.COLOR_RGB2BGR))
                self._write(name, str(source), number, seconds, hands, lines, meshes=self._options.meshes)
        finally:
            if writer is not None:
                writer.release()

    def _camera(self, width: int, height: int) -> Camera | None:
        """Camera of images of a size; a camera file is read once, not for each frame."""
        if (width, height) not in self._cameras:
            self._cameras[width, height] = parse_camera(self._options.camera, self._options.fov, width, height)
        return self._cameras[width, height]

    def _track(self, tracker: HandMeshTracker, image: _Image, seconds: float | None) -> list[Hand]:
        camera = self._camera(image.shape[1], image.shape[0])
        boxes = self._boxes
        if tracker not in self._warm:
            # The first call of a network allocates and plans: a frame that is not timed takes these costs.
            tracker.track(image, camera, None, boxes)
            tracker.reset()
            if boxes is not None and tracker.mode == "video":
                tracker.follow(boxes)
            self._warm.add(tracker)
        start = time.perf_counter()
        hands = tracker.track(image, camera, seconds, boxes if tracker.mode == "image" else None)
        self._frame_ms.append(1e3 * (time.perf_counter() - start))
        self._found += bool(hands)
        self._hands.extend(hands)
        return hands

    def _write(
        self,
        name: str,
        source: str,
        frame: int | None,
        seconds: float | None,
        hands: Sequence[Hand],
        lines: JsonLines,
        meshes: bool,
    ) -> None:
        record = {"source": source, "frame": frame, "timestamp_s": seconds, "hands": [hand.to_dict() for hand in hands]}
        lines.write(record)
        if meshes:
            place = name if frame is None else f"{name}_{frame:06d}"
            for number, hand in enumerate(hands):
                hand.to_mesh(self._out / f"{place}_hand{number}.ply")

    def _name(self, stem: str) -> str:
        """Name for the files of an input; a second input of the same name gets a number."""
        name, number = stem, 2
        while name in self._taken:
            name, number = f"{stem}_{number}", number + 1
        self._taken.add(name)
        return name

    def _report(self) -> None:
        print(f"{self._found} of {len(self._frame_ms)} images or frames with a hand; results in {self._out}")
        rows = {stage: [getattr(hand.times, stage) for hand in self._hands] for stage in _STAGES}
        rows["hand, all stages"] = [hand.times.total for hand in self._hands]
        rows["frame, with search"] = self._frame_ms
        print(f"{'stage':<20}{'median ms':>12}{'p95 ms':>12}{'count':>8}")
        for stage, times in rows.items():
            if times:
                print(f"{stage:<20}{np.median(times):>12.2f}{np.percentile(times, 95):>12.2f}{len(times):>8}")
        if self._options.camera is None and self._options.fov is None:
            print(
                f"no camera given: a horizontal field of view of {DEFAULT_FOV:g} degrees is assumed and depth is not "
                "metric; give --camera or --fov"
            )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cmr-track",
        description="Track hands in images, folders of images, videos or from a webcam.",
        epilog="Written to DIR: hands.jsonl, one line an image or frame; NAME_overlay.png and NAME_hand0.ply for an "
        "image; NAME_overlay.mp4 for a video or webcam (Ctrl-C ends it).",
    )
    parser.add_argument("input", nargs="+", metavar="INPUT", help="image, folder, video, or number of a webcam")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results; made if absent")
    parser.add_argument("--model", metavar="B", help="bundle; default: the one that comes with the package")
    camera = parser.add_mutually_exclusive_group()
    camera.add_argument("--camera", metavar="FX,FY,CX,CY", help="intrinsics in pixels, or a JSON file with these keys")
    camera.add_argument(
        "--fov",
        type=float,
        metavar="DEG",
        help=f"known horizontal field of view; without it and --camera, {DEFAULT_FOV:g} is assumed and depth is not "
        "metric",
    )
    parser.add_argument(
        "--box",
        metavar="X,Y,W,H",
        help="where the hand is, pixels: in every image; in the first frame of a video, from where it is followed",
    )
    parser.add_argument("--side", choices=("left", "right"), help="of every hand; default: the network judges it")
    parser.add_argument("--num-hands", type=int, default=1, metavar="N", help="most hands in an image (default 1)")
    parser.add_argument("--max-frames", type=int, metavar="N", help="end a video or webcam after N frames")
    parser.add_argument("--meshes", action="store_true", help="a mesh for each frame of a video, too")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads inside a stage (default 1)")
    return parser


def _expand(text: str) -> list[Path | int]:
    """Files or the webcam's number that an input names; a folder stands for the images in it."""
    path = Path(text)
    if path.is_dir():
        images = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not images:
            raise InputError(f"folder {path} holds no images ({', '.join(IMAGE_SUFFIXES)})")
        return list(images)
    if path.is_file():
        return [path]
    if text.isdecimal():
        return [int(text)]
    raise InputError(f"no file or folder {path}; a webcam is given by its number, 0 is the first")


def _is_still(source: Path | int) -> bool:
    return isinstance(source, Path) and source.suffix.lower() in IMAGE_SUFFIXES


def _frames(source: Path | int) -> Iterator[tuple[_Image, float, float]]:
    """Frames of a video file or webcam: RGB, seconds since its start, frames per second to write it with."""
    live = isinstance(source, int)
    capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
    try:
        if not capture.isOpened():
            what = f"webcam {source}" if live else f"video {source}"
            raise InputError(f"{what} cannot be opened; is it there, readable, and not in use?")
        rate = capture.get(cv2.CAP_PROP_FPS)
        rate = rate if 1.0 <= rate <= 1000.0 else 30.0
        start, number = time.monotonic(), 0
        while True:
            more, frame = capture.read()
            if not more:
                break
            seconds = time.monotonic() - start if live else number / rate
            yield cast("_Image", cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)), seconds, rate
            number += 1
        if number == 0:
            raise InputError(f"{source} gives no frame; is it a video that OpenCV reads?")
    finally:
        capture.release()


if __name__ == "__main__":
    sys.exit(main())
