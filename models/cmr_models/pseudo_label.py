# SPDX-License-Identifier: Apache-2.0
"""Weak labels for photos: MediaPipe Hands, kept where its full, lite and mirrored passes agree.

``python -m cmr_models.pseudo_label DIR OUT.json [--workers 2] [--index CSV]`` needs NumPy, OpenCV and
``mediapipe==0.10.14`` only; MediaPipe is imported when the first photo is labelled, so everything else in this module
works without it.

Every photo is searched for hands (whole, mirrored, then in overlapping tiles, since a palm detector that sees a whole
frame at 192 pixels misses small hands). Each hand found is cropped with a margin and labelled three times: by the full
model, by the lite model, and by the full model on the mirrored crop. A hand becomes a label if the three passes agree.

Handedness
    MediaPipe Hands names the hand as if the picture were a mirror image (a selfie camera's preview). For an ordinary
    photo its "Left" is therefore an anatomical right hand, and the name is swapped here. The reasoning: look at your
    own right palm, fingers up, and the thumb points to your right; any camera that sees a right palm with fingers up
    sees the same. On photos of that kind MediaPipe says "Left". A second witness is :func:`curl_sign`: fingers bend
    towards the palm, which fixes the chirality of the 3D joints without asking the classifier.

Pixels
    The centre of the top-left pixel is (0, 0). MediaPipe's normalised coordinates run from the picture's edge to its
    edge, hence ``pixel = normalised * size - 0.5``.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

__all__ = [
    "Detector",
    "Pass",
    "View",
    "consensus",
    "curl_sign",
    "find_images",
    "label_folder",
    "label_image",
    "load_groups",
    "main",
    "procrustes_distance",
    "same_hand",
    "tile_views",
    "view_of",
]

FORMAT = 1
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
ROOT_JOINT = 9
KNUCKLES = (5, 9, 13, 17)
TIPS = (8, 12, 16, 20)

MAX_DISAGREEMENT_2D = 0.05
"""Largest mean distance between two passes' joints, as a part of the hand's box side, that a label may have."""
MAX_DISAGREEMENT_3D = 0.012
"""Largest mean distance in metres between two passes' 3D joints after similarity alignment."""
MIN_HANDEDNESS = 0.75
"""Smallest mean probability of the handedness that the passes agree on."""
CURL_CERTAIN = 0.010
"""Metres by which the fingertips must lie on one side of the palm before :func:`curl_sign` has a say."""
MIN_SIDE = 24.0
"""Smallest box side in pixels: below it, fingers are a few pixels wide."""
MIN_DETECTION = 0.4
"""MediaPipe's palm detection threshold; agreement does the filtering, so it is lower than the default 0.5."""
SMALL_IMAGE = 200
"""A picture whose shorter side is below this many pixels is enlarged and padded before the search."""
ENLARGED = 420
"""Longer side in pixels of an enlarged small picture, padding of 20 % on each side included."""
FOCUS_SCALE = 3.0
"""Side of the crop in which a hand is labelled, as a multiple of the hand's box side."""
FOCUS_SIZE = 384
"""Side in pixels to which such a crop is resampled."""
TILE = 0.5
"""Side of a search tile as a part of the picture's shorter side; neighbours overlap by half."""
SAME_HAND = 0.5
"""Two detections closer than this part of the larger box side are one hand."""


class View(NamedTuple):
    """A rectangle of a picture, resampled: edges in whole pixels, may reach outside; and the size it is drawn at."""

    x0: int
    y0: int
    x1: int
    y1: int
    width: int
    height: int

    def to_image(self, points: np.ndarray) -> np.ndarray:
        """Map points (..., 2), normalised to the view from edge to edge, to pixels of the picture."""
        span = np.array([self.x1 - self.x0, self.y1 - self.y0], np.float64)
        return points * span + np.array([self.x0, self.y0], np.float64) - 0.5

    def from_image(self, points: np.ndarray) -> np.ndarray:
        """Map points (..., 2) in pixels of the picture to pixels of the view as it is drawn."""
        scale = np.array([self.width / (self.x1 - self.x0), self.height / (self.y1 - self.y0)])
        return (points + 0.5 - np.array([self.x0, self.y0], np.float64)) * scale - 0.5

    def render(self, image: np.ndarray) -> np.ndarray:
        """Cut the view out of a picture (H, W, 3); what lies outside repeats the border."""
        height, width = image.shape[:2]
        left, top = max(0, -self.x0), max(0, -self.y0)
        right, bottom = max(0, self.x1 - width), max(0, self.y1 - height)
        part = image[max(self.y0, 0) : min(self.y1, height), max(self.x0, 0) : min(self.x1, width)]
        if left or top or right or bottom:
            part = cv2.copyMakeBorder(part, top, bottom, left, right, cv2.BORDER_REPLICATE)
        if part.shape[:2] == (self.height, self.width):
            return np.ascontiguousarray(part)
        shrink = self.width < self.x1 - self.x0
        return cv2.resize(part, (self.width, self.height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_CUBIC)


@dataclass(frozen=True)
class Pass:
    """One hand as one pass of MediaPipe saw it, already mapped back to the unmirrored photo.

    Attributes
    ----------
    keypoints : ndarray (21, 2)
        Joints in pixels of the photo.
    world : ndarray (21, 3)
        Joints in metres relative to joint 9, x right, y down, z forward.
    right : float
        Probability that it is an anatomical right hand.
    """

    keypoints: np.ndarray
    world: np.ndarray
    right: float

    @property
    def side(self) -> float:
        """Larger side of the joints' bounding box in pixels."""
        return float(np.ptp(self.keypoints, axis=0).max())

    @property
    def centre(self) -> np.ndarray:
        """Centre (2,) of the joints' bounding box in pixels."""
        return (self.keypoints.min(axis=0) + self.keypoints.max(axis=0)) / 2

    @property
    def box(self) -> list[float]:
        """Bounding box x0, y0, x1, y1 of the joints in pixels."""
        return [round(float(v), 1) for v in (*self.keypoints.min(axis=0), *self.keypoints.max(axis=0))]


class Detector:
    """MediaPipe Hands, full and lite, on views of a photo."""

    def __init__(self) -> None:
        try:
            from mediapipe.python.solutions.hands import Hands
        except ImportError as error:  # pragma: no cover - depends on the environment
            raise SystemExit(
                "cmr_models.pseudo_label needs mediapipe==0.10.14, which is not installed here; "
                "make an environment of its own: python -m venv mp && mp/bin/pip install mediapipe==0.10.14"
            ) from error
        self._models = {
            name: Hands(
                static_image_mode=True,
                max_num_hands=2,
                model_complexity=complexity,
                min_detection_confidence=MIN_DETECTION,
            )
            for name, complexity in (("full", 1), ("lite", 0))
        }

    def __call__(self, image: np.ndarray, view: View, model: str = "full", mirrored: bool = False) -> list[Pass]:
        """Find hands in a view.

        Parameters
        ----------
        image : ndarray (H, W, 3) uint8
            RGB photo.
        view : View
            Part of it to search.
        model : {"full", "lite"}
            Landmark network.
        mirrored : bool
            Show MediaPipe the mirror image; the result is mirrored back.

        Returns
        -------
        list of Pass
            Hands in pixels of the photo.
        """
        pixels = view.render(image)
        if mirrored:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
        result = self._models[model].process(pixels)
        if not result.multi_hand_landmarks:
            return []
        found = []
        for landmarks, world, handedness in zip(
            result.multi_hand_landmarks, result.multi_hand_world_landmarks, result.multi_handedness, strict=True
        ):
            points = np.array([[p.x, p.y] for p in landmark_list(landmarks)])
            joints = np.array([[p.x, p.y, p.z] for p in landmark_list(world)])
            kind = handedness.classification[0]
            found.append(from_mediapipe(points, joints, kind.label, kind.score, view, mirrored))
        return found


def landmark_list(message: Any) -> Any:
    """Landmarks of a MediaPipe message."""
    return message.landmark


def from_mediapipe(points: np.ndarray, world: np.ndarray, label: str, score: float, view: View, mirrored: bool) -> Pass:
    """Translate MediaPipe's answer: edge-normalised points, selfie handedness, and a mirrored view if it was one.

    Parameters
    ----------
    points : ndarray (21, 2)
        Landmarks, normalised from edge to edge of what MediaPipe saw.
    world : ndarray (21, 3)
        World landmarks in metres.
    label : {"Left", "Right"}
        MediaPipe's name of the hand, which presumes a mirror image.
    score : float
        Probability of that name.
    view : View
        What MediaPipe saw, before mirroring.
    mirrored : bool
        Whether it saw the view's mirror image.
    """
    points, world = points.copy(), world - world[ROOT_JOINT]
    right = score if label == "Left" else 1.0 - score
    if mirrored:
        points[:, 0] = 1.0 - points[:, 0]
        world[:, 0] = -world[:, 0]
        right = 1.0 - right
    return Pass(view.to_image(points), world, float(right))


def view_of(image: np.ndarray) -> View:
    """Whole photo as a view; a small one is enlarged, with a margin of repeated border that the detector needs."""
    height, width = image.shape[:2]
    if min(height, width) >= SMALL_IMAGE:
        return View(0, 0, width, height, width, height)
    margin = round(0.2 * max(height, width))
    scale = ENLARGED / (max(height, width) + 2 * margin)
    x0, y0, x1, y1 = -margin, -margin, width + margin, height + margin
    return View(x0, y0, x1, y1, round((x1 - x0) * scale), round((y1 - y0) * scale))


def tile_views(image: np.ndarray) -> list[View]:
    """Overlapping square tiles of a photo for small hands, from the top; none for a photo that is itself small."""
    height, width = image.shape[:2]
    if min(height, width) < SMALL_IMAGE:
        return []
    side = round(TILE * min(height, width))
    rows, columns = (max(1, int(np.ceil(2 * (length - side) / side)) + 1) for length in (height, width))
    tops = np.linspace(0, height - side, rows).round().astype(int)
    lefts = np.linspace(0, width - side, columns).round().astype(int)
    return [View(int(x), int(y), int(x) + side, int(y) + side, side, side) for y in tops for x in lefts]


def focus_view(hand: Pass) -> View:
    """Square crop around a hand in which it is labelled."""
    half = max(8, round(FOCUS_SCALE * hand.side / 2))
    x, y = (round(float(v) + 0.5) for v in hand.centre)
    return View(x - half, y - half, x + half, y + half, FOCUS_SIZE, FOCUS_SIZE)


def same_hand(a: Pass, b: Pass) -> bool:
    """Whether two detections are one hand: their centres are close for their size."""
    return bool(np.linalg.norm(a.centre - b.centre) < SAME_HAND * max(a.side, b.side))


def mean_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance of corresponding points (N, D), in their unit."""
    return float(np.linalg.norm(a - b, axis=-1).mean())


def procrustes_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance of two point sets (N, 3) after the best similarity (rotation, scale, shift) of ``b`` onto ``a``."""
    p, q = a - a.mean(axis=0), b - b.mean(axis=0)
    u, s, vt = np.linalg.svd(q.T @ p)
    sign = np.ones(3)
    sign[-1] = np.sign(np.linalg.det(u @ vt)) or 1.0
    scale = (s * sign).sum() / max(float((q**2).sum()), 1e-12)
    return mean_distance(p, scale * q @ (u * sign) @ vt)


def curl_sign(world: np.ndarray) -> int:
    """Chirality of 3D joints from the side to which the fingers bend.

    With x right, y down, z forward, ``(index knuckle - wrist) x (little knuckle - wrist)`` points out of a right
    hand's palm, and fingers bend to the palm's side.

    Parameters
    ----------
    world : ndarray (21, 3)
        Joints in metres.

    Returns
    -------
    int
        1: a right hand; -1: a left hand; 0: the fingers are too straight to tell.
    """
    normal = np.cross(world[5] - world[0], world[17] - world[0])
    normal = normal / max(float(np.linalg.norm(normal)), 1e-12)
    bend = float(np.mean((world[list(TIPS)] - world[list(KNUCKLES)]) @ normal))
    return 0 if abs(bend) < CURL_CERTAIN else int(np.sign(bend))


def consensus(passes: list[Pass | None]) -> dict[str, Any]:
    """Judge what the full, lite and mirrored passes say about one hand.

    Parameters
    ----------
    passes : list of Pass or None
        Full, lite and mirrored full pass; None where a pass did not find the hand.

    Returns
    -------
    dict
        ``reason``: why it is rejected, or "" if it is accepted. If all passes found it also ``keypoints`` (21, 2)
        pixels, ``world`` (21, 3) metres, ``handedness``, ``score``, ``disagreement_2d`` (part of the box side) and
        ``disagreement_3d`` (metres), each disagreement the mean over the three pairs of passes.
    """
    seen = [p for p in passes if p is not None]
    if len(seen) < len(passes):
        return {"reason": "not found by every pass"}
    keypoints = np.mean([p.keypoints for p in seen], axis=0)
    side = float(np.ptp(keypoints, axis=0).max())
    pairs = [(a, b) for i, a in enumerate(seen) for b in seen[i + 1 :]]
    apart_2d = float(np.mean([mean_distance(a.keypoints, b.keypoints) for a, b in pairs])) / max(side, 1e-6)
    apart_3d = float(np.mean([procrustes_distance(a.world, b.world) for a, b in pairs]))
    right = float(np.mean([p.right for p in seen]))
    score = max(right, 1.0 - right)
    curl = curl_sign(seen[0].world)
    if side < MIN_SIDE:
        reason = "too small"
    elif len({p.right > 0.5 for p in seen}) > 1 or score < MIN_HANDEDNESS:
        reason = "handedness uncertain"
    elif curl and (curl > 0) != (right > 0.5):
        reason = "handedness against the bend of the fingers"
    elif apart_2d > MAX_DISAGREEMENT_2D:
        reason = "2D disagreement"
    elif apart_3d > MAX_DISAGREEMENT_3D:
        reason = "3D disagreement"
    else:
        reason = ""
    return {
        "reason": reason,
        "handedness": "right" if right > 0.5 else "left",
        "score": round(score, 4),
        "keypoints": keypoints.round(2).tolist(),
        "world": seen[0].world.round(5).tolist(),
        "disagreement_2d": round(apart_2d, 5),
        "disagreement_3d": round(apart_3d, 5),
    }


def search(detector: Detector, image: np.ndarray) -> list[Pass]:
    """Every hand that any search of a photo finds: whole, mirrored, and in tiles; each hand once."""
    whole = view_of(image)
    found: list[Pass] = []

    def add(hands: list[Pass]) -> None:
        found.extend(hand for hand in hands if not any(same_hand(hand, other) for other in found))

    add(detector(image, whole))
    add(detector(image, whole, mirrored=True))
    if len(found) < 2:
        for tile in tile_views(image):
            add(detector(image, tile))
    return found


def label_image(detector: Detector, image: np.ndarray) -> list[dict[str, Any]]:
    """Find and judge the hands of a photo.

    Parameters
    ----------
    detector : Detector
        Or anything that is called like one.
    image : ndarray (H, W, 3) uint8
        RGB.

    Returns
    -------
    list of dict
        One per hand found, as :func:`consensus` gives it, with ``box`` (x0, y0, x1, y1 in pixels). A hand that is found
        twice is kept once, as the label with the smaller disagreement.
    """
    hands: list[tuple[Pass, dict[str, Any]]] = []
    for candidate in search(detector, image):
        view = focus_view(candidate)
        passes = []
        for model, mirrored in (("full", False), ("lite", False), ("full", True)):
            near = [hand for hand in detector(image, view, model, mirrored) if same_hand(hand, candidate)]
            near.sort(key=lambda hand: float(np.linalg.norm(hand.centre - candidate.centre)))
            passes.append(near[0] if near else None)
        best = passes[0] or candidate
        hands.append((best, {**consensus(passes), "box": best.box}))
    hands.sort(key=lambda pair: (pair[1]["reason"] != "", pair[1].get("disagreement_2d", np.inf)))
    kept: list[tuple[Pass, dict[str, Any]]] = []
    for hand, record in hands:
        if record["reason"] == "" and any(same_hand(hand, other) for other, label in kept if label["reason"] == ""):
            record["reason"] = "found twice"
        kept.append((hand, record))
    return [record for _, record in kept]


def find_images(folder: Path) -> list[Path]:
    """Pictures below a folder, sorted."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


def load_groups(index: Path) -> dict[str, str]:
    """Read groups from a CSV with columns ``image`` and ``group``, by the last two parts of the image's path."""
    with index.open(newline="") as file:
        return {"/".join(Path(row["image"]).parts[-2:]): row["group"] for row in csv.DictReader(file)}


def group_of(path: Path, folder: Path, groups: dict[str, str]) -> str:
    """Group of a picture: as the index says, else its folder's name."""
    return groups.get("/".join(path.parts[-2:]), path.parent.relative_to(folder).as_posix() or ".")


_DETECTOR: Detector | None = None


def _work(path: Path) -> tuple[Path, int, int, list[dict[str, Any]]]:
    """Label one file in a worker process."""
    global _DETECTOR
    if _DETECTOR is None:
        cv2.setNumThreads(1)
        _DETECTOR = Detector()
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        return path, 0, 0, []
    hands = label_image(_DETECTOR, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    return path, image.shape[1], image.shape[0], hands


def label_folder(
    folder: Path, groups: dict[str, str] | None = None, workers: int = 2, every: int = 1, verbose: bool = True
) -> dict[str, Any]:
    """Label all photos below a folder.

    Parameters
    ----------
    folder : Path
        Searched recursively.
    groups : dict, optional
        Groups as :func:`load_groups` reads them.
    workers : int
        Processes.
    every : int
        Take every n-th photo only.
    verbose : bool
        Print progress.

    Returns
    -------
    dict
        ``format``, ``rule`` (the constants used), ``labels`` (accepted hands: image, width, height, group, handedness,
        score, keypoints, world, disagreement_2d, disagreement_3d) and ``detections`` ({image: [{box, reason}]}, every
        photo and every hand found, accepted or not). Paths are relative to ``folder``.
    """
    paths = find_images(folder)[::every]
    labels: list[dict[str, Any]] = []
    detections: dict[str, list[dict[str, Any]]] = {}
    begin = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers) as pool:
        for done, (path, width, height, hands) in enumerate(pool.imap(_work, paths, chunksize=8), 1):
            name = path.relative_to(folder).as_posix()
            detections[name] = [{"box": hand["box"], "reason": hand["reason"]} for hand in hands]
            about = {"image": name, "width": width, "height": height, "group": group_of(path, folder, groups or {})}
            labels.extend(
                {**about, **{key: value for key, value in hand.items() if key not in ("box", "reason")}}
                for hand in hands
                if hand["reason"] == ""
            )
            if verbose and (done % 250 == 0 or done == len(paths)):
                rate = done / (time.monotonic() - begin)
                print(f"{done}/{len(paths)} photos, {len(labels)} labels, {rate:.1f} photos/s", flush=True)
    rule = {
        "max_disagreement_2d": MAX_DISAGREEMENT_2D,
        "max_disagreement_3d_m": MAX_DISAGREEMENT_3D,
        "min_handedness": MIN_HANDEDNESS,
        "min_side_px": MIN_SIDE,
        "root_joint": ROOT_JOINT,
    }
    return {"format": FORMAT, "rule": rule, "labels": labels, "detections": detections}


def summary(result: dict[str, Any]) -> str:
    """Table of photos, labelled photos and labels per top folder, and the reasons for rejection."""
    photos = Counter(name.split("/")[0] for name in result["detections"])
    labelled = Counter(name.split("/")[0] for name in {label["image"] for label in result["labels"]})
    labels = Counter(label["image"].split("/")[0] for label in result["labels"])
    lines = [f"{'folder':<16}{'photos':>8}{'labelled':>10}{'labels':>8}"]
    lines += [f"{name:<16}{photos[name]:>8}{labelled[name]:>10}{labels[name]:>8}" for name in sorted(photos)]
    reasons = Counter(
        (name.split("/")[0], hand["reason"])
        for name, hands in result["detections"].items()
        for hand in hands
        if hand["reason"]
    )
    lines += [f"  rejected in {folder}: {count} {reason}" for (folder, reason), count in sorted(reasons.items())]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m cmr_models.pseudo_label", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="photos, searched recursively")
    parser.add_argument("out", type=Path, help="JSON file to write")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--index", type=Path, help="CSV with columns image and group")
    parser.add_argument("--every", type=int, default=1, help="take every n-th photo only")
    args = parser.parse_args(argv)
    groups = load_groups(args.index) if args.index else {}
    result = label_folder(args.folder, groups, max(1, args.workers), max(1, args.every))
    args.out.write_text(json.dumps(result, separators=(",", ":")))
    print(summary(result))


if __name__ == "__main__":
    main()
