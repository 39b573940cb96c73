# SPDX-License-Identifier: Apache-2.0
"""Tiny stand-ins for what `cmr_models.synth.bake` and `cmr_models.real_crops` write."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from cmr_models.hand import ROOT_JOINT, load_hand

FOCAL, DEPTH = 2.0, 0.6  # focal length in crop sides, metres from camera to root


def pinhole(points: np.ndarray, root: np.ndarray, size: int) -> np.ndarray:
    """Crop pixels of root-relative points (N, 3)."""
    camera = points + root
    return FOCAL * size * camera[:, :2] / camera[:, 2:] + (size - 1) / 2


def write_renderings(folder: Path, count: int, size: int, chunk: int = 32, seed: int = 0) -> Path:
    """Write turned rest hands whose picture is one white dot per joint on opaque grey inside the hand's hull."""
    random, hand = np.random.default_rng(seed), load_hand()
    template = hand.template - (hand.joint_regressor @ hand.template)[ROOT_JOINT]
    arrays = {
        "rgba": np.zeros((count, size, size, 4), np.uint8),
        "silhouette": np.zeros((count, size, size), np.uint8),
        "vertices": np.zeros((count, len(template), 3), np.float16),
        "joints": np.zeros((count, 21, 3), np.float32),
        "keypoints": np.zeros((count, 21, 2), np.float32),
        "focal": np.full(count, FOCAL * size, np.float32),
        "done": np.ones(-(-count // chunk), np.uint8),
    }
    for k in range(count):
        angle = random.uniform(0, 2 * np.pi)
        turn = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        vertices = (template @ turn).astype(np.float16)
        joints = hand.joint_regressor @ vertices.astype(np.float32)
        root = np.array([0.0, 0.0, DEPTH])
        outline = np.zeros((size, size), np.uint8)
        pixels = pinhole(vertices.astype(np.float64), root, size)
        cv2.fillConvexPoly(outline, cv2.convexHull(np.round(pixels).astype(np.int32)), 255)
        arrays["silhouette"][k] = outline
        arrays["rgba"][k] = np.dstack([outline // 2, outline // 3, outline // 4, outline])
        arrays["vertices"][k], arrays["joints"][k] = vertices, joints
        arrays["keypoints"][k] = pinhole(joints, root, size)
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    about = {"count": count, "size": size, "seed": seed, "chunk": chunk, "units": "m, px", "hand": "right"}
    (folder / "about.json").write_text(json.dumps(about))
    return folder


def write_photos(path: Path, count: int = 4, size: int = 96, seed: int = 0) -> Path:
    """Write grey crops, as many left as right hands, every fourth held out, with one dot where keypoint 8 lies."""
    random = np.random.default_rng(seed)
    jpegs, keypoints = [], []
    for _ in range(count):
        points = random.uniform(0.3 * size, 0.7 * size, (21, 2))
        keypoints.append(points)
        jpegs.append(cv2.imencode(".png", draw_dot(np.full((size, size, 3), 60, np.uint8), points[8]))[1].ravel())
    offsets = np.concatenate([[0], np.cumsum([len(j) for j in jpegs])]).astype(np.int64)
    numbers = np.arange(count)
    np.savez(
        path,
        jpeg=np.concatenate(jpegs),
        offsets=offsets,
        keypoints=np.array(keypoints, np.float32),
        world=random.standard_normal((count, 21, 3)).astype(np.float32) * 0.05,
        right=numbers % 2 == 0,
        weight=np.linspace(0.5, 1, count).astype(np.float32),
        valid=np.tile(np.float32([-0.5, -0.5, size - 0.5, size - 0.5]), (count, 1)),
        val=numbers % 4 == 3,
        group=np.array([str(k // 2) for k in numbers]),
        source=np.array([f"{k}.jpg" for k in numbers]),
        bg_jpeg=np.concatenate(jpegs),
        bg_offsets=offsets,
    )
    return path


def draw_dot(image: np.ndarray, at: np.ndarray, sigma: float = 2.0, peak: float = 180.0) -> np.ndarray:
    """Add a Gaussian dot with its centre at pixel ``at`` (x, y), sub-pixel."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    dot = peak * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * sigma**2))
    return np.clip(np.round(image + dot[..., None]), 0, 255).astype(np.uint8)


def centroid(image: np.ndarray, near: np.ndarray, radius: float = 12.0) -> np.ndarray:
    """Sub-pixel centre (x, y) of the light within a radius."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    light = image.astype(float) * ((x - near[0]) ** 2 + (y - near[1]) ** 2 < radius**2)
    return np.array([(x * light).sum(), (y * light).sum()]) / light.sum()
