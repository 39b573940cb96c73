# SPDX-License-Identifier: Apache-2.0
"""Crops as one buffer of JPEGs: cut and compressed within a budget of bytes, and read back one by one."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from .view import View

__all__ = ["Job", "choose_quality", "decode", "encode_jobs", "pack", "read"]

QUALITIES = (88, 86, 84, 82, 80, 75, 70, 65, 60)
"""JPEG qualities, the best that fits is taken."""

Job = tuple[str, View]
"""Path of a photo below a folder, and what to cut out of it."""


def read(path: Path) -> np.ndarray:
    """Read a photo as BGR (H, W, 3) uint8."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise SystemExit(f"cannot read {path}: is the first argument the folder that was labelled?")
    return image


def encode(image: np.ndarray, quality: int) -> np.ndarray:
    """Compress a BGR picture to JPEG bytes (n,) uint8."""
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1])[1].ravel()


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


def pack(parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Join byte strings; return them with their offsets (n + 1,)."""
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return (np.concatenate(parts) if parts else np.zeros(0, np.uint8)), offsets


def decode(data: np.ndarray, offsets: np.ndarray, index: int) -> np.ndarray:
    """Decompress crop ``index`` of a packed buffer to RGB (S, S, 3) uint8."""
    image = cv2.imdecode(np.ascontiguousarray(data[offsets[index] : offsets[index + 1]]), cv2.IMREAD_COLOR)
    return np.ascontiguousarray(image[..., ::-1])
