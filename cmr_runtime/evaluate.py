# SPDX-License-Identifier: Apache-2.0
"""`cmr-eval`: figures on photos with known joints, and contact sheets to look at."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .accuracy import Seen, figures, measure, table
from .camera import Camera
from .command import command
from .draw import contact_sheet, draw_hands, thumbnail
from .errors import CmrError, InputError
from .image_io import read_image, write_image
from .options import PRECISION, up_to
from .peer_eval import MODELS, Peer
from .precision import CHOICES
from .results import Hand
from .samples import FORMAT, Sample, read_samples
from .session import MAX_THREADS
from .tracker import HandMeshTracker

__all__ = ["OURS", "Overlay", "evaluate", "main", "track_samples"]

_Image = npt.NDArray[np.uint8]

#: What our tracker is called beside peers.
OURS = "this model"


class Overlay(NamedTuple):
    """What our tracker found in a photo, as a `thumbnail`, and its PA error in mm, infinite where it found no hand."""

    picture: _Image
    error: float


def track_samples(
    tracker: HandMeshTracker, samples: Sequence[Sample]
) -> Iterator[tuple[Sample, _Image, Camera, Hand | None]]:
    """Track each photo with the whole of it as the box."""
    for sample in samples:
        image = read_image(sample.path)
        height, width = image.shape[:2]
        camera = Camera.from_matrix(sample.matrix, width, height)
        hands = tracker.track(image, camera, rois=[(0, 0, width, height)])
        yield sample, image, camera, hands[0] if hands else None


def evaluate(
    tracker: HandMeshTracker, samples: Sequence[Sample], peers: Sequence[Peer] = (), draw: bool = False
) -> tuple[dict[str, dict[str, Any]], list[Overlay]]:
    """Measure a tracker, and peers on the same photos, against known joints.

    Parameters
    ----------
    tracker : HandMeshTracker
        In mode image.
    samples : sequence of Sample
        With joints.
    peers : sequence of Peer
        Who is measured besides.
    draw : bool
        Whether overlays are wanted.

    Returns
    -------
    figures : dict
        By name, `OURS` first: `images`; `found`, the share of photos that gave a hand; means over the photos found,
        None if there is none, of `kp2d_px` (distance to the projected joints), `mpjpe_root_mm` (aligned at joint 9),
        `pa_mpjpe_mm`, `cs_mpjpe_mean_mm` and `cs_mpjpe_median_mm` (camera frame, mean over joints, then mean or median
        over photos), `handedness_accuracy`, and `impossible_hands`, the share that violates anatomy.
    overlays : list of Overlay
        Ours, of all photos, or none.

    Raises
    ------
    InputError
        A photo without joints.
    PeerError
        A peer that fails.
    """
    photos: dict[str, list[dict[str, float] | None]] = {name: [] for name in (OURS, *(peer.name for peer in peers))}
    overlays = []
    for sample, image, camera, hand in track_samples(tracker, samples):
        if sample.joints is None:
            raise InputError(f"{sample.path.name} has no joints; joints3d needs a folder with annotations.json")
        ours = None if hand is None else Seen(hand.keypoints, hand.joints, hand.joints, hand.handedness)
        for name, seen in {OURS: ours, **{peer.name: peer.look(sample.path, camera) for peer in peers}}.items():
            measured = None if seen is None else measure(seen, sample.joints, sample.handedness, camera)
            photos[name].append(measured)
        if draw:
            last = photos[OURS][-1]
            overlays.append(Overlay(_picture(image, hand), math.inf if last is None else last["pa"]))
    return {name: figures(each) for name, each in photos.items()}, overlays


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run `cmr-eval`; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "joints3d" and options.worst is not None and options.sheet is None:
        parser.error("--worst says what --sheet FILE draws; give that too")
    try:
        samples = read_samples(Path(options.folder), options.limit)
        with ExitStack() as stack:
            tracker = stack.enter_context(
                HandMeshTracker(
                    options.model,
                    mode="image",
                    threads=options.threads,
                    refine=options.refine,
                    precision=options.precision,
                )
            )
            if options.command == "joints3d":
                models = MODELS if options.peer else ()
                peers = [stack.push(Peer(model, options.peer_python)) for model in models]
                columns, overlays = evaluate(tracker, samples, peers, draw=options.sheet is not None)
                print(_json(columns, peers) if options.json else "\n".join([table(columns), *_remarks(peers)]))
                if options.worst is not None:
                    overlays = sorted(overlays, key=lambda overlay: -overlay.error)[: options.worst]
                pictures = [overlay.picture for overlay in overlays]
            else:
                pictures, found = [], 0
                for _, image, _, hand in track_samples(tracker, samples):
                    pictures.append(_picture(image, hand))
                    found += hand is not None
                print(f"{found} of {len(pictures)} photos gave a hand")
        if options.sheet is not None:
            write_image(options.sheet, contact_sheet(pictures))
    except (CmrError, OSError) as error:
        print(f"cmr-eval: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cmr-eval",
        description="Measure the tracker, or draw what it finds.",
        epilog=FORMAT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("joints3d", "figures on photos with known joints (annotations.json); the whole photo is the box"),
        ("sheet", "a contact sheet of overlays of a folder with annotations.json or cameras.json"),
    ):
        command = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=FORMAT,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("folder", metavar="DIR", help="folder with the photos and their cameras")
        command.add_argument("--model", metavar="B", help="bundle; default: the one that comes with the package")
        command.add_argument("--precision", choices=CHOICES, help=PRECISION)
        command.add_argument("--limit", type=up_to(10**9), metavar="N", help="only the first N photos")
        command.add_argument(
            "--threads", type=up_to(MAX_THREADS), default=1, metavar="N", help="threads inside a stage (default 1)"
        )
        command.add_argument(
            "--refine", type=int, default=2, help="rounds of drawing a box again, upright (default 2, as the tracker)"
        )
        if name == "joints3d":
            command.add_argument("--json", action="store_true", help="print one JSON object")
            command.add_argument(
                "--peer", choices=("mediapipe",), help="measure MediaPipe Hands, lite and full, on the same photos"
            )
            command.add_argument(
                "--peer-python",
                metavar="PATH",
                help="interpreter with mediapipe; default: the environment of `python -m cmr_runtime.bench.peer`",
            )
            command.add_argument(
                "--worst",
                type=up_to(10**9),
                metavar="N",
                help="draw the N photos with the largest PA error, the worst first",
            )
        sheet = "--sheet" if name == "joints3d" else "--out"
        command.add_argument(sheet, dest="sheet", required=name == "sheet", help="contact sheet to write (PNG, JPEG)")
    return parser


def _picture(image: _Image, hand: Hand | None) -> _Image:
    if hand is not None:
        return thumbnail(draw_hands(image, [hand], zoom=2))
    return thumbnail(image // 3)  # darkened: no hand found


def _json(columns: dict[str, dict[str, Any]], peers: Sequence[Peer]) -> str:
    """Our figures as one object, in which those of peers stand under their names."""
    others = {peer.name: columns[peer.name] | {"versions": peer.versions} for peer in peers}
    return json.dumps(columns[OURS] | ({"peers": others} if peers else {}))


def _remarks(peers: Sequence[Peer]) -> list[str]:
    """Return what a reader must know of the peers' columns."""
    versions = sorted({peer.versions.get("mediapipe", "of unknown version") for peer in peers})
    how = "image mode, each photo with room around it; camera space by PnP of its world landmarks."
    return [f"MediaPipe Hands {version}: {how}" for version in versions]


if __name__ == "__main__":
    sys.exit(main())
