# SPDX-License-Identifier: Apache-2.0
"""Weak labels for photos: MediaPipe Hands, kept where its full, lite and mirrored passes agree.

``python -m cmr_models.pseudo_label DIR OUT.json [--workers 2] [--index CSV]`` needs NumPy, OpenCV and
``mediapipe==0.10.14`` only.

Every photo is searched for hands (:mod:`.photos.search`). Each hand found is cropped with a margin and labelled three
times: by the full model, by the lite model, and by the full model on the mirrored crop (:mod:`.photos.label`). A hand
becomes a label if the three passes agree (:mod:`.photos.agreement`).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import cv2

from .photos.agreement import RULE
from .photos.index import find_images, group_of, load_groups
from .photos.label import label_image
from .photos.passes import Detector, hands_class

__all__ = ["label_folder", "main", "summary"]

FORMAT = 1


@cache
def detector() -> Detector:
    """MediaPipe of this process."""
    cv2.setNumThreads(1)
    return Detector()


def label_file(path: Path) -> tuple[Path, int, int, list[dict[str, Any]]]:
    """Label one file: its path, width and height (0 if it cannot be read), hands."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        return path, 0, 0, []
    return path, image.shape[1], image.shape[0], label_image(detector(), cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def label_folder(
    folder: Path, groups: dict[str, str] | None = None, workers: int = 2, every: int = 1
) -> dict[str, Any]:
    """Label all photos below a folder, and print progress.

    Parameters
    ----------
    folder : Path
        Searched recursively.
    groups : dict, optional
        Groups as :func:`~.photos.index.load_groups` reads them.
    workers : int
        Processes.
    every : int
        Take every n-th photo only.

    Returns
    -------
    dict
        ``format``, ``rule`` (the constants used), ``labels`` (accepted hands: image, width, height, group, handedness,
        score, keypoints, world, disagreement_2d, disagreement_3d), ``detections`` ({image: [{box, reason}]}, every
        photo and every hand found, accepted or not) and ``groups`` ({image: group}, every photo). Paths are relative to
        ``folder``.
    """
    paths = find_images(folder)[::every]
    labels: list[dict[str, Any]] = []
    detections: dict[str, list[dict[str, Any]]] = {}
    of_photo: dict[str, str] = {}
    begin = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for done, (path, width, height, hands) in enumerate(pool.imap(label_file, paths, chunksize=8), 1):
            name = path.relative_to(folder).as_posix()
            of_photo[name] = group_of(name, groups or {})
            about = {"image": name, "width": width, "height": height, "group": of_photo[name]}
            found = [(hand.pop("box"), hand.pop("reason"), hand) for hand in hands]
            detections[name] = [{"box": box, "reason": reason} for box, reason, _ in found]
            labels.extend({**about, **label} for _, reason, label in found if reason == "")
            if done % 250 == 0 or done == len(paths):
                rate = done / (time.monotonic() - begin)
                print(f"{done}/{len(paths)} photos, {len(labels)} labels, {rate:.1f} photos/s", flush=True)
    return {"format": FORMAT, "rule": RULE, "labels": labels, "detections": detections, "groups": of_photo}


def summary(result: dict[str, Any]) -> str:
    """Table of photos, labelled photos and labels per top folder, and the reasons for rejection."""

    def top(name: str) -> str:
        return name.split("/")[0]

    photos = Counter(top(name) for name in result["detections"])
    labelled = Counter(top(name) for name in {label["image"] for label in result["labels"]})
    labels = Counter(top(label["image"]) for label in result["labels"])
    reasons = Counter(
        (top(name), hand["reason"]) for name, hands in result["detections"].items() for hand in hands if hand["reason"]
    )
    lines = [f"{'folder':<16}{'photos':>8}{'labelled':>10}{'labels':>8}"]
    lines += [f"{name:<16}{photos[name]:>8}{labelled[name]:>10}{labels[name]:>8}" for name in sorted(photos)]
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
    hands_class()  # not first in a process of the pool, which would be begun again for ever
    groups = load_groups(args.index) if args.index else {}
    result = label_folder(args.folder, groups, max(1, args.workers), max(1, args.every))
    args.out.write_text(json.dumps(result, separators=(",", ":")))
    print(summary(result))


if __name__ == "__main__":
    main()
