# SPDX-License-Identifier: Apache-2.0
"""Rings on the fingers: bands round the proximal phalanges of index to little finger.

A ring is no mesh of its own. The finger's surface stands off a little under it and has the ring's colour and shine
where a coordinate along the finger says so; all else of the picture, and all labels, stay.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..hand import HandTopology
from .raster import Fragments
from .rng import Rng

__all__ = ["FINGERS", "Phalanges", "Rings", "proximal_phalanges", "ring_albedo", "ring_thickness", "sample_rings"]

FINGERS = 4  # index to little finger; as a number of a finger it means "none of them"
BONES = (4, 7, 10, 13)  # their proximal phalanges

SHARE, SECOND = 0.125, 0.25  # of hands with rings, and of those the ones with two
WORN = (0.14, 0.18, 0.53, 0.15)  # which finger wears the first ring
WIDTH = (0.002, 0.008)  # metres along the finger; narrow rings are the more frequent
STAND_OFF = (0.0005, 0.0015)  # metres over the skin
FADE = 0.004  # metres in which the surface comes down to the skin beside the ring: about an edge of the mesh
REACH = 0.6  # share of the phalanx's free length that rings are worn on, from its base

# Metals, linear RGB, by eye: more saturated than their reflectance, since that of gold, shaded like skin, is a lemon
# yellow. A metal shows its surroundings, which are darker than its lights: LEVEL dulls it.
GOLD, SILVER, COPPER = (1.0, 0.60, 0.16), (0.95, 0.94, 0.91), (0.92, 0.46, 0.30)
LEVEL = (0.4, 0.95)
KINDS = (0.34, 0.34, 0.1, 0.14, 0.08)  # how often gold, silver, copper, black, coloured
METAL_SHINE, BAND_SHINE = (3.0, 8.0), (0.3, 3.0)  # of the skin's highlights
EDGE = 0.55  # how much darker a ring's edges are than its middle, as its round section turns away
FAR = 9.0  # metres: where a ring is that is not there


class Phalanges(NamedTuple):
    """Proximal phalanges of a hand with R vertices.

    Attributes
    ----------
    finger : Tensor
        (R + 1,) int64: 0 index finger ... 3 little finger on their proximal phalanges, 4 elsewhere. The last is 4, for
        vertices that are not the hand's.
    along : Tensor
        (R,) metres from the knuckle towards the middle joint in the rest pose; 0 where `finger` is 4.
    base, end : Tensor
        (4,) metres: between them every triangle round the finger has all three corners on the phalanx, so that a band
        there is closed and touches neither palm nor neighbour.
    """

    finger: Tensor
    along: Tensor
    base: Tensor
    end: Tensor


class Rings(NamedTuple):
    """Rings of B hands, each (B, 5): one slot per finger, and one, always empty, for the rest of the hand.

    ``place`` is the ring's middle in metres from the knuckle (far away: no ring), ``half`` half its width,
    ``stand_off`` its height over the skin, both metres; ``colour`` (B, 5, 3) linear RGB, ``shine`` how much stronger
    than the skin's its highlights are.
    """

    place: Tensor
    half: Tensor
    stand_off: Tensor
    colour: Tensor
    shine: Tensor


def proximal_phalanges(hand: HandTopology, device: torch.device) -> Phalanges:
    """Find which vertices lie on which proximal phalanx, and where along it."""
    finger, along = np.full(len(hand.rest) + 1, FINGERS), np.zeros(len(hand.rest), np.float32)
    base, end = np.zeros(FINGERS, np.float32), np.zeros(FINGERS, np.float32)
    for k, bone in enumerate(BONES):
        head, on = hand.bone_heads[bone], hand.bone == bone
        axis = hand.bone_heads[bone + 1] - head
        distance = (hand.rest - head) @ (axis / np.linalg.norm(axis))
        finger[:-1][on], along[on] = k, distance[on]
        corners = hand.bone[hand.render_faces]
        border = (corners == bone).any(1) & (corners != bone).any(1)
        far_side = border & np.isin(corners, (bone, bone + 1)).all(1)
        base[k] = distance[hand.render_faces[border & ~far_side]].max()
        end[k] = distance[hand.render_faces[far_side]].min()
    return Phalanges(*(torch.from_numpy(v).to(device) for v in (finger, along, base, end)))


def sample_rings(rng: Rng, count: int, phalanges: Phalanges) -> Rings:
    """Random rings: most hands wear none."""
    shape = (count, FINGERS + 1)
    worn, both = rng.chance(SHARE, count), rng.chance(SECOND, count)
    first = rng.choose(WORN, count)
    second = (first + rng.integers(1, FINGERS, count)) % FINGERS
    slot = torch.arange(FINGERS + 1)
    here = ((slot == first[:, None]) | (slot == second[:, None]) & both[:, None]) & worn[:, None]

    base, end = (torch.cat((v.cpu(), torch.zeros(1))) for v in (phalanges.base, phalanges.end))
    width = WIDTH[0] + (WIDTH[1] - WIDTH[0]) * rng.uniform(0, 1, *shape) ** 2
    half = width.minimum(end - base) / 2
    place = base + half + REACH * rng.uniform(0, 1, *shape) * (end - base - 2 * half)

    kind = rng.choose(KINDS, *shape)[..., None]
    metals = torch.tensor([GOLD, SILVER, COPPER])[kind[..., 0].clamp_max(2)] * rng.uniform(*LEVEL, *shape, 1)
    black, coloured = rng.uniform(0.01, 0.05, *shape, 1), rng.uniform(0.02, 0.9, *shape, 3) ** 1.5
    colour = torch.where(kind < 3, metals, torch.where(kind == 3, black, coloured))
    shine = torch.where(kind[..., 0] < 3, rng.uniform(*METAL_SHINE, *shape), rng.uniform(*BAND_SHINE, *shape))
    return Rings(torch.where(here, place, FAR), half, rng.uniform(*STAND_OFF, *shape), colour, shine)


def ring_thickness(rings: Rings, phalanges: Phalanges) -> Tensor:
    """How far (B, R), metres, the surface stands off the skin."""
    finger = phalanges.finger[:-1]
    place, half, stand_off = (v.index_select(1, finger) for v in (rings.place, rings.half, rings.stand_off))
    beside = (phalanges.along - place).abs() - half
    return (1 - beside / FADE).clamp(0, 1) * stand_off


def ring_albedo(
    rings: Rings, phalanges: Phalanges, faces: Tensor, fragments: Fragments
) -> tuple[Tensor, Tensor, Tensor]:
    """Which pixels see a ring, and what they see.

    Parameters
    ----------
    rings : Rings
        Rings per image.
    phalanges : Phalanges
        From `proximal_phalanges`.
    faces : Tensor
        (F, 3) triangles of the scene; vertices past the hand's are other things.
    fragments : Fragments
        P pixels, from `rasterise` with these faces.

    Returns
    -------
    pixel : Tensor
        (Q,) which of the P pixels.
    albedo : Tensor
        (Q, 3) linear RGB.
    shine : Tensor
        (Q,) of the highlights.
    """
    corners = phalanges.finger[faces.clamp_max(len(phalanges.along))]
    finger = torch.where((corners == corners[:, :1]).all(1), corners[:, 0], FINGERS)
    slot = fragments.image * (FINGERS + 1) + finger.index_select(0, fragments.face)
    # Few pixels lie on a finger with a ring: only these are looked at closer.
    pixel = (rings.place < FAR).flatten().index_select(0, slot).nonzero()[:, 0]
    slot = slot[pixel]
    along = (phalanges.along[faces[fragments.face[pixel]]] * fragments.weights[pixel]).sum(1)
    across = (along - rings.place.flatten()[slot]) / rings.half.flatten()[slot]
    on = across.abs() < 1
    pixel, slot, across = pixel[on], slot[on], across[on].float()
    albedo = rings.colour.flatten(0, 1)[slot] * (1 - EDGE * across**2)[:, None]
    return pixel, albedo, rings.shine.flatten()[slot]
