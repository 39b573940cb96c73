# SPDX-License-Identifier: Apache-2.0
"""Make the asset of `panoramas` from photographed ones: ``python -m cmr_models.synth.bake_panoramas FOLDER OUT.npz``.

FOLDER holds equirectangular panoramas, twice as wide as high, in OpenEXR; reading them takes the package `OpenEXR`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from .panoramas import Panoramas, grid

__all__ = ["main", "sound", "split"]

ROWS, FINE_ROWS = 16, 128  # of the sky in the asset; of the panorama in which the lamp is looked for
LAMP, AROUND = np.radians(12.0), np.radians(24.0)  # radius of the lamp, and of what it is compared with
BLUE = 4.0  # blue over red, at most, of a lamp; a clear sky has 3
LUMINANCE = torch.tensor([0.2126, 0.7152, 0.0722])  # of linear RGB (ITU-R BT.709)


def split(radiance: Tensor) -> Panoramas:
    """Split a panorama (FINE_ROWS, 2 FINE_ROWS, 3) into sky and lamp, each with a first axis of 1.

    The lamp is what is brighter than its surroundings, within `LAMP` of the brightest place.
    """
    directions, angle = grid(FINE_ROWS)
    luminance = radiance @ LUMINANCE
    soft = torch.from_numpy(cv2.blur(luminance.numpy(), (3, 3), borderType=cv2.BORDER_REPLICATE))
    brightest = directions[divmod(int(soft.argmax()), 2 * FINE_ROWS)]
    off = torch.arccos((directions @ brightest).clamp(-1, 1))
    inside, ring = off <= LAMP, (off > LAMP) & (off <= AROUND)
    surroundings = radiance[ring].median(0).values
    excess = (radiance - surroundings).clamp_min(0) * (inside * angle)[..., None]
    direction = torch.nn.functional.normalize((directions * (excess @ LUMINANCE)[..., None]).sum((0, 1)), dim=0)
    colour = excess.sum((0, 1)) / torch.pi
    rest = radiance - excess / angle[..., None]
    block = FINE_ROWS // ROWS
    parts = (rest * angle[..., None]).reshape(ROWS, block, 2 * ROWS, block, 3).sum((1, 3))
    parts.clamp_(min=0)  # compression leaves negative values around lamps; in the sum they cancel
    sky = parts / grid(ROWS)[1][..., None]
    mean = (parts.sum((0, 1)) / (4 * torch.pi) + colour) @ LUMINANCE
    return Panoramas(sky[None] / mean, direction[None], colour[None] / mean)


def read(path: Path) -> Tensor:
    """Read the radiance (FINE_ROWS, 2 FINE_ROWS, 3) of a file; SystemExit if it is none that can be used."""
    import OpenEXR  # in an environment of its own: nothing else needs it

    with OpenEXR.File(str(path)) as file:
        channels = {name: np.asarray(channel.pixels, np.float32) for name, channel in file.channels().items()}
    pixels = next((channels[name][..., :3] for name in ("RGB", "RGBA") if name in channels), None)
    if pixels is None:
        raise SystemExit(f"{path}: channels {', '.join(channels)}; need RGB")
    size = f"{pixels.shape[1]} x {pixels.shape[0]}"
    if pixels.shape[1] != 2 * pixels.shape[0] or not np.isfinite(pixels).all():
        raise SystemExit(f"{path}: {size} pixels; need finite ones, twice as wide as high")
    sound(path.name, torch.from_numpy(pixels))
    return torch.from_numpy(cv2.resize(pixels, (2 * FINE_ROWS, FINE_ROWS), interpolation=cv2.INTER_AREA))


def sound(name: str, pixels: Tensor) -> None:
    """Refuse a panorama whose compression lost the red and green of its sun: SystemExit."""
    red, _, blue = brightest = pixels.reshape(-1, 3)[int(pixels.sum(-1).argmax())].tolist()
    if blue > BLUE * max(red, 0.0):
        values = ", ".join(f"{value:g}" for value in brightest)
        raise SystemExit(f"{name}: its brightest pixel, ({values}), is bluer than any light: the file is damaged")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the asset."""
    parser = argparse.ArgumentParser(
        prog="python -m cmr_models.synth.bake_panoramas", description=__doc__.splitlines()[0]
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args(arguments)
    paths = sorted(args.folder.glob("*.exr"))
    if not paths:
        parser.error(f"{args.folder}: no .exr files in it")
    split_ones = [split(read(path)) for path in paths]
    places = Panoramas(*(torch.cat(parts) for parts in zip(*split_ones, strict=True)))
    arrays = places._replace(sky=places.sky.half())._asdict()
    np.savez_compressed(args.out, names=[path.stem for path in paths], **{k: v.numpy() for k, v in arrays.items()})
    for path, share in zip(paths, (places.colour @ LUMINANCE).tolist(), strict=True):
        print(f"{path.stem:28} lamp {share:.2f} of the light")


if __name__ == "__main__":
    main()
