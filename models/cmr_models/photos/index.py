# SPDX-License-Identifier: Apache-2.0
"""Which photos there are, and what a CSV says of them: columns ``image``, ``group``, ``hand_boxes_xyxy``.

The CSV may name photos from another root, so a photo is known by the last two parts of its path.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from .view import Box

__all__ = ["find_images", "group_of", "groups_of", "key_of", "load_boxes", "load_groups"]

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def find_images(folder: Path) -> list[Path]:
    """Pictures below a folder, sorted."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


def key_of(path: Path | str) -> str:
    """Last two parts of a photo's path."""
    return "/".join(Path(path).parts[-2:])


def load_groups(index: Path) -> dict[str, str]:
    """Read the group of each photo, by :func:`key_of`."""
    with index.open(newline="") as file:
        return {key_of(row["image"]): row["group"] for row in csv.DictReader(file)}


def load_boxes(index: Path) -> dict[str, list[Box]]:
    """Read the hand boxes of each photo, by :func:`key_of`.

    A photo whose ``hand_boxes_xyxy`` is empty is left out: nobody has marked its hands.
    """
    with index.open(newline="") as file:
        return {
            key_of(row["image"]): [tuple(box) for box in json.loads(row["hand_boxes_xyxy"])]
            for row in csv.DictReader(file)
            if row["hand_boxes_xyxy"]
        }


def group_of(name: str, groups: dict[str, str]) -> str:
    """Group of a photo, named by its path below the folder of photos: as the CSV says, else the folder it lies in."""
    return groups.get(key_of(name), Path(name).parent.as_posix())


def groups_of(labelled: dict[str, Any], groups: dict[str, str]) -> dict[str, str]:
    """Group of each photo of a file of labels, by its path: as the CSV says, else as the file does.

    Files of before state the groups of labelled photos only; of a photo whose group nobody states nothing is returned.
    """
    stated = {label["image"]: label["group"] for label in labelled["labels"]} | labelled.get("groups", {})
    listed = {name: groups[key_of(name)] for name in labelled["detections"] if key_of(name) in groups}
    return stated | listed
