# SPDX-License-Identifier: Apache-2.0
"""Training batches: rendered hands on fresh backgrounds, labelled photos, hand-free pictures; all augmented.

A batch depends on the seed and its number only, so that a resumed run sees what an uninterrupted one would see.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from cmr_runtime.roi import Roi

from .last_frame import last_frames
from .photos.cover import cover
from .photos.jpeg import decode
from .recut import recut, rotate_z, turn_of, warp
from .second_hand import join, over, second_hand
from .synth.background import Backgrounds
from .synth.camera_noise import degrade
from .synth.rng import Rng

__all__ = ["Batches", "Mix", "Photos", "Renderings", "collate"]


#: Side of a photo's crop in sides of the joints' box: from tighter than the tracker's to as wide as a caller's may be.
PHOTO_SIDE = (1.15, 2.8)
#: Standard deviation of the blur before a picture is shrunk: of output pixels, less that of a pixel itself.
ALIASED = 0.5
#: Files of `Folder`, in its order.
FILES = ("rgba", "silhouette", "vertices", "keypoints", "focal")


@dataclass(frozen=True)
class Mix:
    """What a batch is made of and how far it is augmented."""

    rendered: int = 14
    photos: int = 12
    empty: int = 6
    mirrored: float = 0.25  # share shown as left hands: presence, handedness and 2D cues only
    tracked: float = 0.7  # share cut as the tracker cuts a hand that it has seen
    lean: float = 0.2  # standard deviation of its turn from upright there, radians
    side: tuple[float, float] = (1.3, 1.8)  # of the crop there, in sides of the joints' box
    off: float = 0.06  # largest shift there, in crop sides
    zoomed: float = 0.3  # share of the other renderings seen from farther, turned and shifted
    zoom: tuple[float, float] = (0.45, 1.1)
    turn: float = 0.5  # standard deviation of in-plane rotation, radians
    shift: float = 0.1  # largest shift, in crop sides
    softened: float = 0.5  # share of renderings blurred before they are laid over a background: they are too sharp
    soft: tuple[float, float] = (0.3, 1.2)  # standard deviation of that blur, pixels
    covered: float = 0.35  # share of photos with something laid over the hand
    second: float = 0.15  # share of renderings with another hand behind, beside or a little before the labelled one
    second_photos: float = 0.08  # share of photos with a rendered hand beside or a little before the labelled one
    recalled: float = 0.5  # share of samples whose mesh stage is given cues of a last frame, see `last_frame`
    # How the hand moved in its crop since then, standard deviations: crop sides, radians, logarithm of the size.
    moved: tuple[float, float, float] = (0.02, 0.05, 0.04)
    fingers: float = 0.01  # each finger by itself, crop sides
    jumps: float = 0.1  # share that moved three times as far
    wrong: float = 0.05  # share whose last frame showed another hand

    def times(self, factor: int) -> Mix:
        """Return the same mixture in batches so many times as large."""
        counts = {name: factor * getattr(self, name) for name in ("rendered", "photos", "empty")}
        return replace(self, **counts)

    def part(self, parts: int) -> Mix:
        """Return the same mixture in batches so many times smaller; ValueError if its counts cannot be so divided."""
        counts = {name: getattr(self, name) for name in ("rendered", "photos", "empty")}
        if any(count % parts for count in counts.values()):
            raise ValueError(f"a batch of {counts} cannot be divided by {parts}; need a divisor of each count")
        return replace(self, **{name: count // parts for name, count in counts.items()})


@dataclass
class Sample:
    """One image with its labels; arrays are zero where a label is absent."""

    image: np.ndarray  # (S, S, 3) uint8
    keypoints: np.ndarray = field(default_factory=lambda: np.zeros((21, 2), np.float32))  # crop pixels
    silhouette: np.ndarray | None = None  # (S, S) uint8
    vertices: np.ndarray | None = None  # (V, 3) metres, right hand
    world: np.ndarray = field(default_factory=lambda: np.zeros((21, 3), np.float32))  # up to similarity
    weight: float = 0.0  # of the photo's labels
    focal: float = 0.0  # of a rendering's crop, pixels
    present: bool = False
    right: bool = True


def tracked(keypoints: np.ndarray, mix: Mix, size: int, random: np.random.Generator) -> np.ndarray:
    """Affine map (2, 3) to a crop as the tracker cuts it: the hand upright, but for what it moved since."""
    side = np.exp(random.uniform(*np.log(mix.side)))
    angle = Roi.upright(keypoints, side, random.normal(0, mix.turn)).angle + random.normal(0, mix.lean)
    matrix = Roi.around(keypoints, side, angle).matrix(size)
    matrix[:, 2] += random.uniform(-1, 1, 2) * mix.off * size
    return matrix


def leaves(keypoints: np.ndarray, outline: np.ndarray) -> bool:
    """Whether a hand leaves its picture: a joint lies beyond it, or the outline (S, S) reaches its border.

    What is beyond is then as black as beyond the edge of a camera's image; a background there would show a hand that
    ends where it is cut.
    """
    border = np.concatenate([outline[0], outline[-1], outline[:, 0], outline[:, -1]])
    return bool((np.abs(keypoints - (len(outline) - 1) / 2) > len(outline) / 2).any() or border.max() > 127)


class Folder(NamedTuple):
    """What training reads of a folder written by `cmr_models.synth.bake`, one row for a hand."""

    rgba: np.ndarray
    outline: np.ndarray
    vertices: np.ndarray
    keypoints: np.ndarray
    focal: np.ndarray
    done: np.ndarray  # rows that are written

    @classmethod
    def open(cls, path: Path) -> Folder:
        """Map its files into memory."""
        chunk = json.loads((path / "about.json").read_text())["chunk"]  # the last one may be shorter
        rows = [np.load(path / f"{name}.npy", mmap_mode="r") for name in FILES]
        return cls(*rows, np.flatnonzero(np.repeat(np.load(path / "done.npy"), chunk)[: len(rows[0])]))


class Renderings:
    """Samples from folders written by `cmr_models.synth.bake`; of each, rows ``first`` to ``last`` that are written."""

    def __init__(self, *folders: Path, first: int = 0, last: int | None = None) -> None:
        self._paths = folders
        self.folders, index = [Folder.open(folder) for folder in folders], []
        for number, folder in enumerate(self.folders):
            done = folder.done[(folder.done >= first) & (folder.done < (len(folder.rgba) if last is None else last))]
            index.append(np.stack([np.full_like(done, number), done], 1))
        self.index = np.concatenate(index)

    def __getstate__(self) -> dict[str, object]:
        """Leave the mapped files out: pickled for another process, they would be copied into its memory."""
        return {"_paths": self._paths, "index": self.index}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Map the files anew."""
        self.__dict__.update(state)
        self.folders = [Folder.open(folder) for folder in self._paths]

    def __len__(self) -> int:
        """Return the number of rendered hands."""
        return len(self.index)

    def layer(self, index: int, blur: float) -> tuple[np.ndarray, np.ndarray]:
        """Picture of a hand (H, W, 4) float32, colour times alpha, blurred by so many pixels; joints (21, 2) there."""
        number, k = self.index[index]
        rgba = self.folders[number].rgba[k]
        layer = np.dstack([rgba[..., :3] * (rgba[..., 3:] / np.float32(255)), rgba[..., 3:].astype(np.float32)])
        return cv2.GaussianBlur(layer, (0, 0), blur) if blur else layer, self.folders[number].keypoints[k].copy()

    def sample(
        self, index: int, background: np.ndarray, mix: Mix, random: np.random.Generator, second: int | None = None
    ) -> Sample:
        """Lay one rendered hand, and a ``second`` one, over a background, as baked, as tracked, or moved at random."""
        number, k = self.index[index]
        folder, size = self.folders[number], len(background)
        outline, vertices = folder.outline[k], folder.vertices[k].astype(np.float32)
        blur = random.uniform(*mix.soft) if random.random() < mix.softened else 0.0
        keypoints, focal, side = folder.keypoints[k].copy(), float(folder.focal[k]), len(outline)
        matrix = None
        if random.random() < mix.tracked:
            matrix = tracked(keypoints, mix, size, random)
        elif random.random() < mix.zoomed:
            zoom = np.exp(random.uniform(*np.log(mix.zoom))) * size / side
            shift = random.uniform(-1, 1, 2) * mix.shift * size
            matrix = warp(size, random.normal(0, mix.turn), zoom, np.full(2, (side - 1) / 2), shift)
        elif size != side:
            matrix = warp(size, 0.0, size / side, np.full(2, (side - 1) / 2), np.zeros(2))
        shown, scale = np.float32(1), 1.0 if matrix is None else float(np.hypot(*matrix[:, 0]))
        layer, _ = self.layer(index, np.hypot(blur, ALIASED * np.sqrt(max(scale**-2 - 1, 0))))
        if matrix is not None:
            layer = cv2.warpAffine(layer, matrix, (size, size), flags=cv2.INTER_LINEAR)
            if leaves(keypoints, outline):
                shown = cv2.warpAffine(np.ones((side, side, 1), np.float32), matrix, (size, size))[..., None]
            outline = cv2.warpAffine(outline, matrix, (size, size), flags=cv2.INTER_LINEAR)
            vertices, keypoints = recut(vertices, keypoints, focal, side, matrix, size)
            focal *= scale
        if second is not None:
            layer, outline, background = join(*self.layer(second, blur), layer, keypoints, outline, background, random)
        image = np.round(over(layer, background) * shown).astype(np.uint8)
        return Sample(image, keypoints, np.asarray(outline), vertices, focal=focal, present=True)


def collection(group: str, source: str) -> str:
    """Name the collection of a photo: the folder that holds it beside others, else what its group begins with."""
    folder, _, inside = source.partition("/")
    return folder if inside else group.split("_")[0]


class Photos:
    """Labelled photos and hand-free pictures from a file written by `cmr_models.real_crops`."""

    def __init__(self, path: Path, val: bool = False) -> None:
        with np.load(path) as data:
            self.jpeg, self.offsets = data["jpeg"], data["offsets"]
            self.keypoints, self.world = data["keypoints"], data["world"]
            self.right, self.weight, self.valid = data["right"], data["weight"], data["valid"]
            self.index = np.flatnonzero(data["val"] == val)
            groups, sources = data["group"][self.index], data["source"][self.index]
        # Collections differ in size and variety: draw each hand with the square root of its collection's share. Their
        # groups say little: some are one person's rooms, others the gestures of the same three people.
        collections = [collection(*of) for of in zip(groups.tolist(), sources.tolist(), strict=True)]
        _, inverse, counts = np.unique(collections, return_inverse=True, return_counts=True)
        self.chance = counts[inverse] ** -0.5
        self.chance /= self.chance.sum()

    def __len__(self) -> int:
        """Return the number of labelled hands."""
        return len(self.index)

    def sample(self, index: int, size: int, mix: Mix | None, random: np.random.Generator) -> Sample:
        """Cut one labelled hand as a right hand; ``mix=None`` leaves the augmentation out."""
        k = self.index[index]
        image, keypoints = decode(self.jpeg, self.offsets, k), self.keypoints[k]
        world, valid = self.world[k], self.valid[k]
        if not self.right[k]:
            width = image.shape[1]
            image, keypoints = image[:, ::-1], keypoints * [-1, 1] + [width - 1, 0]
            world, valid = world * [-1, 1, 1], [width - 1 - valid[2], valid[1], width - 1 - valid[0], valid[3]]
        if mix is not None and random.random() < mix.tracked:
            matrix = tracked(keypoints, mix, size, random)
        else:
            low, high = keypoints.min(0), keypoints.max(0)
            side, angle, shift = 1.7, 0.0, np.zeros(2)
            if mix is not None:
                side, angle = np.exp(random.uniform(*np.log(PHOTO_SIDE))), random.normal(0, mix.turn)
                shift = random.uniform(-1, 1, 2) * mix.shift * size
            matrix = warp(size, angle, size / (side * (high - low).max()), (low + high) / 2, shift)
        image = np.ascontiguousarray(image)
        if mix is not None and random.random() < 0.7:  # the repeated border of the baked crop is no photo
            x0, y0, x1, y1 = np.round(np.asarray(valid) + 0.5).astype(int)  # edges; pixel k begins at k - 0.5
            photo, image = image, np.zeros_like(image)
            image[y0:y1, x0:x1] = photo[y0:y1, x0:x1]
        moved = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR)
        points = (keypoints @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
        turned = rotate_z(np.asarray(world, np.float32), turn_of(matrix))
        return Sample(moved, points, world=turned, weight=float(self.weight[k]), present=True)


class Batches(Dataset):
    """Batch number -> dict of tensors, see `collate`.

    Parameters
    ----------
    renderings : Renderings
    photos : Path or None
        File of `cmr_models.real_crops`; without it, all hands are rendered and backgrounds procedural.
    sizes : sequence of int
        Sides of the network's input in pixels, of one step after the other and then from the first again.
    parts : int
        Batches of each step: the processes that share it.
    """

    def __init__(
        self,
        renderings: Renderings,
        photos: Path | None,
        sizes: Sequence[int],
        mix: Mix,
        seed: int,
        count: int,
        parts: int = 1,
    ) -> None:
        self.renderings, self.sizes, self.mix, self.seed, self.count = renderings, sizes, mix, seed, count
        self.parts = parts
        self.photos = Photos(photos) if photos else None
        self.backgrounds = Backgrounds(photos)

    def __len__(self) -> int:
        """Return the number of batches of the whole run."""
        return self.count

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        """Assemble one batch."""
        mix, random = self.mix, np.random.default_rng((self.seed, number))
        size = self.sizes[number // self.parts % len(self.sizes)]
        self.backgrounds._random = random
        samples = []
        rendered = mix.rendered + (0 if self.photos else mix.photos)
        for background in self.backgrounds.sample(rendered, size):
            index, second = random.integers(len(self.renderings), size=2)
            other = int(second) if random.random() < mix.second else None
            samples.append(self.renderings.sample(int(index), background, mix, random, other))
        if self.photos:
            for index in random.choice(len(self.photos), mix.photos, p=self.photos.chance):
                sample = self.photos.sample(int(index), size, mix, random)
                if random.random() < mix.second_photos:
                    other = self.renderings.layer(int(random.integers(len(self.renderings))), random.uniform(*mix.soft))
                    hand = second_hand(*other, sample.image, sample.keypoints, None, True, random)
                    sample.image = np.round(over(hand, sample.image)).astype(np.uint8)
                if random.random() < mix.covered:
                    texture = self.backgrounds.sample(1, size)[0]
                    sample.image = cover(sample.image, sample.keypoints, texture, random)
                samples.append(sample)
        samples += [Sample(image) for image in self.backgrounds.sample(mix.empty, size)]
        for sample in samples:
            if sample.present and random.random() < mix.mirrored:
                mirror(sample)
        images = degrade(Rng(self.seed, number), torch.from_numpy(np.stack([s.image for s in samples])))
        return collate(samples, images) | last_frames([s.present for s in samples], mix, random)


def mirror(sample: Sample) -> None:
    """Show the sample as a left hand; it then teaches presence, handedness and 2D cues only."""
    sample.image = np.ascontiguousarray(sample.image[:, ::-1])
    sample.keypoints = sample.keypoints * np.float32([-1, 1]) + np.float32([sample.image.shape[1] - 1, 0])
    if sample.silhouette is not None:
        sample.silhouette = np.ascontiguousarray(sample.silhouette[:, ::-1])
    sample.vertices, sample.weight, sample.right = None, 0.0, False


def collate(samples: list[Sample], images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Stack samples.

    Returns
    -------
    dict
        ``image`` (B, S, S, 3) uint8, ``keypoints`` (B, 21, 2) crop pixels, ``silhouette`` (B, S, S) uint8, ``vertices``
        (N, V, 3) of the samples ``meshed`` (N,), ``world`` (B, 21, 3), ``weight`` (B,) of ``world``, and masks
        ``present``, ``right``, ``outlined`` (B,).
    """
    size = images.shape[1]
    blank = np.zeros((size, size), np.uint8)
    meshed = [i for i, s in enumerate(samples) if s.vertices is not None]
    vertices = [samples[i].vertices for i in meshed] or [np.zeros((0, 3), np.float32)]
    return {
        "image": images,
        "keypoints": torch.from_numpy(np.stack([s.keypoints for s in samples])),
        "silhouette": torch.from_numpy(np.stack([blank if s.silhouette is None else s.silhouette for s in samples])),
        "vertices": torch.from_numpy(np.stack(vertices)),
        "meshed": torch.tensor(meshed, dtype=torch.long),
        "world": torch.from_numpy(np.stack([s.world for s in samples])),
        "weight": torch.tensor([s.weight for s in samples]),
        "present": torch.tensor([s.present for s in samples]),
        "right": torch.tensor([s.right for s in samples]),
        "outlined": torch.tensor([s.silhouette is not None or not s.present for s in samples]),
    }
