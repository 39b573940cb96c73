# SPDX-License-Identifier: Apache-2.0
"""What the surface is made of: skin over the whole human range, nails, sleeves, watch bands."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .detail import SPECKLE_TILE, TEXELS
from .rng import Rng

__all__ = ["Cloth", "Skin", "cloth_albedo", "cloth_thickness", "sample_cloth", "sample_skin", "skin_albedo"]

# Skin reflects BASE * exp(-melanin * MELANIN - blood * BLOOD) in linear RGB: two pigments over a pale base, fitted by
# eye to photographs from Fitzpatrick type I (melanin about 0.1) to VI (about 3).
BASE = (0.82, 0.61, 0.47)
MELANIN = (0.60, 0.80, 0.95)
BLOOD = (0.06, 0.40, 0.36)
MELANIN_RANGE = (0.05, 3.1)
PALM_MELANIN = 0.33  # the palm holds a third of the back's pigment
NAIL_BLOOD, NAIL_LIGHT = 0.5, 1.12


class Skin(NamedTuple):
    """Parameters of B skins, each (B,) unless said otherwise.

    ``melanin`` and ``blood`` are pigment densities of the back; the others scale one effect each: ``crease`` (palm
    lines), ``fold`` (knuckle folds), ``vein``, ``red`` (flushed tips and knuckles), ``blotch``, ``mottle``, ``grain``
    (speckle, coarse to fine); ``nail_colour`` (B, 3) and ``nail_paint`` (B,) for varnish; ``shift`` (B, 2) texels of
    the speckle; ``map_shift`` (B, 2) texels that move the drawn lines, so that no two hands share them.
    """

    melanin: Tensor
    blood: Tensor
    crease: Tensor
    fold: Tensor
    vein: Tensor
    red: Tensor
    blotch: Tensor
    mottle: Tensor
    grain: Tensor
    nail_colour: Tensor
    nail_paint: Tensor
    shift: Tensor
    map_shift: Tensor


class Cloth(NamedTuple):
    """Sleeves and bands on the forearm of B hands, each (B,) unless said otherwise.

    ``start`` is where the sleeve begins, in metres from the wrist up the forearm (beyond the arm: no sleeve),
    ``thickness`` how far it stands off, ``colour`` and ``second`` (B, 3) linear RGB, ``stripe`` the stripes' period in
    metres (0: plain); ``band`` the middle of a watch band (far away: none), ``band_half`` half its width,
    ``band_colour`` (B, 3).
    """

    start: Tensor
    thickness: Tensor
    colour: Tensor
    second: Tensor
    stripe: Tensor
    band: Tensor
    band_half: Tensor
    band_colour: Tensor


def sample_skin(rng: Rng, count: int) -> Skin:
    """Random skins, light to dark."""
    low, high = MELANIN_RANGE
    melanin = low + (high - low) * rng.uniform(0, 1, count) ** 1.35
    painted = rng.chance(0.1, count)
    return Skin(
        melanin=melanin,
        blood=rng.uniform(0.1, 0.8, count),
        crease=rng.uniform(0.15, 0.75, count),
        fold=rng.uniform(0.1, 0.7, count),
        vein=rng.uniform(0, 0.6, count) * rng.chance(0.6, count),
        red=rng.uniform(0.1, 1.0, count),
        blotch=rng.uniform(0.01, 0.06, count),
        mottle=rng.uniform(0.01, 0.06, count),
        grain=rng.uniform(0.0, 0.07, count),
        nail_colour=rng.uniform(0.02, 1.0, count, 3) ** 2,
        nail_paint=painted * rng.uniform(0.6, 1.0, count),
        shift=rng.integers(0, SPECKLE_TILE, count, 2),
        map_shift=rng.normal(count, 2, sigma=2.5),
    )


def sample_cloth(rng: Rng, count: int) -> Cloth:
    """Random sleeves (two in three arms) and watch bands (one in eight)."""
    bare, band = rng.chance(0.36, count), rng.chance(0.13, count)
    start = torch.where(rng.chance(0.5, count), rng.uniform(0.012, 0.035, count), rng.uniform(0.02, 0.16, count))
    dark = torch.where(rng.chance(0.45, count), 0.12, 1.0)[:, None]
    return Cloth(
        start=torch.where(bare, 9.0, start),
        thickness=rng.uniform(0.003, 0.012, count),
        colour=(rng.uniform(0.02, 0.95, count, 1) ** 1.5 * dark * rng.uniform(0.35, 1.0, count, 3)),
        second=rng.uniform(0.02, 0.9, count, 3) ** 1.5,
        stripe=rng.uniform(0.006, 0.03, count) * rng.chance(0.25, count),
        band=torch.where(band, rng.uniform(0.018, 0.035, count), -9.0),
        band_half=rng.uniform(0.006, 0.014, count),
        band_colour=rng.uniform(0.01, 0.8, count, 1) ** 2.2 * rng.uniform(0.6, 1.0, count, 3),
    )


def pigment(melanin: Tensor, blood: Tensor) -> Tensor:
    """Albedo (P, 3), linear RGB, of skin with pigment densities (P,)."""
    base, m, b = (torch.tensor(v, device=melanin.device) for v in (BASE, MELANIN, BLOOD))
    return base * torch.exp(-melanin[:, None] * m - blood[:, None] * b)


def lookup(table: Tensor, x: Tensor, y: Tensor, side: int) -> Tensor:
    """Nearest rows (P, C) of a square map (side * side, C) at texels x, y (P,)."""
    column, line = x.round().long().clamp(0, side - 1), y.round().long().clamp(0, side - 1)
    return table.index_select(0, line * side + column)


def skin_albedo(
    skin: Skin, image: Tensor, texel: Tensor, dorsal: Tensor, nail: Tensor, details: Tensor, speckle: Tensor
) -> Tensor:
    """Albedo of skin pixels.

    Parameters
    ----------
    skin : Skin
        Parameters per image.
    image : Tensor
        (P,) image of each pixel.
    texel : Tensor
        (P, 2) from `detail.detail_coordinates`.
    dorsal, nail : Tensor
        (P,) +1 back ... -1 palm; nail mask 0..1.
    details, speckle : Tensor
        Maps of `detail.draw_details` and `detail.speckle_tile`.

    Returns
    -------
    Tensor
        (P, 3) linear RGB.
    """
    columns = (skin.melanin, skin.blood, skin.crease, skin.fold, skin.vein, skin.red, skin.blotch, skin.mottle)
    columns = (*columns, skin.grain, skin.nail_paint, *skin.map_shift.unbind(1), *skin.shift.unbind(1))
    p = torch.stack([c.float() for c in (*columns, *skin.nail_colour.unbind(1))], 1).index_select(0, image)
    melanin, blood, crease, fold, vein, red, blotch, mottle, grain, paint, dx, dy, sx, sy = p[:, :14].unbind(1)
    x, y = texel.unbind(1)
    back = (dorsal * 1.6 + 0.5).clamp(0, 1)
    palm = 1 - back
    palm_crease, palm_red, back_fold, back_red, veins = lookup(details, x + dx, y + dy, TEXELS).unbind(1)
    # The two sides must not share speckle: the palm reads the tile elsewhere.
    side = (dorsal > 0).float() * 201
    tile_x, tile_y = (x * 1.7 + sx + side) % SPECKLE_TILE, (y * 1.7 + sy + side) % SPECKLE_TILE
    noise = lookup(speckle, tile_x.floor(), tile_y.floor(), SPECKLE_TILE)
    line = crease * palm_crease * palm + fold * back_fold * back * (1 - nail)
    flush = red * (palm_red * palm + back_red * back)
    density = melanin * (PALM_MELANIN * palm + back) + 0.1 * palm
    # Folds of dark skin hold more pigment, those of pale skin more blood.
    density = density * (1 + mottle * noise[:, 1] + 0.9 * blotch * noise[:, 0] + 0.35 * line) + 0.10 * line
    density = density + back * vein * veins * 0.12
    blood = blood + 0.35 * palm + 0.55 * flush + 0.5 * line + blotch * noise[:, 0] * 2 - back * vein * veins * 0.35
    density = density * (1 - 0.55 * nail)
    blood = blood * (1 - nail) + nail * (NAIL_BLOOD + 0.2 * red)
    albedo = pigment(density.clamp_min(0), blood.clamp_min(0)) * (1 + 0.6 * grain * noise[:, 2])[:, None]
    albedo = albedo * (1 - 0.22 * line)[:, None] * (1 + (NAIL_LIGHT - 1) * nail)[:, None]
    return torch.lerp(albedo, p[:, 14:], (paint * nail)[:, None])


def cloth_thickness(cloth: Cloth, up_arm: Tensor) -> Tensor:
    """How far (B, R), metres, the surface stands off the arm at distances up the forearm (B, R), metres."""
    sleeve = ((up_arm - cloth.start[:, None]) / 0.004).clamp(0, 1) * cloth.thickness[:, None]
    band = ((up_arm - cloth.band[:, None]).abs() < cloth.band_half[:, None] + 0.003).float() * 0.002
    return sleeve + band


def cloth_albedo(cloth: Cloth, image: Tensor, up_arm: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Albedo (P, 3) of sleeve or band, and where (P,) bool it covers the skin; ``noise`` (P,) is unit variance."""
    columns = (cloth.start, cloth.stripe, cloth.band, cloth.band_half)
    p = torch.stack(columns, 1).index_select(0, image)
    start, stripe, band, half = p.unbind(1)
    colour, second = cloth.colour.index_select(0, image), cloth.second.index_select(0, image)
    striped = (stripe > 0) & ((up_arm / stripe.clamp_min(1e-3)).frac() > 0.5)
    albedo = torch.where(striped[:, None], second, colour)
    on_band = (up_arm - band).abs() < half
    on_sleeve = up_arm > start
    albedo = torch.where((on_band & ~on_sleeve)[:, None], cloth.band_colour.index_select(0, image), albedo)
    return albedo * (1 + 0.08 * noise).clamp(0.5, 1.5)[:, None], on_band | on_sleeve
