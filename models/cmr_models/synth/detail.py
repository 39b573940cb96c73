# SPDX-License-Identifier: Apache-2.0
"""Drawings of the skin's details: creases, knuckle folds, veins, redness, speckle.

They are drawn over the rest pose, seen from in front (palm) and from behind (back): rest-pose x, y is the texture
coordinate, and no atlas is needed.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

__all__ = ["CHANNELS", "TEXELS", "detail_coordinates", "draw_details", "speckle_tile"]

TEXELS = 512  # side of the maps; with EXTENT 0.24 m one texel is 0.47 mm
EXTENT = 0.24  # metres
CENTRE = (0.0, -0.085)  # metres, canonical frame: about the middle of the hand with the fingers straight
CHANNELS = ("palm crease", "palm red", "back fold", "back red", "vein")
SPECKLE_TILE = 512


def _texel(points: np.ndarray) -> np.ndarray:
    return (points[..., :2] - np.array(CENTRE)) / EXTENT * TEXELS + TEXELS / 2


def detail_coordinates(rest: Tensor) -> Tensor:
    """Texture coordinates (..., 2) in texels of rest positions (..., 3) in metres."""
    return (rest[..., :2] - torch.tensor(CENTRE, device=rest.device)) / EXTENT * TEXELS + TEXELS / 2


def _line(image: np.ndarray, points: np.ndarray, width: float, value: float = 1.0) -> None:
    """Draw a smooth line through texels (N, 2), anti-aliased, keeping the darker value."""
    t = np.linspace(0, 1, 40)
    at = np.linspace(0, 1, len(points))
    degree = min(3, len(points) - 1)
    curve = np.stack([np.polyval(np.polyfit(at, points[:, k], degree), t) for k in range(2)], 1)
    layer = np.zeros_like(image)
    cv2.polylines(layer, [np.round(curve * 16).astype(np.int32)], False, value, max(1, round(width)), cv2.LINE_AA, 4)
    np.maximum(image, layer, out=image)


def _across(a: np.ndarray, b: np.ndarray, at: float, half: float, bow: float = 0.0) -> np.ndarray:
    """Three texels of a line across the bone a -> b at a fraction of its length; bow bends it towards b."""
    along = (b - a) / max(np.linalg.norm(b - a), 1e-6)
    side = np.array([-along[1], along[0]])
    middle = a + (b - a) * at
    return np.stack([middle - side * half, middle + along * bow, middle + side * half])


def _spot(image: np.ndarray, centre: np.ndarray, radius: float, value: float) -> None:
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    spot = value * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * radius**2))
    np.maximum(image, spot, out=image)


def _palm_creases(crease: np.ndarray, joints: np.ndarray) -> None:
    """Digital creases at each joint, the three large palm creases, the wrist's."""
    mm = TEXELS / EXTENT / 1000
    for finger in range(5):
        chain = joints[1 + 4 * finger : 5 + 4 * finger]
        for k in (1, 2):
            for shift, value in ((-0.03, 0.9), (0.04, 0.7)):
                _line(crease, _across(chain[k], chain[k + 1], shift, 7.5 * mm), 1.6, value)
        if finger:
            _line(crease, _across(chain[0], chain[1], 0.47, 8 * mm), 2.0, 1.0)
        else:
            _line(crease, _across(chain[1], chain[2], -0.25, 9 * mm), 1.5, 0.7)
    wrist, thumb = joints[0], joints[2]
    index, middle, ring, little = (joints[k] for k in (5, 9, 13, 17))
    edge = little + (little - ring) * 0.5
    heart = [edge + (wrist - edge) * 0.16, ring + (wrist - ring) * 0.2, middle + (wrist - middle) * 0.12]
    heart.append((index + middle) / 2 + (index - wrist) * 0.04)
    start = index + (thumb - index) * 0.28
    head = [start, middle + (wrist - middle) * 0.3, ring + (wrist - ring) * 0.42, little + (wrist - little) * 0.5]
    life = [start, index + (wrist - index) * 0.35 + (middle - index) * 0.35, middle + (wrist - middle) * 0.68]
    life.append(wrist + (thumb - wrist) * 0.12 + (middle - wrist) * 0.06)
    for line, width in ((heart, 2.2), (head, 2.0), (life, 2.4)):
        _line(crease, np.array(line), width, 1.0)
    for shift in (-0.04, -0.10):
        _line(crease, _across(wrist, middle, shift, 24 * mm, 2 * mm), 1.6, 0.8)


def _back_folds(fold: np.ndarray, joints: np.ndarray) -> None:
    """Folds of the skin over the finger joints and, softer, the knuckles."""
    mm = TEXELS / EXTENT / 1000
    for finger in range(5):
        chain = joints[1 + 4 * finger : 5 + 4 * finger]
        for k, spread, half in ((1, 0.09, 6.5), (2, 0.07, 5.5)):
            for n, at in enumerate(np.linspace(-spread, spread, 4)):
                bow = (at / spread) * 2.5 * mm
                _line(fold, _across(chain[k], chain[k + 1], at, half * mm, bow), 1, 0.9 if n in (1, 2) else 0.6)


def _veins(vein: np.ndarray, joints: np.ndarray) -> None:
    wrist = joints[0]
    for a, b, bend in ((5, 9, 0.1), (9, 13, -0.12), (13, 17, 0.1)):
        end = (joints[a] + joints[b]) / 2
        middle = wrist + (end - wrist) * 0.55 + (joints[b] - joints[a]) * bend
        start = wrist + (joints[b] - joints[9]) * 0.25
        _line(vein, np.stack([end, middle, start]), 5, 1.0)


def draw_details(joints: np.ndarray) -> Tensor:
    """Draw the maps for a hand whose rest joints are (21, 3) metres, canonical frame.

    Returns
    -------
    Tensor
        (TEXELS * TEXELS, 5) float32 in 0..1, row-major; columns as `CHANNELS`.
    """
    points = _texel(np.asarray(joints, np.float64))
    mm = TEXELS / EXTENT / 1000
    maps = {name: np.zeros((TEXELS, TEXELS), np.float32) for name in CHANNELS}
    _palm_creases(maps["palm crease"], points)
    _back_folds(maps["back fold"], points)
    _veins(maps["vein"], points)
    for finger in range(5):
        chain = points[1 + 4 * finger : 5 + 4 * finger]
        _spot(maps["palm red"], chain[3], 9 * mm, 1.0)
        _spot(maps["back red"], chain[3], 7 * mm, 0.6)
        for k, value in ((0, 0.8), (1, 0.9), (2, 0.6)):
            _spot(maps["back red"], chain[k], 7 * mm, value if finger or k else 0.3)
            _spot(maps["palm red"], chain[k], 8 * mm, 0.45)
    for centre in (points[2] * 0.6 + points[0] * 0.4, points[17] * 0.4 + points[0] * 0.6):
        _spot(maps["palm red"], centre, 14 * mm, 0.7)
    for name, sigma in (("palm crease", 0.7), ("back fold", 0.7), ("vein", 3.0)):
        maps[name] = cv2.GaussianBlur(maps[name], (0, 0), sigma)
    return torch.from_numpy(np.stack([maps[name] for name in CHANNELS], -1).reshape(-1, len(CHANNELS)))


def speckle_tile(seed: int = 7) -> Tensor:
    """Tileable noise (SPECKLE_TILE ** 2, 3), unit variance: blotches, mottling, grain."""
    random = np.random.default_rng(seed)
    layers = []
    for sigma in (22.0, 6.0, 1.1):
        spectrum = np.fft.rfft2(random.standard_normal((SPECKLE_TILE, SPECKLE_TILE)))
        fy, fx = np.fft.fftfreq(SPECKLE_TILE)[:, None], np.fft.rfftfreq(SPECKLE_TILE)[None]
        layer = np.fft.irfft2(spectrum * np.exp(-2 * (np.pi * sigma) ** 2 * (fx**2 + fy**2)))
        layers.append((layer - layer.mean()) / layer.std())
    return torch.from_numpy(np.stack(layers, -1).reshape(-1, 3).astype(np.float32))
