# SPDX-License-Identifier: Apache-2.0
"""`cmr-eval`: figures on photos with known joints, and contact sheets to look at."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .camera import Camera
from .command import command
from .draw import contact_sheet, draw_hands
from .errors import CmrError, InputError
from .image_io import read_image, write_image
from .metrics import mean_distance, mpjpe, pa_mpjpe
from .options import up_to
from .results import Hand
from .session import MAX_THREADS
from .tracker import HandMeshTracker

__all__ = ["PEERS", "Sample", "evaluate", "main", "read_samples"]

_Image = npt.NDArray[np.uint8]

#: `_fingerprint` of the 292 photos of `joints3d`: other photos or joints do not compare with `PEERS`.
_PEERS_PHOTOS = "57cfd7465ac6e369c0ef56f070399ec26db829c2d374cb385f1ccaf4edf560db"
#: MediaPipe Hands 0.10.14, lite and full, on the 292 photos of `joints3d` (camera space by PnP), measured.
PEERS = {
    "MediaPipe lite": {
        "images": 292,
        "found": 289 / 292,
        "kp2d_px": 6.6,
        "mpjpe_root_mm": 19.8,
        "pa_mpjpe_mm": 10.6,
        "cs_mpjpe_mean_mm": 29.1,
        "cs_mpjpe_median_mm": 24.6,
    },
    "MediaPipe full": {
        "images": 292,
        "found": 291 / 292,
        "kp2d_px": 6.4,
        "mpjpe_root_mm": 16.2,
        "pa_mpjpe_mm": 9.9,
        "cs_mpjpe_mean_mm": 24.9,
        "cs_mpjpe_median_mm": 17.2,
    },
}
_FIGURES = (
    ("images", "images", "{:d}"),
    ("found", "found", "{:.1%}"),
    ("kp2d_px", "2D, px", "{:.2f}"),
    ("mpjpe_root_mm", "root-relative, mm", "{:.1f}"),
    ("pa_mpjpe_mm", "PA, mm", "{:.1f}"),
    ("cs_mpjpe_mean_mm", "camera space mean, mm", "{:.1f}"),
    ("cs_mpjpe_median_mm", "camera space median, mm", "{:.1f}"),
    ("handedness_accuracy", "handedness", "{:.1%}"),
)
#: The annotations, for the help of the command.
_FORMAT = (
    'annotations.json: [{"image": FILE, "handedness": "left", "K": 3x3, "joints_camera_m": 21x3}, ...]; '
    "cameras.json: without joints.\n"
    "K in pixels; joints in metres, camera frame (z forward): wrist, then thumb to little finger, from palm to tip."
)


@dataclass(frozen=True, eq=False)
class Sample:
    """A photo with its camera, and its joints, (21, 3) metres in the camera frame, where they are known."""

    path: Path
    matrix: npt.NDArray[np.float64]
    handedness: str
    joints: npt.NDArray[np.float64] | None


def read_samples(folder: Path, limit: int | None = None) -> list[Sample]:
    """Read ``annotations.json`` (with joints) or ``cameras.json`` (without) of a folder.

    Each is a list of ``{image, handedness, K}``, the former also with ``joints_camera_m``.

    Raises
    ------
    InputError
        Neither file is there, it lists no photo, or an entry lacks something; the entry is named.
    """
    names = [name for name in ("annotations.json", "cameras.json") if (folder / name).is_file()]
    if not names:
        raise InputError(f"{folder} holds neither annotations.json nor cameras.json; give a folder that does")
    path = folder / names[0]
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not isinstance(entries, list):
        raise InputError(f"{path} is no list of photos")
    if not entries:
        raise InputError(f"{path} lists no photo; give at least one entry")
    samples = []
    for number, entry in enumerate(entries[:limit]):
        try:
            joints = None
            if names[0] == "annotations.json":
                joints = np.array(entry["joints_camera_m"], dtype=np.float64).reshape(21, 3)
            matrix = np.array(entry["K"], dtype=np.float64).reshape(3, 3)
            samples.append(Sample(folder / entry["image"], matrix, str(entry["handedness"]), joints))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"entry {number} of {path} is incomplete or of another form: {error!r}") from error
    return samples


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


def evaluate(tracker: HandMeshTracker, samples: Sequence[Sample]) -> tuple[dict[str, Any], list[_Image]]:
    """Measure a tracker on photos with known joints.

    Parameters
    ----------
    tracker : HandMeshTracker
        In mode image.
    samples : sequence of Sample
        With joints.

    Returns
    -------
    figures : dict
        `images`; `found`, the share of photos that gave a hand; means over the photos found, None if there is none, of
        `kp2d_px` (distance to the projected joints), `mpjpe_root_mm` (aligned at joint 9), `pa_mpjpe_mm`,
        `cs_mpjpe_mean_mm` and `cs_mpjpe_median_mm` (camera frame, mean over joints, then mean or median over photos),
        and `handedness_accuracy`.
    pictures : list of (H, W, 3) uint8
        Overlays of all photos.
    """
    rows, pictures = [], []
    for sample, image, camera, hand in track_samples(tracker, samples):
        pictures.append(_picture(image, hand))
        if sample.joints is None:
            raise InputError(f"{sample.path.name} has no joints; joints3d needs a folder with annotations.json")
        if hand is None:
            continue
        truth = sample.joints
        rows.append(
            (
                mean_distance(hand.keypoints, camera.project(truth)),
                1e3 * mpjpe(hand.joints, truth),
                1e3 * pa_mpjpe(hand.joints, truth),
                1e3 * mean_distance(hand.joints, truth),
                float(hand.handedness == sample.handedness),
            )
        )
    figures: dict[str, Any] = {"images": len(samples), "found": len(rows) / len(samples) if samples else 0.0}
    table = np.array(rows).reshape(-1, 5)
    mean = table.mean(axis=0) if rows else [None] * 5
    figures["kp2d_px"], figures["mpjpe_root_mm"], figures["pa_mpjpe_mm"] = mean[0], mean[1], mean[2]
    figures["cs_mpjpe_mean_mm"] = mean[3]
    figures["cs_mpjpe_median_mm"] = np.median(table[:, 3]) if rows else None
    figures["handedness_accuracy"] = mean[4]
    return {k: round(float(v), 4) if isinstance(v, np.floating | float) else v for k, v in figures.items()}, pictures


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run `cmr-eval`; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        samples = read_samples(Path(options.folder), options.limit)
        with HandMeshTracker(options.model, mode="image", threads=options.threads, refine=options.refine) as tracker:
            if options.command == "joints3d":
                figures, pictures = evaluate(tracker, samples)
                print(json.dumps(figures) if options.json else _table(figures, _fingerprint(samples) == _PEERS_PHOTOS))
            else:
                found = list(track_samples(tracker, samples))
                pictures = [_picture(image, hand) for _, image, _, hand in found]
                print(f"{sum(hand is not None for *_, hand in found)} of {len(found)} photos gave a hand")
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
        epilog=_FORMAT,
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
            epilog=_FORMAT,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("folder", metavar="DIR", help="folder with the photos and their cameras")
        command.add_argument("--model", metavar="B", help="bundle; default: the one that comes with the package")
        command.add_argument("--limit", type=up_to(10**9), metavar="N", help="only the first N photos")
        command.add_argument(
            "--threads", type=up_to(MAX_THREADS), default=1, metavar="N", help="threads inside a stage (default 1)"
        )
        command.add_argument(
            "--refine", type=int, default=2, help="rounds of drawing a box again, upright (default 2, as the tracker)"
        )
        if name == "joints3d":
            command.add_argument("--json", action="store_true", help="print one JSON object")
        sheet = "--sheet" if name == "joints3d" else "--out"
        command.add_argument(sheet, dest="sheet", required=name == "sheet", help="contact sheet to write (PNG, JPEG)")
    return parser


def _picture(image: _Image, hand: Hand | None) -> _Image:
    if hand is not None:
        return draw_hands(image, [hand], zoom=2)
    return np.ascontiguousarray(image // 3)  # darkened: no hand found


def _fingerprint(samples: Sequence[Sample]) -> str:
    """SHA-256 of photos, cameras and joints, whatever their order and names."""
    each = []
    for sample in samples:
        joints = b"" if sample.joints is None else sample.joints.tobytes()
        each.append(hashlib.sha256(sample.path.read_bytes() + sample.matrix.tobytes() + joints).digest())
    return hashlib.sha256(b"".join(sorted(each))).hexdigest()


def _table(figures: dict[str, Any], peers: bool) -> str:
    columns = {"this model": figures, **(PEERS if peers else {})}
    lines = [f"{'':<24}" + "".join(f"{name:>16}" for name in columns)]
    for key, label, form in _FIGURES:
        cells = [form.format(value[key]) if value.get(key) is not None else "–" for value in columns.values()]
        lines.append(f"{label:<24}" + "".join(f"{cell:>16}" for cell in cells))
    if peers:
        lines.append("MediaPipe Hands 0.10.14: measured on the 292 photos of joints3d, camera space by PnP.")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
