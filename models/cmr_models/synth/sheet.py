# SPDX-License-Identifier: Apache-2.0
"""A contact sheet of training samples with their labels: ``python -m cmr_models.synth.sheet OUT.png --count 48``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from ..hand import JOINT_PARENTS, load_hand
from .background import Backgrounds
from .camera_noise import degrade
from .engine import Batch, Engine, compose
from .rng import Rng

__all__ = ["draw_labels", "main", "mirror", "sheet"]

FINGER_COLOURS = ((230, 60, 60), (240, 170, 30), (60, 190, 60), (50, 130, 240), (170, 70, 220))
ZOOM = 2


def mirror(images: np.ndarray, keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mirror images (N, H, W, ...) and keypoints (N, K, 2): a right hand becomes a left one."""
    flipped = keypoints.copy()
    flipped[..., 0] = images.shape[2] - 1 - keypoints[..., 0]
    return np.ascontiguousarray(images[:, :, ::-1]), flipped


def draw_labels(
    image: np.ndarray, keypoints: np.ndarray, silhouette: np.ndarray, points: np.ndarray, visible: np.ndarray, text: str
) -> np.ndarray:
    """Draw skeleton (21, 2), contour of the silhouette (S, S), mesh points (V, 2) and caption on an enlarged image."""
    canvas = cv2.resize(image, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_LINEAR)
    fixed = 4  # binary digits of OpenCV's fixed-point coordinates

    def at(point: np.ndarray) -> tuple[int, int]:
        x, y = ((point + 0.5) * ZOOM - 0.5) * 2**fixed
        return round(float(x)), round(float(y))

    for point in points:
        x, y = np.round((point + 0.5) * ZOOM - 0.5).astype(int)
        if 0 <= x < canvas.shape[1] and 0 <= y < canvas.shape[0]:
            canvas[y, x] = canvas[y, x] // 2 + np.array([90, 127, 127], np.uint8)
    mask = cv2.resize(silhouette, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_LINEAR)
    contours = cv2.findContours((mask > 127).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]
    cv2.drawContours(canvas, contours, -1, (0, 255, 255), 1)
    for joint in range(1, 21):
        colour = FINGER_COLOURS[(joint - 1) // 4]
        parent = int(JOINT_PARENTS[joint])
        cv2.line(canvas, at(keypoints[parent]), at(keypoints[joint]), colour, 1, cv2.LINE_AA, fixed)
        cv2.circle(canvas, at(keypoints[joint]), 3 << fixed, colour, -1 if visible[joint] else 1, cv2.LINE_AA, fixed)
    cv2.rectangle(canvas, (0, 0), (canvas.shape[1], 15), (0, 0, 0), -1)
    cv2.putText(canvas, text, (3, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    return canvas


def sheet(batch: Batch, images: np.ndarray, columns: int, labels: bool = True) -> np.ndarray:
    """Arrange composed images (N, S, S, 3) with their labels; every other one is shown as a left hand."""
    size = images.shape[1]
    points = batch.vertices + batch.root[:, None]
    points = points[..., :2] / points[..., 2:] * batch.focal[:, None, None] + (size - 1) / 2
    cells = []
    for i in range(len(images)):
        image, mask = images[i], batch.silhouette[i].numpy()
        two = np.concatenate([batch.keypoints[i].numpy(), points[i].numpy()])
        if i % 2:
            (image,), (two,) = mirror(image[None], two[None])
            mask = np.ascontiguousarray(mask[:, ::-1])
        text = f"{'left' if i % 2 else 'right'} hand {batch.root[i, 2]:.2f} m f {batch.focal[i] / size:.1f}"
        if labels:
            cells.append(draw_labels(image, two[:21], mask, two[21:], batch.visible[i].numpy(), text))
        else:
            cells.append(cv2.resize(image, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_LINEAR))
    cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    return np.concatenate([np.concatenate(cells[k : k + columns], 1) for k in range(0, len(cells), columns)])


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m cmr_models.synth.sheet", description=__doc__.split(":")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--backgrounds", type=Path, help="npz with bg_jpeg and bg_offsets")
    parser.add_argument("--plain", action="store_true", help="draw no labels")
    args = parser.parse_args(argv)
    batch = Engine(load_hand(), args.size, seed=args.seed).render(args.count)
    back = torch.from_numpy(Backgrounds(args.backgrounds, args.seed).sample(args.count, args.size))
    images = degrade(Rng(args.seed, 1), compose(batch.rgba, back))
    drawn = sheet(batch, images.numpy(), args.columns, not args.plain)
    try:
        done = cv2.imwrite(str(args.out), cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    except cv2.error:  # a suffix that it does not know
        done = False
    if not done:
        raise SystemExit(f"{args.out} cannot be written: give a name in .png or .jpg in a folder that is there")
    print(args.out)


if __name__ == "__main__":
    main()
