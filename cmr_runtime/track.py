# SPDX-License-Identifier: Apache-2.0
"""`cmr-track`: images, folders, videos or a webcam in; overlays, meshes, JSON lines and arrays out."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Literal, cast
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from .arguments import DEFAULT_FOV
from .bundle import Bundle
from .camera import Camera
from .command import command
from .draw import draw_hands
from .errors import CameraError, CmrError, InputError
from .exif import camera_from_exif
from .image_io import decode_image, read_bytes
from .mesh_io import MESH_FORMATS
from .options import PRECISION, CameraOption, parse_box, up_to
from .outputs import Outputs
from .precision import CHOICES, open_bundle
from .progress import Progress
from .results import Hand, StageTimes
from .session import CPU, MAX_THREADS, check_providers
from .sources import Source, Video, expand, is_still, quiet
from .tracker import MAX_HANDS, HandMeshTracker
from .view3d import HandView

__all__ = ["main"]

_Image = npt.NDArray[np.uint8]
_STAGES = tuple(stage.name for stage in fields(StageTimes))


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run `cmr-track`; returns the exit code: 0, 2 after errors (a line each), 130 after Ctrl-C (files are whole)."""
    options = _parser().parse_args(arguments)
    quiet()
    try:
        return _Command(options).run()
    except (CmrError, OSError) as error:
        print(f"cmr-track: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before the first frame, or while the report is printed
        return 130


class _Command:
    """One run of the command: its options, and the times that it has taken."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._camera = CameraOption(options.camera, options.fov)
        self._boxes = None if options.box is None else [parse_box(options.box)]
        check_providers(options.provider)
        self._times: list[tuple[float, ...]] = []
        self._frame_ms: list[float] = []
        self._cameras: Counter[str] = Counter()  # where each image's camera came from
        self._found = 0
        self._failed = 0
        self._warm: WeakSet[HandMeshTracker] = WeakSet()
        self._view: HandView | None = None

    def run(self) -> int:
        options = self._options
        sources, several = self._sources()
        if not sources:
            return 2  # each was named already
        bundle = open_bundle(options.model, options.precision, options.threads, options.provider)
        stopped = False
        with contextlib.ExitStack() as kept:
            if options.view:
                self._view = kept.enter_context(HandView())
                print(f"3D view: open {self._view.url} in a browser", file=sys.stderr)
            out = kept.enter_context(Outputs(options.out, options.mesh_format, options.npz, options.meshes))
            try:
                self._all(sources, several, bundle, out)
            except KeyboardInterrupt:
                print("stopped; what was written so far is whole", file=sys.stderr)
                stopped = True
            self._report(out)
            if self._view is not None and not stopped:
                with contextlib.suppress(KeyboardInterrupt):  # from the first letter of what it promises on
                    print(f"the last frame stays at {self._view.url}; Ctrl-C ends it", file=sys.stderr)
                    self._view.wait()
        return 130 if stopped else 2 if self._failed else 0

    def _sources(self) -> tuple[list[Source], bool]:
        """Return what the inputs name, and whether it is several things: one may then fail without ending the run."""
        inputs: list[str] = self._options.input
        sources: list[Source] = []
        for text in inputs:
            with self._tolerate(len(inputs) > 1):
                sources += expand(text)
        return sources, len(inputs) > 1 or len(sources) > 1

    @contextlib.contextmanager
    def _tolerate(self, several: bool) -> Iterator[None]:
        """Go on after an input that cannot be used, with a line that says so, where it is one of several."""
        try:
            yield
        except (InputError, CameraError) as error:
            if not several:
                raise
            self._fail(error)

    def _fail(self, why: object) -> None:
        """Say in a line what went wrong, for which the run ends with an error."""
        print(f"cmr-track: {why}", file=sys.stderr)
        self._failed += 1

    def _all(self, sources: Sequence[Source], several: bool, bundle: Bundle, out: Outputs) -> None:
        """Track one source after the other; all images share a tracker, each video has its own."""
        with contextlib.ExitStack() as kept:
            stills: HandMeshTracker | None = None
            progress = kept.enter_context(Progress("images", sum(map(is_still, sources))))
            for source in sources:
                if not is_still(source):
                    with self._tracker(bundle, "video") as tracker, self._tolerate(several):
                        self._video(tracker, source, out)
                    continue
                if stills is None:
                    stills = kept.enter_context(self._tracker(bundle, "image"))
                with self._tolerate(several):
                    self._image(stills, cast("Path", source), out)
                progress.step()

    def _tracker(self, bundle: Bundle, mode: Literal["image", "video"]) -> HandMeshTracker:
        options = self._options
        return HandMeshTracker(
            bundle,
            mode,
            options.num_hands,
            threads=options.threads,
            side=options.side,
            hand_length=options.hand_length,
            providers=options.provider,
        )

    def _image(self, tracker: HandMeshTracker, path: Path, out: Outputs) -> None:
        data = read_bytes(path)
        image = decode_image(data, path)
        camera, origin = self._camera_of(image, path, lambda width, height: camera_from_exif(data, width, height))
        hands = self._track(tracker, image, camera, None)
        self._cameras[origin] += 1
        out.image(path, image, hands, origin)

    def _video(self, tracker: HandMeshTracker, source: Source, out: Outputs) -> None:
        if self._view is not None:
            self._view.forget()
        name = out.name(f"webcam{source}" if isinstance(source, int) else source.stem)
        most = self._options.max_frames
        with Video(source) as video:
            count = most if video.count is None else video.count if most is None else min(most, video.count)
            with Progress(name, count) as progress, out.video(name, video.rate) as overlay:
                for number, (image, seconds) in enumerate(islice(video, most)):
                    camera, origin = self._camera_of(image, source)
                    hands = self._track(tracker, image, camera, seconds)
                    self._cameras[origin] += 1
                    overlay.write(draw_hands(image, hands))
                    out.frame(name, str(source), number, seconds, hands, origin)
                    progress.step()
            if video.lack is not None:
                self._fail(video.lack)

    def _camera_of(
        self, image: _Image, source: Source, exif: Callable[[int, int], Camera | None] | None = None
    ) -> tuple[Camera | None, str]:
        """Camera of an image, and where it comes from: "given", "exif", or "assumed" (None)."""
        height, width = image.shape[:2]
        if self._camera.given:
            try:
                return self._camera(width, height), "given"
            except CameraError as error:
                raise CameraError(f"{source}: {error}") from None
        camera = None if exif is None else exif(width, height)
        return camera, "assumed" if camera is None else "exif"

    def _track(
        self, tracker: HandMeshTracker, image: _Image, camera: Camera | None, seconds: float | None
    ) -> list[Hand]:
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
        self._times += [(*(getattr(hand.times, stage) for stage in _STAGES), hand.times.total) for hand in hands]
        if self._view is not None:
            self._view.show(image, hands, camera)
        return hands

    def _report(self, out: Outputs) -> None:
        print(f"{self._found} of {len(self._frame_ms)} images or frames with a hand; results in {out.folder}")
        names = (*_STAGES, "hand, all stages", "frame, with search")
        print(f"{'stage':<20}{'median ms':>12}{'p95 ms':>12}{'count':>8}")
        for name, times in zip(names, [*zip(*self._times, strict=True)] or [()] * (len(_STAGES) + 1), strict=False):
            _row(name, [time for time in times if time])  # some stages do not run for every hand
        _row(names[-1], self._frame_ms)
        if count := self._cameras["exif"]:
            print(
                f"camera of {count} image{'s' * (count > 1)} from the focal length in the EXIF data: depth is metric "
                "only approximately, and wrong where the image was cut out of the photo; give --camera or --fov"
            )
        if self._cameras["assumed"]:
            print(
                f"no camera given: a horizontal field of view of {DEFAULT_FOV:g} degrees is assumed and depth is not "
                "metric; give --camera or --fov"
            )


def _row(name: str, times: Sequence[float]) -> None:
    if times:
        print(f"{name:<20}{np.median(times):>12.2f}{np.percentile(times, 95):>12.2f}{len(times):>8}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cmr-track",
        description="Track hands in images, folders of images, videos or from a webcam.",
        epilog="Written to DIR: hands.jsonl, one line an image or frame; NAME_overlay.png and NAME_hand0.ply for an "
        "image; NAME_overlay.mp4 for a video or webcam (Ctrl-C ends it).",
    )
    parser.add_argument(
        "input", nargs="+", metavar="INPUT", help="image, folder, video, number of a webcam, or - for a list of files"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results; made if absent")
    parser.add_argument("--model", metavar="B", help="bundle; default: the one that comes with the package")
    camera = parser.add_mutually_exclusive_group()
    camera.add_argument(
        "--camera", metavar="FX,FY,CX,CY", help="intrinsics in pixels, or a JSON file as cmr-calibrate writes it"
    )
    camera.add_argument(
        "--fov",
        type=float,
        metavar="DEG",
        help=f"known horizontal field of view; without it and --camera, {DEFAULT_FOV:g} is assumed and depth is not "
        "metric, except for photos whose EXIF data tells the focal length",
    )
    parser.add_argument(
        "--box",
        metavar="X,Y,W,H",
        help="where the hand is, pixels: in every image; in the first frame of a video, from where it is followed",
    )
    parser.add_argument("--side", choices=("left", "right"), help="of every hand; default: the network judges it")
    parser.add_argument(
        "--hand-length",
        type=float,
        metavar="M",
        help="wrist crease to tip of the middle finger, metres, if you know it: depth is several times surer",
    )
    parser.add_argument("--num-hands", type=up_to(MAX_HANDS), default=1, metavar="N", help="most hands in an image (1)")
    parser.add_argument("--max-frames", type=up_to(10**9), metavar="N", help="end a video or webcam after N frames")
    parser.add_argument("--meshes", action="store_true", help="meshes for the frames of a video, too, and in --npz")
    parser.add_argument("--mesh-format", choices=MESH_FORMATS, default="ply", help="of meshes (default ply)")
    parser.add_argument("--npz", action="store_true", help="hands.npz, too: arrays, frames by hands")
    parser.add_argument("--view", action="store_true", help="show the hands in 3D in the browser")
    parser.add_argument("--threads", type=up_to(MAX_THREADS), default=1, metavar="N", help="inside a stage (1)")
    parser.add_argument(
        "--precision",
        choices=CHOICES,
        help=f"{PRECISION}; auto: the fastest",
    )
    parser.add_argument("--provider", nargs="+", default=CPU, metavar="P", help="of ONNX Runtime, the preferred first")
    return parser


if __name__ == "__main__":
    sys.exit(main())
