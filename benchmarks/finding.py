# SPDX-License-Identifier: Apache-2.0
"""How surely hands are found in whole frames, and how rarely where there are none.

``python -m benchmarks.finding DATA --labels labels.json --mediapipe PYTHON`` prints one table. DATA is the folder of
data that stays outside the project (`eval_only/webcam_people`, `eval_only/photos`, `unlabelled`, `clips`); the labels
are of ``cmr_models.pseudo_label`` and tell where hands are in the unlabelled frames; PYTHON is an interpreter with
mediapipe 0.10.14. What is not given, or not there, is left out of the table and named below it.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from cmr_models.photos.backgrounds import background_views, obstacles
from cmr_models.photos.held_out import VAL_GROUPS
from cmr_runtime import Bundle, HandMeshTracker
from cmr_runtime.errors import CmrError
from cmr_runtime.evaluate import track_samples
from cmr_runtime.image_io import read_image
from cmr_runtime.options import PRECISION
from cmr_runtime.precision import CHOICES, open_bundle
from cmr_runtime.samples import read_samples

__all__ = ["Row", "hand_free", "main", "nearest", "side_by_side", "table", "twice"]

#: A hand is where the peer sees one if their joints are closer than this on average, in sides of the peer's box.
SAME_PLACE = 0.5
#: Photos of hands on white, each a whole picture: no frame to search.
NO_FRAMES = "digits"


class Row(NamedTuple):
    """One figure: what, how many of how many, and the bar (a part of one) that it is held against."""

    what: str
    value: str
    bar: str


def side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two frames as one, the lower one filled up with black."""
    height = max(len(left), len(right))
    return np.hstack([np.pad(f, ((0, height - len(f)), (0, 0), (0, 0))) for f in (left, right)])


def nearest(joints: np.ndarray, hands: Sequence[np.ndarray]) -> float:
    """Mean distance of the closest hand's joints, in larger sides of the box of `joints` (21, 2); inf without hands."""
    side = float(np.ptp(joints, axis=0).max())
    return min((float(np.linalg.norm(hand - joints, axis=1).mean()) / side for hand in hands), default=float("inf"))


def hand_free(
    folder: Path, detections: dict[str, list[dict]], count: int, held_out: bool | None, seed: int = 1
) -> Iterator[np.ndarray]:
    """Hand-free squares of the unlabelled frames, spread over them, at their own resolution.

    Parameters
    ----------
    folder : Path
        With ``unlabelled`` and ``unlabelled.csv``.
    detections : dict
        Hands found by frame, accepted as labels or not.
    count : int
        Squares wanted.
    held_out : bool or None
        Only frames of the scenes that training holds out, only the others, or (None) all.
    seed : int
        Of the choice.
    """
    with open(folder / "unlabelled.csv", encoding="utf-8", newline="") as file:
        rows = {row["image"].removeprefix("unlabelled/"): row for row in csv.DictReader(file)}
    rng = np.random.default_rng(seed)
    names = [
        name
        for name in sorted(detections)
        if not name.startswith(NO_FRAMES) and (held_out is None or (rows[name]["group"] in VAL_GROUPS) == held_out)
    ]
    given = 0
    while given < count:
        before = given
        for name in rng.permutation(names):
            marked = rows[name]["hand_boxes_xyxy"]
            boxes = [tuple(box) for box in json.loads(marked)] if marked else None
            avoid = obstacles([tuple(hand["box"]) for hand in detections[name]], boxes)
            if avoid is None or given == count:
                continue
            image = read_image(folder / "unlabelled" / name)
            for v in background_views(rng, image.shape[1], image.shape[0], avoid, 1, 0):
                yield np.ascontiguousarray(image[v.y0 : v.y1, v.x0 : v.x1])
                given += 1
        if given == before:
            raise ValueError(f"{folder} has no frame with a hand-free square; give the labels of these frames")


def people(bundle: Bundle, paths: Sequence[Path], python: str | None) -> list[Row]:
    """Frames of people, each alone, and side by side with the frame half a set away.

    The set is described as showing one hand per frame, but many of its frames show both: who asks for one gets one
    (`num_hands=1`); who asks for two gets none twice, and the share with exactly one says little without the peer's.
    """
    frames = [read_image(path) for path in paths]
    with HandMeshTracker(bundle, mode="image", num_hands=1) as tracker:
        single = [len(tracker.track(frame)) for frame in frames]
    with HandMeshTracker(bundle, mode="image", num_hands=2) as tracker:
        ours = [[hand.keypoints for hand in tracker.track(frame)] for frame in frames]
    with HandMeshTracker(bundle, mode="image", num_hands=4) as tracker:
        halves = []
        for k, frame in enumerate(frames):
            hands = tracker.track(side_by_side(frame, frames[(k + len(frames) // 2) % len(frames)]))
            left = sum(hand.roi.cx < frame.shape[1] for hand in hands)
            halves += [left, len(hands) - left]
    rows = [
        _share("frames: a hand found", [len(hands) > 0 for hands in ours], "≥ 96 %"),
        _share("frames: one hand where one is asked for", [count == 1 for count in single], "≥ 95 %"),
        _share("frames: no hand given twice", [not twice(hands) for hands in ours], "≥ 95 %"),
        _share("frames: exactly one where two are asked for", [len(hands) == 1 for hands in ours], ""),
        _share("two frames side by side: halves with a hand found", [count > 0 for count in halves], "≥ 96 %"),
    ]
    if python is None:
        return rows
    peer = [[np.array(joints) for joints in hands] for hands in peer_hands(python, paths)]
    distances = [nearest(joints, hands) for seen, hands in zip(peer, ours, strict=True) for joints in seen]
    near = [distance for distance in distances if distance < SAME_PLACE]
    extra = sum(nearest(joints, seen) >= SAME_PLACE for seen, hands in zip(peer, ours, strict=True) for joints in hands)
    return [
        *rows,
        _share("MediaPipe full, frames: a hand found", [len(seen) > 0 for seen in peer], ""),
        _share("MediaPipe full, frames: exactly one where two are asked for", [len(seen) == 1 for seen in peer], ""),
        _share("hands of MediaPipe full: found by us", [distance < SAME_PLACE for distance in distances], ""),
        Row("… mean 2D distance, part of the hand's box", f"{100 * np.mean(near):.1f} %", "≤ 6 %"),
        Row("hands of ours that MediaPipe full does not see", f"{extra} in {len(frames)} frames", ""),
    ]


def photos(bundle: Bundle, folder: Path, python: str) -> list[Row]:
    """Photos of a hand, many with a thing in it, the photo as its box: distance of our keypoints from the peer's."""
    samples, distances = read_samples(folder), []
    peer = peer_hands(python, [sample.path for sample in samples])
    with HandMeshTracker(bundle, mode="image") as tracker:
        for (*_, hand), seen in zip(track_samples(tracker, samples), peer, strict=True):
            if seen and hand is not None:
                distances.append(min(nearest(np.array(joints), [hand.keypoints]) for joints in seen))
    both = Row("photos: we and MediaPipe full see a hand", f"{len(distances)} of {len(samples)}", "")
    if not distances:
        return [both]
    return [
        both,
        Row("… mean 2D distance, part of the hand's box", f"{100 * np.mean(distances):.1f} %", "≤ 6 %"),
        Row("… median", f"{100 * np.median(distances):.1f} %", ""),
    ]


def twice(hands: Sequence[np.ndarray]) -> bool:
    """Whether two of these hands' joints (21, 2) lie where one hand does."""
    return any(nearest(joints, hands[k + 1 :]) < SAME_PLACE for k, joints in enumerate(hands))


def peer_hands(python: str, paths: Sequence[Path]) -> list[list[list[list[float]]]]:
    """Run `peer_hands.py` on images."""
    script = Path(__file__).with_name("peer_hands.py")
    text = "".join(f"{path.resolve()}\n" for path in paths)
    done = subprocess.run([python, str(script)], input=text, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def clip(bundle: Bundle, path: Path) -> Row:
    """Frames of a video in which its hand is followed."""
    video, found = cv2.VideoCapture(str(path)), []
    rate = video.get(cv2.CAP_PROP_FPS) or 25.0
    with HandMeshTracker(bundle, mode="video") as tracker:
        while True:
            more, frame = video.read()
            if not more:
                break
            hands = tracker.track(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), timestamp=len(found) / rate)
            found.append(len(hands) == 1)
    return _share(f"{path.name}: followed", found, "≥ 198")


def pictures(bundle: Bundle, crops: Iterator[np.ndarray], what: str) -> Row:
    """Pictures without a hand that give one."""
    with HandMeshTracker(bundle, mode="image", num_hands=2) as tracker:
        return _share(f"{what}: a hand", [len(tracker.track(crop)) > 0 for crop in crops], "≤ 1 %")


def table(rows: Sequence[Row]) -> str:
    """Rows as Markdown."""
    lines = ["| what | figure | bar |", "|---|---|---|"]
    return "\n".join(lines + [f"| {row.what} | {row.value} | {row.bar} |" for row in rows])


def _share(what: str, hits: Sequence[bool], bar: str) -> Row:
    share = 100.0 * sum(hits) / max(len(hits), 1)
    return Row(what, f"{sum(hits)} of {len(hits)} ({share:.1f} %)", bar)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.finding", description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with eval_only, unlabelled and clips")
    parser.add_argument("--model", type=Path, help="bundle (default: the package's)")
    parser.add_argument("--precision", choices=CHOICES, help=PRECISION)
    parser.add_argument("--labels", type=Path, help="labels of the unlabelled frames, of cmr_models.pseudo_label")
    parser.add_argument("--mediapipe", metavar="PYTHON", help="interpreter of an environment with mediapipe 0.10.14")
    parser.add_argument("--crops", type=int, default=1000, help="hand-free crops (default: 1000)")
    args = parser.parse_args(argv)
    rows, left_out = [], []
    try:
        bundle = open_bundle(args.model, args.precision)
        frames = sorted((args.data / "eval_only" / "webcam_people").glob("*.jpg"))
        rows += people(bundle, frames, args.mediapipe) if frames else []
        left_out += [] if frames else ["eval_only/webcam_people is not there"]
        left_out += [] if args.mediapipe else ["--mediapipe is not given"]
        single = args.data / "eval_only" / "photos"
        rows += photos(bundle, single, args.mediapipe) if single.is_dir() and args.mediapipe else []
        left_out += [] if single.is_dir() else ["eval_only/photos is not there"]
        video = args.data / "clips" / "open_palm.mp4"
        rows += [clip(bundle, video)] if video.is_file() else []
        left_out += [] if video.is_file() else ["clips/open_palm.mp4 is not there"]
        if args.labels is None:
            left_out.append("--labels is not given: no hand-free crops")
        else:
            detections = json.loads(args.labels.read_text("utf-8"))["detections"]
            for held_out, which in ((True, "scenes held out"), (False, "other scenes")):
                crops = hand_free(args.data, detections, args.crops // 2, held_out)
                rows.append(pictures(bundle, crops, f"{args.crops // 2} hand-free crops, {which}"))
    except (CmrError, ValueError, OSError, subprocess.CalledProcessError) as error:
        print(f"benchmarks.finding: {error}", file=sys.stderr)
        return 2
    print(table(rows))
    for reason in left_out:
        print(f"left out: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
