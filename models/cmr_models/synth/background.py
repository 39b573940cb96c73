# SPDX-License-Identifier: Apache-2.0
"""What lies behind the hand: drawn at random, or cut from a bank of photographs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

__all__ = ["PHOTO_SHARE", "Backgrounds", "draw_background"]

PHOTO_SHARE = 0.75  # of the backgrounds, when there is a bank
KINDS = {"plain": 0.16, "gradient": 0.16, "clouds": 0.24, "blobs": 0.2, "clutter": 0.24}


def _colour(random: np.random.Generator) -> np.ndarray:
    """Draw a colour (3,) 0..255, as often greyish as colourful; sometimes skin-like, which must not mean a hand."""
    kind = random.random()
    if kind < 0.4:
        return np.clip(random.uniform(0, 255) + random.normal(0, 8, 3), 0, 255)
    if kind < 0.6:
        return np.clip(np.array([215, 165, 135]) * random.uniform(0.25, 1.15) + random.normal(0, 10, 3), 0, 255)
    return random.uniform(0, 255, 3)


def plain(random: np.random.Generator, size: int) -> np.ndarray:
    """One colour, half of them near white, with vignetting."""
    colour = random.uniform(200, 255) * np.ones(3) if random.random() < 0.5 else _colour(random)
    at = np.linspace(-1, 1, size)
    fall = 1 - random.uniform(0, 0.35) * (at[None] ** 2 + at[:, None] ** 2) / 2
    return colour * fall[..., None]


def gradient(random: np.random.Generator, size: int) -> np.ndarray:
    """Blend two colours along a line, as light does on walls."""
    angle, at = random.uniform(0, 2 * np.pi), np.linspace(-0.7, 0.7, size)
    t = np.clip(0.5 + np.cos(angle) * at[None] + np.sin(angle) * at[:, None], 0, 1)[..., None]
    return _colour(random) * (1 - t) + _colour(random) * t


def clouds(random: np.random.Generator, size: int) -> np.ndarray:
    """Noise of several octaves between two or three colours."""
    noise = np.zeros((size, size))
    for octave in range(random.integers(2, 6)):
        cells = 2 + 2**octave
        layer = cv2.resize(random.standard_normal((cells, cells)), (size, size), interpolation=cv2.INTER_CUBIC)
        noise += layer * random.uniform(0.4, 0.8) ** octave
    noise = (noise - noise.min()) / np.ptp(noise).clip(1e-6)
    knots = np.stack([_colour(random) for _ in range(3)])
    return np.stack([np.interp(noise, [0, 0.5, 1], knots[:, k]) for k in range(3)], -1)


def blobs(random: np.random.Generator, size: int) -> np.ndarray:
    """Soft ellipses: a room out of focus."""
    image = gradient(random, size).astype(np.float32)
    for _ in range(random.integers(3, 14)):
        centre, axes = random.uniform(0, size, 2).astype(int), random.uniform(0.05, 0.45, 2) * size
        box = (tuple(map(float, centre)), tuple(map(float, 2 * axes)), float(random.uniform(0, 360)))
        cv2.ellipse(image, box, _colour(random).tolist(), -1, cv2.LINE_AA)
    return cv2.GaussianBlur(image, (0, 0), random.uniform(0.5, 0.06 * size))


def clutter(random: np.random.Generator, size: int) -> np.ndarray:
    """Polygons, lines, stripes and finger-like bars: edges that are no hand's."""
    image = np.ascontiguousarray((clouds if random.random() < 0.5 else gradient)(random, size), np.float32)
    for _ in range(random.integers(4, 24)):
        colour = _colour(random).tolist()
        a, b = random.uniform(-0.2, 1.2, (2, 2)) * size
        kind = random.integers(4)
        if kind == 0:
            corners = a + random.normal(0, 0.2 * size, (random.integers(3, 6), 2))
            cv2.fillPoly(image, [cv2.convexHull(corners.astype(np.int32))], colour, cv2.LINE_AA)
        elif kind == 1:
            cv2.line(image, tuple(a.astype(int).tolist()), tuple(b.astype(int).tolist()), colour, 1, cv2.LINE_AA)
        elif kind == 2:
            width = int(random.uniform(0.02, 0.15) * size) + 1
            cv2.line(image, tuple(a.astype(int).tolist()), tuple(b.astype(int).tolist()), colour, width, cv2.LINE_AA)
        else:
            cv2.circle(image, tuple(a.astype(int).tolist()), int(random.uniform(0.02, 0.25) * size), colour, -1)
    blur = random.uniform(0, 2.5)
    return cv2.GaussianBlur(image, (0, 0), blur) if blur > 0.4 else image


def draw_background(random: np.random.Generator, size: int) -> np.ndarray:
    """Draw one background (size, size, 3) RGB uint8."""
    kinds = {"plain": plain, "gradient": gradient, "clouds": clouds, "blobs": blobs, "clutter": clutter}
    weights = np.array(list(KINDS.values()))
    image = kinds[list(KINDS)[random.choice(len(KINDS), p=weights / weights.sum())]](random, size)
    image = image + random.normal(0, random.uniform(0, 4), image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


class Backgrounds:
    """A source of backgrounds.

    Parameters
    ----------
    bank : Path or None
        npz with ``bg_jpeg`` uint8 (all JPEG files end to end), ``bg_offsets`` int64 (N + 1, or N starts), and
        ``bg_val`` bool (N,) where some are held out.
    seed : int
        Seed.
    val : bool
        Those held out, in the place of all others.
    """

    def __init__(self, bank: str | Path | None = None, seed: int = 0, val: bool = False) -> None:
        self._random = np.random.default_rng(seed)
        self._bytes, self._offsets = None, np.zeros(1, np.int64)
        self._index = np.zeros(0, np.int64)
        if bank is not None:
            with np.load(bank) as data:
                self._bytes, offsets = data["bg_jpeg"], data["bg_offsets"].astype(np.int64)
                held_out = data.get("bg_val")
            end = [len(self._bytes)] if offsets[-1] < len(self._bytes) else []
            self._offsets = np.concatenate([offsets, end]).astype(np.int64)
            every = np.zeros(len(self._offsets) - 1, bool) if held_out is None else held_out
            self._index = np.flatnonzero(every == val)

    def __len__(self) -> int:
        """Count the photographs of the bank that are used."""
        return len(self._index)

    def photo(self, size: int) -> np.ndarray:
        """Cut a random square, turned and mirrored, out of a random photograph."""
        random = self._random
        index = self._index[random.integers(len(self))]
        data = self._bytes[self._offsets[index] : self._offsets[index + 1]]
        image = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        shortest = min(image.shape[:2])
        side = shortest * random.uniform(min(0.5, 64 / shortest), 1.0)
        centre = [random.uniform(side / 2, n - side / 2) for n in image.shape[1::-1]]
        angle, scale = random.choice([0, 0, 0, 90, 180, 270]) + random.normal(0, 6), size / side
        matrix = cv2.getRotationMatrix2D(centre, float(angle), scale)
        matrix[:, 2] += size / 2 - np.array(centre)
        image = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        return np.ascontiguousarray(image[:, ::-1]) if random.random() < 0.5 else image

    def sample(self, count: int, size: int) -> np.ndarray:
        """Backgrounds (count, size, size, 3) RGB uint8."""
        images = []
        for _ in range(count):
            photo = len(self) > 0 and self._random.random() < PHOTO_SHARE
            images.append(self.photo(size) if photo else draw_background(self._random, size))
        return np.stack(images) if images else np.zeros((0, size, size, 3), np.uint8)
