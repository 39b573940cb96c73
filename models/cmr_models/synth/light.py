# SPDX-License-Identifier: Apache-2.0
"""Light on the surface: ambient harmonics, directional lights with soft wrap, shine, occlusion and cast shadows.

All light is linear RGB. A white surface facing the key light of an average scene sends back about 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .raster import rasterise
from .rng import Rng

__all__ = ["Lights", "ambient", "diffuse", "harmonic_basis", "occlusion", "sample_lights", "shadow", "specular"]

KINDS = {"soft": 0.42, "room": 0.34, "hard": 0.14, "back": 0.10}  # how the light is shared out
LIGHTS = 3
WRAP = (0.28, 0.16, 0.12)  # red light travels furthest under the skin, so shadows' edges are red
SHADOW_SIZE = 128  # texels of the shadow map's side
SHADOW_BIAS, SHADOW_LIFT = 0.003, 0.004  # metres: towards the light, along the normal; against self-shadowing
LIGHT_DISTANCE = 1.5  # metres from the hand to the lamp, for the shadow's perspective


#: Share of the key light, 0..1, that reaches points (P, 3) of images (P,).
Lit = Callable[[Tensor, Tensor], Tensor]


class Lights(NamedTuple):
    """Lights of B scenes, camera frame.

    Attributes
    ----------
    direction : Tensor
        (B, 3, 3) unit vectors towards the lights; the first is the key light and casts shadows.
    colour : Tensor
        (B, 3, 3) linear RGB per light.
    harmonics : Tensor
        (B, 9, 3) ambient irradiance as spherical harmonics of second order.
    shadow : Tensor
        (B,) how dark the key light's shadow is, 0..1.
    shine : Tensor
        (B,) strength of the highlights.
    gloss : Tensor
        (B,) exponent of the highlights.
    """

    direction: Tensor
    colour: Tensor
    harmonics: Tensor
    shadow: Tensor
    shine: Tensor
    gloss: Tensor


def temperature(warmth: Tensor) -> Tensor:
    """Light colours (..., 3) of mean 1: warmth -1 is a blue sky, 0 daylight, +1 a light bulb."""
    scale = torch.tensor([0.30, 0.02, -0.42], device=warmth.device)
    colour = torch.exp(warmth[..., None] * scale)
    return colour / colour.mean(-1, keepdim=True)


def sample_lights(rng: Rng, count: int) -> Lights:
    """Random lights for `count` scenes."""
    kind = rng.choose(list(KINDS.values()), count)
    soft, hard, back = kind == 0, kind == 2, kind == 3
    direction = rng.direction(count, LIGHTS)
    direction[..., 1] -= 0.45  # lamps hang above: y points down
    direction[..., 2] -= 0.55  # and mostly on the camera's side: z points away from it
    direction[back, 0, 2] = direction[back, 0, 2].abs() + 0.8
    direction = torch.nn.functional.normalize(direction, dim=-1)
    power = torch.stack((rng.uniform(0.5, 0.9, count), rng.uniform(0, 0.3, count), rng.uniform(0, 0.2, count)), 1)
    power[soft] *= 0.35
    power[hard, 0] = 1.1
    power[back, 0] = 1.3
    warmth = rng.normal(count, 1, sigma=0.3) + rng.normal(count, LIGHTS + 1, sigma=0.2)
    colours = temperature(warmth)
    tinted = rng.chance(0.03, count, LIGHTS, 1)  # screens and coloured lamps
    tint = rng.uniform(0.3, 1.7, count, LIGHTS, 3)
    colour = power[..., None] * torch.where(tinted, tint, colours[:, :LIGHTS])
    level = torch.where(soft, rng.uniform(0.55, 0.8, count), rng.uniform(0.2, 0.5, count))
    level = torch.where(hard, rng.uniform(0.08, 0.25, count), level)
    harmonics = rng.normal(count, 9, 3, sigma=0.035) + rng.normal(count, 9, 1, sigma=0.22)
    harmonics[:, 4:] *= 0.5
    harmonics[:, 1] -= 0.25  # brighter from above
    harmonics[:, 0] = 1.0
    harmonics = harmonics * (level[:, None] * colours[:, LIGHTS])[:, None]
    darkness = torch.where(soft, rng.uniform(0.1, 0.5, count), rng.uniform(0.5, 0.95, count))
    return Lights(direction, colour, harmonics, darkness, rng.uniform(0.02, 0.22, count), rng.log_uniform(6, 45, count))


def harmonic_basis(directions: Tensor) -> Tensor:
    """Spherical harmonics (..., 9) of second order at unit vectors (..., 3), without the factors that norm them."""
    x, y, z = directions.unbind(-1)
    return torch.stack((torch.ones_like(x), y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y), -1)


def ambient(normals: Tensor, harmonics: Tensor) -> Tensor:
    """Irradiance (B, R, 3) at normals (B, R, 3)."""
    return (harmonic_basis(normals) @ harmonics).clamp_min(0.02)


def diffuse(normals: Tensor, direction: Tensor, colour: Tensor) -> Tensor:
    """Light (B, R, 3) from one light (B, 3), wrapped around the terminator as skin does."""
    wrap = torch.tensor(WRAP, device=normals.device)
    cosine = (normals * direction[:, None]).sum(-1, keepdim=True)
    return ((cosine + wrap) / (1 + wrap)).clamp_min(0) * colour[:, None]


def specular(normals: Tensor, view: Tensor, direction: Tensor, gloss: Tensor) -> Tensor:
    """Blinn-Phong highlight (P,) at unit normals (P, 3) for unit vectors to the camera and the light (P, 3)."""
    half = torch.nn.functional.normalize(view + direction, dim=1)
    cosine = (normals * half).sum(1).clamp_min(1e-4)
    facing = (normals * direction).sum(1).clamp(0, 0.2) * 5
    fresnel = 0.4 + 0.6 * (1 - (half * view).sum(1).clamp(0, 1)) ** 3
    return torch.exp(gloss * torch.log(cosine)) * facing * fresnel * (gloss * 0.06 + 0.5)


def occlusion(points: Tensor, normals: Tensor, centres: Tensor, radii: Tensor) -> Tensor:
    """Share (B, R) of the ambient light that balls (B, N, 3) of radii (B, N) or (N,) leave at points (B, R, 3)."""
    square = (points**2).sum(-1)[..., None] + (centres**2).sum(-1)[:, None] - 2 * points @ centres.transpose(1, 2)
    square = square.clamp_min(1e-6)
    rise = normals @ centres.transpose(1, 2) - (normals * points).sum(-1, keepdim=True)
    reach = radii.square()[..., None, :] / square
    blocked = (rise * square.rsqrt()).clamp_min(0) * reach.clamp_max(1)
    return torch.exp(-1.1 * blocked.sum(-1))


def shadow(vertices: Tensor, faces: Tensor, direction: Tensor, centre: Tensor, radius: Tensor) -> Lit:
    """Shadow maps of the key light, as a function of points.

    Parameters
    ----------
    vertices : Tensor
        (B, R, 3) camera frame, metres.
    faces : Tensor
        (F, 3).
    direction : Tensor
        (B, 3) unit vectors to the light.
    centre, radius : Tensor
        (B, 3) and (B,): ball that the map covers.

    Returns
    -------
    Lit
    """
    helper = torch.zeros_like(direction)
    helper.scatter_(1, direction.abs().argmin(1, keepdim=True), 1.0)
    right = torch.nn.functional.normalize(torch.linalg.cross(direction, helper), dim=1)
    frame = torch.stack((right, torch.linalg.cross(-direction, right), -direction), 1)  # light looks along -direction
    lamp = centre + direction * LIGHT_DISTANCE
    focal = 0.5 * SHADOW_SIZE * LIGHT_DISTANCE / radius

    def to_map(points: Tensor, turn: Tensor, origin: Tensor, scale: Tensor) -> Tensor:
        local = (turn @ (points - origin)[..., None])[..., 0]
        return torch.cat((local[..., :2] / local[..., 2:] * scale[..., None] + SHADOW_SIZE / 2, local[..., 2:]), -1)

    mapped = (vertices - lamp[:, None]) @ frame.transpose(1, 2)
    depth = mapped[..., 2:]
    mapped = torch.cat((mapped[..., :2] / depth * focal[:, None, None] + SHADOW_SIZE / 2, depth), -1)
    seen = rasterise(mapped, faces, SHADOW_SIZE, SHADOW_SIZE)
    depth = torch.full((len(vertices) * SHADOW_SIZE**2,), 1e9, device=vertices.device)
    depth[seen.pixel] = seen.depth

    def lit(points: Tensor, image: Tensor) -> Tensor:
        at = to_map(points, frame.index_select(0, image), lamp.index_select(0, image), focal.index_select(0, image))
        x, y = at[:, 0], at[:, 1]
        share = torch.zeros_like(x)
        for dx, dy in ((-0.6, -0.25), (0.25, -0.6), (0.6, 0.25), (-0.25, 0.6)):
            column = (x + dx).round().clamp(0, SHADOW_SIZE - 1).long()
            line = (y + dy).round().clamp(0, SHADOW_SIZE - 1).long()
            share += depth.index_select(0, (image * SHADOW_SIZE + line) * SHADOW_SIZE + column) > at[:, 2] - SHADOW_BIAS
        return share / 4

    return lit
