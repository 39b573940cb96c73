# SPDX-License-Identifier: Apache-2.0
"""Images for calibration and parity: a folder of the user's, rendered hands, or blobs and noise."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from cmr_models.hand import load_hand
from cmr_models.stages import StagedNetwork
from cmr_models.synth import Engine, compose
from cmr_models.synth.background import draw_background
from cmr_runtime.image_io import IMAGE_SUFFIXES, read_image

__all__ = ["blobs", "calibration_images", "folder_images", "normalise", "rendered_hands", "unseen_images"]

#: Images of a folder that are used, evenly spread over it, and hands that are rendered where there is no folder.
COUNT = 64
#: Joints of a hand; the data engine renders nothing else.
HAND_JOINTS = 21


def blobs(size: int, count: int = 4, seed: int = 0) -> np.ndarray:
    """Images (count, 3, size, size) in 0..1: smooth blobs and noise, from dark to bright."""
    random = np.random.default_rng(seed)
    coarse = random.random((count, 3, 8, 8)).astype(np.float32)
    smooth = torch.nn.functional.interpolate(torch.from_numpy(coarse), size=(size, size), mode="bicubic").numpy()
    return np.clip(smooth + 0.1 * random.standard_normal(smooth.shape), 0, 1).astype(np.float32)


def rendered_hands(size: int, count: int, seed: int) -> np.ndarray:
    """Images (count, 3, size, size) in 0..1 of the data engine's hands before drawn backgrounds."""
    random = np.random.default_rng(seed)
    rgba = Engine(load_hand(), size=size, seed=seed).render(count).rgba
    behind = np.stack([draw_background(random, size) for _ in range(count)])
    return _planes(compose(rgba, torch.from_numpy(behind)).numpy())


def folder_images(folder: Path, size: int, count: int = COUNT) -> np.ndarray:
    """Images (N, 3, size, size) in 0..1 from a folder of crops, the middle square of each; N is at most ``count``.

    Raises
    ------
    ValueError
        If the folder holds no image, or one that cannot be read.
    """
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES) if folder.is_dir() else []
    if not paths:
        raise ValueError(f"--calibration {folder}: no folder with images ({', '.join(IMAGE_SUFFIXES)})")
    images = []
    for k in np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int):
        image = read_image(paths[k])
        side = min(image.shape[:2])
        top, left = ((n - side) // 2 for n in image.shape[:2])
        square = image[top : top + side, left : left + side]
        images.append(cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA))
    return _planes(np.stack(images))


def calibration_images(network: StagedNetwork, folder: Path | None) -> tuple[np.ndarray, str]:
    """Images (N, 3, S, S), normalised, that show the network what it will see, and a phrase that says what they are.

    Raises
    ------
    ValueError
        If the folder cannot be used, or the network knows no hand and there is no folder.
    """
    if folder is not None:
        images = folder_images(folder, network.size)
        return normalise(images, network), f"{len(images)} images of {folder.name}"
    if len(network.joint_parents) != HAND_JOINTS:
        raise ValueError(
            f"{network.architecture} with {len(network.joint_parents)} joints knows no hand, and nothing else can be "
            "rendered; give --calibration FOLDER with crops of what it was trained on"
        )
    return normalise(rendered_hands(network.size, COUNT, seed=100), network), f"{COUNT} rendered hands"


def unseen_images(network: StagedNetwork, count: int) -> tuple[np.ndarray, str]:
    """Images (N, 3, S, S), normalised, on which an export is compared, and a phrase that says what they are.

    Of hands where the network knows them: on pictures without one, maps are nearly zero and their sigmoids hide errors.
    They are other hands than those of `calibration_images`.
    """
    if len(network.joint_parents) != HAND_JOINTS:
        return normalise(blobs(network.size), network), "generated images"
    return normalise(rendered_hands(network.size, count, seed=7), network), f"{count} rendered hands"


def normalise(images: np.ndarray, network: StagedNetwork) -> np.ndarray:
    """From 0..1 to what the network takes."""
    mean, std = (np.asarray(v, np.float32)[:, None, None] for v in (network.mean, network.std))
    return ((images - mean) / std).astype(np.float32)


def _planes(images: np.ndarray) -> np.ndarray:
    """(N, S, S, 3) uint8 -> (N, 3, S, S) in 0..1."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32) / 255
