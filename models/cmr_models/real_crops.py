# SPDX-License-Identifier: Apache-2.0
"""Bake labelled crops of real hands, and hand-free crops of the same frames, into one file for training.

``python -m cmr_models.real_crops DIR LABELS.json OUT.npz [--boxes CSV]`` reads the photos and what
:mod:`cmr_models.pseudo_label` said about them. The archive holds

==============  ======================  =====================================================================
array           shape, type             content
==============  ======================  =====================================================================
jpeg            (bytes,) uint8          all hand crops, JPEG after JPEG
offsets         (N + 1,) int64          crop ``i`` is ``jpeg[offsets[i]:offsets[i + 1]]`` (:func:`decode`)
keypoints       (N, 21, 2) float32      joints in pixels of the crop, centre of the top-left pixel at (0, 0)
world           (N, 21, 3) float32      joints in metres relative to joint 9, x right, y down, z forward; up to
                                        similarity only; a left hand is a left hand (nothing is mirrored)
right           (N,) bool               anatomical right hand
weight          (N,) float32            trust, 0 to 1, from the agreement of the passes (:func:`weight_of`)
disagreement    (N, 2) float32          the disagreement itself: 2D as a part of the box side, 3D in metres
valid           (N, 4) float32          x0, y0, x1, y1 in crop pixels: inside it lies photo, outside repeated border
group, source   (N,) str                group of the photo; its path
val             (N,) bool               held out: never train on these
bg_jpeg         (bytes,) uint8          all background crops
bg_offsets      (M + 1,) int64          as ``offsets``
bg_group        (M,) str                group of the frame
bg_val          (M,) bool               held out
==============  ======================  =====================================================================

A background holds no hand that anyone found: it keeps clear of every detection, accepted or not, and of every box of
the CSV, each with a margin. Faces, arms, clothes and rooms are in it on purpose.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cmr_models.pseudo_label import View, load_groups

__all__ = [
    "background_views",
    "bake",
    "decode",
    "hand_view",
    "held_out",
    "load_boxes",
    "main",
    "obstacles",
    "weight_of",
]

CROP_SCALE = 2.2
"""Side of a hand crop as a multiple of the larger side of the joints' box: room to rotate, shift and scale."""
HALF_WEIGHT = 0.025
"""2D disagreement (part of the box side) at which a label's weight is one half."""
BACKGROUND_SCALES = (0.15, 1.0)
"""Range of a background's side as a part of the frame's height; its logarithm is drawn uniformly."""
DETECTION_MARGIN = 0.45
"""Margin around a detection's joints (skin reaches beyond them) as a part of its larger side."""
BOX_MARGIN = 0.15
"""The same around a box of the CSV."""
CONTRAST = (4.0, 40.0)
"""Grey levels between which a background's contrast counts: bare wall below, busy above."""
TRIES = 40
"""Draws per background wanted before a frame is given up."""
QUALITIES = (88, 86, 84, 82, 80, 75, 70, 65, 60)
"""JPEG qualities, the best that fits is taken."""
LIMIT_MB = 45.0
"""Largest archive in 10^6 bytes."""
VAL_GROUPS = ("rooms_55", "rooms_96", "rooms_996")
"""Groups held out whole; the last two show one scene."""
VAL_SPLIT = "digits"
"""Group that is split: its photos are numbered, and one person's photos follow one another."""
VAL_SHARE = 0.05
"""Part of that group held out, in runs of :data:`VAL_RUN` consecutive numbers."""
VAL_RUN = 20

Box = tuple[float, float, float, float]


def hand_view(keypoints: np.ndarray, size: int, scale: float = CROP_SCALE) -> View:
    """Square around a hand.

    Parameters
    ----------
    keypoints : ndarray (21, 2)
        Joints in pixels of the photo.
    size : int
        Side in pixels to which it is resampled.
    scale : float
        Its side as a multiple of the larger side of the joints' box.
    """
    low, high = keypoints.min(axis=0), keypoints.max(axis=0)
    side = max(8, round(float((high - low).max()) * scale))
    x0, y0 = np.round((low + high) / 2 + 0.5 - side / 2).astype(int)
    return View(int(x0), int(y0), int(x0) + side, int(y0) + side, size, size)


def weight_of(disagreement: float) -> float:
    """Trust in a label, 1 where the passes agree to 0.5 at :data:`HALF_WEIGHT` and on towards 0."""
    return 1.0 / (1.0 + (disagreement / HALF_WEIGHT) ** 2)


def valid_area(view: View, width: int, height: int) -> Box:
    """Edges of the photo in pixels of a view, cut to the view: x0, y0, x1, y1."""
    corners = view.from_image(np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]]))
    (x0, y0), (x1, y1) = np.clip(corners, -0.5, view.width - 0.5)
    return float(x0), float(y0), float(x1), float(y1)


def number_of(name: str) -> int:
    """Last number in a file's name, 0 without one."""
    found = re.findall(r"\d+", Path(name).stem)
    return int(found[-1]) if found else 0


def held_out(names: list[str], groups: list[str], seed: int = 0) -> np.ndarray:
    """Choose what is held out for validation.

    Parameters
    ----------
    names, groups : list of str
        Path and group of each photo.
    seed : int
        Chooses the runs of the group that is split.

    Returns
    -------
    ndarray (N,) bool
        True for every photo of :data:`VAL_GROUPS`, and for about :data:`VAL_SHARE` of :data:`VAL_SPLIT`, whole runs of
        consecutive numbers, so that hardly any person is on both sides.
    """
    keys = [number_of(name) // VAL_RUN if group == VAL_SPLIT else -1 for name, group in zip(names, groups, strict=True)]
    counts: dict[int, int] = defaultdict(int)
    for key in keys:
        counts[key] += 1
    counts.pop(-1, None)
    wanted, runs = VAL_SHARE * sum(counts.values()), set()
    for key in np.random.default_rng(seed).permutation(sorted(counts)).tolist():
        if sum(counts[run] for run in runs) >= wanted:
            break
        runs.add(key)
    return np.array([g in VAL_GROUPS or k in runs for g, k in zip(groups, keys, strict=True)], bool)


def load_boxes(index: Path) -> dict[str, list[Box]]:
    """Read hand boxes x0, y0, x1, y1 (pixels) from the CSV, by the last two parts of the image's path.

    A photo whose ``hand_boxes_xyxy`` is empty is left out: nobody has marked its hands.
    """
    with index.open(newline="") as file:
        return {
            "/".join(Path(row["image"]).parts[-2:]): [tuple(box) for box in json.loads(row["hand_boxes_xyxy"])]
            for row in csv.DictReader(file)
            if row["hand_boxes_xyxy"]
        }


def widen(box: Box, margin: float) -> Box:
    """Box with a margin on every side, given as a part of its larger side."""
    add = margin * max(box[2] - box[0], box[3] - box[1])
    return box[0] - add, box[1] - add, box[2] + add, box[3] + add


def obstacles(detections: list[Box], boxes: list[Box] | None, height: int) -> list[Box] | None:
    """List what a background of a frame must not touch.

    Parameters
    ----------
    detections : list of box
        Joints' boxes of all hands found, accepted or not.
    boxes : list of box or None
        Boxes of the CSV; None if nobody marked the frame's hands.
    height : int
        Of the frame in pixels.

    Returns
    -------
    list of box or None
        None if the frame must not be used: neither marked nor with a detection. If a frame that nobody marked has
        only one hand found, the person's other hand may hang unseen: everything further below the hand found than
        its own size is an obstacle, too.
    """
    if boxes is None and not detections:
        return None
    found = [widen(box, DETECTION_MARGIN) for box in detections] + [widen(box, BOX_MARGIN) for box in boxes or []]
    if boxes is None and len(detections) == 1:
        x0, y0, x1, y1 = detections[0]
        found.append((-1e6, min(y1 + max(x1 - x0, y1 - y0), float(height)), 1e6, 1e6))
    return found


def background_views(
    rng: np.random.Generator, width: int, height: int, avoid: list[Box], count: int, size: int
) -> list[View]:
    """Draw squares of a frame that touch no obstacle.

    Parameters
    ----------
    rng : Generator
        Source of chance.
    width, height : int
        Of the frame in pixels.
    avoid : list of box
        From :func:`obstacles`.
    count : int
        Squares wanted; fewer come back if :data:`TRIES` draws each do not find them.
    size : int
        Side in pixels to which they are resampled.
    """
    low, high = np.log(BACKGROUND_SCALES)
    views: list[View] = []
    for _ in range(TRIES * count):
        if len(views) == count:
            break
        side = min(round(height * float(np.exp(rng.uniform(low, high)))), width, height)
        x0, y0 = int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1))
        if all(x0 + side <= a or c <= x0 or y0 + side <= b or d <= y0 for a, b, c, d in avoid):
            views.append(View(x0, y0, x0 + side, y0 + side, size, size))
    return views


def encode(image: np.ndarray, quality: int) -> np.ndarray:
    """Compress a BGR picture to JPEG bytes (n,) uint8."""
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1])[1].ravel()


def decode(data: np.ndarray, offsets: np.ndarray, index: int) -> np.ndarray:
    """Decompress crop ``index`` of a baked buffer to RGB (S, S, 3) uint8."""
    image = cv2.imdecode(np.ascontiguousarray(data[offsets[index] : offsets[index + 1]]), cv2.IMREAD_COLOR)
    return np.ascontiguousarray(image[..., ::-1])


def pack(parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Join byte strings; return them with their offsets (n + 1,)."""
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return (np.concatenate(parts) if parts else np.zeros(0, np.uint8)), offsets


def read(path: Path) -> np.ndarray:
    """Read a photo as BGR (H, W, 3) uint8."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise SystemExit(f"cannot read {path}: is the first argument the folder that was labelled?")
    return image


Job = tuple[str, View]


def encode_jobs(folder: Path, jobs: list[Job], quality: int) -> list[np.ndarray]:
    """Cut and compress views; jobs that follow one another on the same photo read it once."""
    parts, name, image = [], "", np.zeros((1, 1, 3), np.uint8)
    for job_name, view in jobs:
        if job_name != name:
            name, image = job_name, read(folder / job_name)
        parts.append(encode(view.render(image), quality))
    return parts


def choose_quality(folder: Path, jobs: list[Job], budget: float) -> int:
    """Best JPEG quality with which all jobs stay within a budget in bytes, estimated on every 20th."""
    sample = jobs[::20]
    for quality in QUALITIES:
        used = sum(len(part) for part in encode_jobs(folder, sample, quality)) * len(jobs) / max(len(sample), 1)
        if used <= budget:
            return quality
    raise SystemExit(f"{len(jobs)} crops do not fit {budget / 1e6:.0f} MB at quality {QUALITIES[-1]}: lower --size")


def plan_backgrounds(
    folder: Path, detections: dict[str, Any], boxes: dict[str, list[Box]], skip: str, count: int, size: int, seed: int
) -> list[Job]:
    """Choose up to ``count`` background views of all frames except those of the folder ``skip``.

    Twice as many are drawn, evenly over the frames; of these, a view is kept in proportion to its contrast (standard
    deviation of its grey values, within :data:`CONTRAST`), so that bare wall does not crowd out people and things.
    """
    rng = np.random.default_rng(seed)
    frames = [name for name in sorted(detections) if Path(name).parts[0] != skip]
    each = -(-2 * count // max(len(frames), 1)) + 1
    jobs: list[Job] = []
    contrasts: list[float] = []
    for name in frames:
        avoid_boxes = boxes.get("/".join(Path(name).parts[-2:]))
        found = [tuple(hand["box"]) for hand in detections[name]]
        if avoid_boxes is None and not found:
            continue
        grey = cv2.cvtColor(read(folder / name), cv2.COLOR_BGR2GRAY)
        avoid = obstacles(found, avoid_boxes, grey.shape[0])
        for view in background_views(rng, grey.shape[1], grey.shape[0], avoid or [], each, size):
            jobs.append((name, view))
            contrasts.append(float(np.clip(grey[view.y0 : view.y1, view.x0 : view.x1].std(), *CONTRAST)))
    if len(jobs) <= count:
        return jobs
    chance = np.array(contrasts) / sum(contrasts)
    chosen = rng.choice(len(jobs), count, replace=False, p=chance)
    return [jobs[i] for i in sorted(chosen.tolist())]


def bake(
    folder: Path,
    labelled: dict[str, Any],
    boxes: dict[str, list[Box]],
    groups: dict[str, str] | None = None,
    size: int = 224,
    backgrounds: int = 4000,
    bg_size: int = 160,
    limit_mb: float = LIMIT_MB,
    seed: int = 0,
    skip_groups: str = "",
) -> dict[str, np.ndarray]:
    """Bake crops and backgrounds.

    Parameters
    ----------
    folder : Path
        Photos.
    labelled : dict
        What :func:`cmr_models.pseudo_label.label_folder` returned for that folder.
    boxes : dict
        Hand boxes as :func:`load_boxes` reads them.
    groups : dict, optional
        Groups of frames, as :func:`cmr_models.pseudo_label.load_groups` reads them.
    size, bg_size : int
        Sides in pixels of hand crops and backgrounds.
    backgrounds : int
        Number wanted.
    limit_mb : float
        Largest archive in 10^6 bytes; JPEG quality follows from it.
    seed : int
        Of backgrounds and held-out runs.
    skip_groups : str
        Leave out groups whose name begins so; "" for none.

    Returns
    -------
    dict of ndarray
        The arrays of the table in the module's description, and ``quality`` () int32.
    """
    group_of = {
        name: (groups or {}).get("/".join(Path(name).parts[-2:]), Path(name).parts[0])
        for name in labelled["detections"]
    }

    def wanted(group: str) -> bool:
        return not skip_groups or not group.startswith(skip_groups)

    detections = {name: hands for name, hands in labelled["detections"].items() if wanted(group_of[name])}
    labels = sorted((la for la in labelled["labels"] if wanted(la["group"])), key=lambda label: label["image"])
    points = [np.array(label["keypoints"], np.float64) for label in labels]
    jobs = [(label["image"], hand_view(p, size)) for label, p in zip(labels, points, strict=True)]
    bg_jobs = plan_backgrounds(folder, detections, boxes, VAL_SPLIT, backgrounds, bg_size, seed)
    fixed = len(labels) * 21 * 5 * 4
    quality = choose_quality(folder, jobs + bg_jobs, 0.98 * limit_mb * 1e6 - fixed)
    jpeg, offsets = pack(encode_jobs(folder, jobs, quality))
    bg_jpeg, bg_offsets = pack(encode_jobs(folder, bg_jobs, quality))
    names, kinds = [label["image"] for label in labels], [label["group"] for label in labels]
    bg_kinds = [group_of[name] for name, _ in bg_jobs]
    areas = [valid_area(v, la["width"], la["height"]) for (_, v), la in zip(jobs, labels, strict=True)]
    return {
        "jpeg": jpeg,
        "offsets": offsets,
        "keypoints": np.array(
            [view.from_image(p) for (_, view), p in zip(jobs, points, strict=True)], np.float32
        ).reshape(-1, 21, 2),
        "world": np.array([label["world"] for label in labels], np.float32).reshape(-1, 21, 3),
        "right": np.array([label["handedness"] == "right" for label in labels], bool),
        "weight": np.array([weight_of(label["disagreement_2d"]) for label in labels], np.float32),
        "disagreement": np.array(
            [[label["disagreement_2d"], label["disagreement_3d"]] for label in labels], np.float32
        ).reshape(-1, 2),
        "valid": np.array(areas, np.float32).reshape(-1, 4),
        "group": np.array(kinds, str),
        "source": np.array(names, str),
        "val": held_out(names, kinds, seed),
        "bg_jpeg": bg_jpeg,
        "bg_offsets": bg_offsets,
        "bg_group": np.array(bg_kinds, str),
        "bg_val": np.array([kind in VAL_GROUPS for kind in bg_kinds], bool),
        "quality": np.int32(quality),
    }


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m cmr_models.real_crops", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="photos that were labelled")
    parser.add_argument("labels", type=Path, help="JSON file of cmr_models.pseudo_label")
    parser.add_argument("out", type=Path, help="NPZ file to write")
    parser.add_argument("--boxes", type=Path, help="CSV with columns image, group, hand_boxes_xyxy")
    parser.add_argument("--size", type=int, default=224, help="side of a hand crop in pixels (default 224)")
    parser.add_argument("--backgrounds", type=int, default=4000, help="background crops wanted (default 4000)")
    parser.add_argument("--bg-size", type=int, default=160, help="side of a background in pixels (default 160)")
    parser.add_argument("--limit-mb", type=float, default=LIMIT_MB, help="largest archive in MB (default 45)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip-groups", default="", metavar="PREFIX", help="leave out groups whose name begins so")
    args = parser.parse_args(argv)
    boxes, groups = (load_boxes(args.boxes), load_groups(args.boxes)) if args.boxes else ({}, {})
    labelled = json.loads(args.labels.read_text())
    data = bake(
        args.folder,
        labelled,
        boxes,
        groups,
        args.size,
        args.backgrounds,
        args.bg_size,
        args.limit_mb,
        args.seed,
        args.skip_groups,
    )
    np.savez_compressed(args.out, **data)
    hands, frames = len(data["right"]), len(data["bg_group"])
    print(
        f"{hands} hands ({int(data['right'].sum())} right, {int(data['val'].sum())} held out), "
        f"{frames} backgrounds ({int(data['bg_val'].sum())} held out), JPEG quality {int(data['quality'])}, "
        f"{args.out.stat().st_size / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    main()
