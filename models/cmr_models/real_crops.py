# SPDX-License-Identifier: Apache-2.0
"""Bake labelled crops of real hands, and hand-free crops of the same frames, into one file for training.

``python -m cmr_models.real_crops DIR LABELS.json OUT.npz [--boxes CSV]`` reads the photos and what
:mod:`cmr_models.pseudo_label` said about them. Groups are the CSV's, else those that the labels state, for hands and
backgrounds alike. The archive holds

==============  ======================  =====================================================================
array           shape, type             content
==============  ======================  =====================================================================
jpeg            (bytes,) uint8          all hand crops, JPEG after JPEG
offsets         (N + 1,) int64          crop ``i`` is ``jpeg[offsets[i]:offsets[i + 1]]`` (:mod:`.photos.jpeg`)
keypoints       (N, 21, 2) float32      joints in pixels of the crop, centre of the top-left pixel at (0, 0)
world           (N, 21, 3) float32      joints in metres relative to joint 9, x right, y down, z forward; up to
                                        similarity only; a left hand is a left hand (nothing is mirrored)
right           (N,) bool               anatomical right hand
weight          (N,) float32            trust, 0 to 1, from the agreement of the passes (:mod:`.photos.crops`)
disagreement    (N, 2) float32          the disagreement itself: 2D as a part of the box side, 3D in metres
valid           (N, 4) float32          x0, y0, x1, y1 in crop pixels: inside it lies photo, outside repeated border
group, source   (N,) str                group of the photo; its path
val             (N,) bool               held out: never train on these
bg_jpeg         (bytes,) uint8          all background crops
bg_offsets      (M + 1,) int64          as ``offsets``
bg_group        (M,) str                group of the frame
bg_val          (M,) bool               held out
==============  ======================  =====================================================================
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from .photos.backgrounds import plan_backgrounds
from .photos.crops import hand_view, label_arrays
from .photos.held_out import VAL_GROUPS, VAL_SPLIT, held_out
from .photos.index import groups_of, load_boxes, load_groups
from .photos.jpeg import choose_quality, encode_jobs, pack
from .photos.view import Box

__all__ = ["bake", "main"]

LIMIT_MB = 56.0
"""Largest archive in 10^6 bytes."""


def bake(
    folder: Path,
    labelled: dict[str, Any],
    boxes: dict[str, list[Box]],
    groups: dict[str, str] | None = None,
    size: int = 320,
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
        Hand boxes as :func:`~.photos.index.load_boxes` reads them.
    groups : dict, optional
        Groups of photos, as :func:`~.photos.index.load_groups` reads them; they go before those of ``labelled``.
    size, bg_size : int
        Sides in pixels of hand crops and backgrounds.
    backgrounds : int
        Number wanted.
    limit_mb : float
        Largest archive in 10^6 bytes; JPEG quality follows from it.
    seed : int
        Of backgrounds and held-out runs.
    skip_groups : str
        Leave out groups whose name begins so, hands and backgrounds; "" for none.

    Returns
    -------
    dict of ndarray
        The arrays of the table in the module's description, and ``quality`` () int32.

    Raises
    ------
    SystemExit
        If no group begins with ``skip_groups``, or a photo cannot be read.
    """
    group_of = groups_of(labelled, groups or {})
    if skip_groups:
        kept = {name: group for name, group in group_of.items() if not group.startswith(skip_groups)}
        if len(kept) == len(group_of):
            some = ", ".join(sorted({*group_of.values()})[:8])
            raise SystemExit(f"--skip-groups {skip_groups}: no group begins so; there are {some}; is --boxes missing?")
        group_of = kept
    detections = {name: hands for name, hands in labelled["detections"].items() if name in group_of}
    labels = [{**la, "group": group_of[la["image"]]} for la in labelled["labels"] if la["image"] in group_of]
    labels.sort(key=lambda label: label["image"])
    jobs = [(label["image"], hand_view(np.array(label["keypoints"], np.float64), size)) for label in labels]
    bg_jobs = plan_backgrounds(folder, detections, boxes, VAL_SPLIT, backgrounds, bg_size, seed)
    fixed = len(labels) * 21 * 5 * 4  # bytes of the joints
    quality = choose_quality(folder, jobs + bg_jobs, 0.98 * limit_mb * 1e6 - fixed)
    jpeg, offsets = pack(encode_jobs(folder, jobs, quality))
    bg_jpeg, bg_offsets = pack(encode_jobs(folder, bg_jobs, quality))
    bg_groups = [group_of[name] for name, _ in bg_jobs]
    return {
        "jpeg": jpeg,
        "offsets": offsets,
        **label_arrays(labels, [view for _, view in jobs]),
        "val": held_out([label["image"] for label in labels], [label["group"] for label in labels], seed),
        "bg_jpeg": bg_jpeg,
        "bg_offsets": bg_offsets,
        "bg_group": np.array(bg_groups, str),
        "bg_val": np.array([group in VAL_GROUPS for group in bg_groups], bool),
        "quality": np.int32(quality),
    }


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m cmr_models.real_crops", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="photos that were labelled")
    parser.add_argument("labels", type=Path, help="JSON file of cmr_models.pseudo_label")
    parser.add_argument("out", type=Path, help="NPZ file to write")
    parser.add_argument("--boxes", type=Path, help="CSV with columns image, group, hand_boxes_xyxy")
    parser.add_argument("--size", type=int, default=320, help="side of a hand crop in pixels (default 320)")
    parser.add_argument("--backgrounds", type=int, default=4000, help="background crops wanted (default 4000)")
    parser.add_argument("--bg-size", type=int, default=160, help="side of a background in pixels (default 160)")
    parser.add_argument("--limit-mb", type=float, default=LIMIT_MB, help="largest archive in MB (default 56)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip-groups", default="", metavar="PREFIX", help="leave out groups whose name begins so")
    args = parser.parse_args(argv)
    boxes, groups = (load_boxes(args.boxes), load_groups(args.boxes)) if args.boxes else ({}, {})
    data = bake(
        args.folder,
        json.loads(args.labels.read_text()),
        boxes,
        groups,
        size=args.size,
        backgrounds=args.backgrounds,
        bg_size=args.bg_size,
        limit_mb=args.limit_mb,
        seed=args.seed,
        skip_groups=args.skip_groups,
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
