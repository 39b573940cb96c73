# SPDX-License-Identifier: Apache-2.0
"""Deferred shading: from the pixels that see the surface to their colours."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..hand import HandTopology
from .appearance import Cloth, Skin, cloth_albedo, lookup, sample_cloth, sample_skin, skin_albedo
from .detail import SPECKLE_TILE, detail_coordinates, draw_details, speckle_tile
from .light import LIGHTS, SHADOW_LIFT, Lights, ambient, diffuse, occlusion, sample_lights, shadow, specular
from .objects import Things, superellipsoid
from .panoramas import under_panoramas
from .raster import Fragments, interpolate
from .rings import Rings, proximal_phalanges, ring_albedo, sample_rings
from .rng import Rng
from .surface import forearm_distance, vertex_normals

__all__ = ["Looks", "Scene", "Shader"]

EXPOSURE, EXPOSURE_SPREAD = 0.74, 0.28  # on a white surface; deviation of the logarithm
ADAPTATION, WHITE_BALANCE = 0.75, 0.65  # share of the light's level and colour that the camera evens out
BALL_RADIUS = 0.0085  # metres, the balls along the bones that occlude ambient light
NAIL_SHINE, CLOTH_SHINE = 2.5, 0.1


class Looks(NamedTuple):
    """How B images look: skin, cloth, rings, light, and the camera's exposure (B,)."""

    skin: Skin
    cloth: Cloth
    rings: Rings
    lights: Lights
    exposure: Tensor


class Scene(NamedTuple):
    """What is drawn: vertices (B, R + O, 3) camera frame, faces, joints (B, 21, 3), camera and objects."""

    vertices: Tensor
    faces: Tensor
    joints: Tensor
    focal: Tensor
    size: int
    supersample: int
    things: Things


def bone_balls(joints: Tensor) -> Tensor:
    """Centres (B, 40, 3) of balls along the bones of joints (B, 21, 3): each joint, and each bone's middle."""
    parents = [0 if k % 4 == 1 else k - 1 for k in range(1, 21)]
    return torch.cat((joints[:, 1:], (joints[:, 1:] + joints[:, parents]) / 2), 1)


def tone(linear: Tensor) -> Tensor:
    """Linear light to sRGB values 0..1, with a soft shoulder."""
    return (1 - torch.exp(-1.4 * linear.clamp_min(0))).clamp_min(1e-5) ** (1 / 2.2)


class Shader:
    """Colours of pixels for one hand model.

    Parameters
    ----------
    hand : HandTopology
        Rest positions, nail mask and sides.
    device : torch.device
        Where the tensors live.
    """

    def __init__(self, hand: HandTopology, device: torch.device) -> None:
        rest = torch.from_numpy(hand.rest).float()
        joints = hand.joint_regressor @ hand.rest[hand.vertex_index]
        texel = detail_coordinates(rest)
        up_arm = torch.from_numpy(forearm_distance(hand)).float()
        dorsal, nail = (torch.from_numpy(v).float() for v in (hand.dorsal, hand.nail))
        self._fixed = torch.cat((texel, torch.stack((dorsal, nail, up_arm), 1)), 1).to(device)
        self._details, self._speckle = draw_details(joints).to(device), speckle_tile().to(device)
        self._phalanges = proximal_phalanges(hand, device)
        self._count, self._device = len(rest), device
        self.thing_faces = len(superellipsoid()[1])

    def sample(self, rng: Rng, places: Rng, count: int) -> Looks:
        """Random looks for `count` images; panoramas come from ``places``."""

        def move(values):
            return type(values)(*(t.to(self._device) for t in values))

        skin, cloth = (move(sample(rng, count)) for sample in (sample_skin, sample_cloth))
        lights = move(under_panoramas(places, sample_lights(rng, count)))
        rings = move(sample_rings(rng, count, self._phalanges))
        return Looks(skin, cloth, rings, lights, torch.exp(rng.normal(count, sigma=EXPOSURE_SPREAD)).to(self._device))

    def _attributes(self, scene: Scene, lights: Lights) -> tuple[Tensor, Tensor]:
        """Per-vertex values (B, R + O, 14) and the mean light (B, 3) on the hand."""
        normals = vertex_normals(scene.vertices, scene.faces)
        balls = bone_balls(scene.joints)
        radii = torch.full((balls.shape[1],), BALL_RADIUS, device=balls.device)
        open_sky = occlusion(scene.vertices, normals, balls, radii)[..., None]
        soft = ambient(normals, lights.harmonics) * open_sky
        for k in range(1, LIGHTS):
            soft = soft + diffuse(normals, lights.direction[:, k], lights.colour[:, k]) * open_sky.sqrt()
        key = diffuse(normals, lights.direction[:, 0], lights.colour[:, 0])
        fixed = self._fixed.expand(len(normals), -1, -1)
        pattern = torch.zeros(*scene.things.pattern.shape, fixed.shape[2], device=normals.device)
        pattern[..., 4] = scene.things.pattern
        level = (soft + key)[:, : self._count].mean(1).clamp_min(0.02)
        return torch.cat((normals, soft, key, torch.cat((fixed, pattern), 1)), -1), level

    def shade(self, scene: Scene, fragments: Fragments, looks: Looks) -> Tensor:
        """Colours (P, 3) of the pixels, sRGB 0..1."""
        lights, image = looks.lights, fragments.image
        attributes, level = self._attributes(scene, lights)
        values = interpolate(attributes, scene.faces, fragments)
        normal = torch.nn.functional.normalize(values[:, :3], dim=1)
        soft, key, texel = values[:, 3:6], values[:, 6:9], values[:, 9:11]
        dorsal, nail, along = values[:, 11:].unbind(1)
        nail = ((nail - 0.35) * 5).clamp(0, 1)

        position = self._positions(scene, fragments)
        hand_radius = torch.full_like(scene.focal, 0.13)
        lit = shadow(scene.vertices, scene.faces, lights.direction[:, 0], scene.joints.mean(1), hand_radius)
        bright = 1 - lights.shadow.index_select(0, image) * (1 - lit(position + SHADOW_LIFT * normal, image))

        albedo, shine = self._albedo(scene, fragments, looks, texel, dorsal, nail, along)
        view = -torch.nn.functional.normalize(position, dim=1)
        direction = lights.direction[:, 0].index_select(0, image)
        spot = specular(normal, view, direction, lights.gloss.index_select(0, image))
        spot = spot * shine * lights.shine.index_select(0, image) * bright
        rim = (1 - (normal * view).sum(1).clamp(0, 1)) ** 4 * 0.08 * shine
        light = albedo * (soft + key * bright[:, None]) + rim[:, None] * soft
        light = light + spot[:, None] * lights.colour[:, 0].index_select(0, image)
        mean = level.mean(1, keepdim=True)
        gain = EXPOSURE * looks.exposure[:, None] / mean**ADAPTATION * (mean / level) ** WHITE_BALANCE
        return tone(light * gain.index_select(0, image))

    def _positions(self, scene: Scene, fragments: Fragments) -> Tensor:
        """Camera-frame points (P, 3) of the pixels, from their depth."""
        side = scene.size * scene.supersample
        x, y = fragments.pixel % side, fragments.pixel // side % side
        ray = torch.stack((x, y), 1).to(fragments.depth) - (side - 1) / 2
        ray = ray / (scene.focal * scene.supersample).index_select(0, fragments.image)[:, None]
        return torch.cat((ray, torch.ones_like(ray[:, :1])), 1) * fragments.depth[:, None]

    def _albedo(self, scene, fragments, looks, texel, dorsal, nail, along) -> tuple[Tensor, Tensor]:
        """Albedo (P, 3) and shine (P,) of skin, cloth, rings and objects."""
        image, things = fragments.image, scene.things
        albedo = skin_albedo(looks.skin, image, texel, dorsal, nail, self._details, self._speckle)
        shine = 1 + (NAIL_SHINE - 1) * nail
        shift = looks.skin.shift.index_select(0, image)
        weave = ((texel * 5 + shift) % SPECKLE_TILE).floor()
        noise = lookup(self._speckle, weave[:, 0], weave[:, 1], SPECKLE_TILE)[:, 2]
        cloth, covered = cloth_albedo(looks.cloth, image, along, noise)
        albedo = torch.where(covered[:, None], cloth, albedo)
        shine = torch.where(covered, CLOTH_SHINE, shine)
        on_ring, ring, ring_shine = ring_albedo(looks.rings, self._phalanges, scene.faces, fragments)
        albedo[on_ring], shine[on_ring] = ring, ring_shine
        is_thing = fragments.face >= len(scene.faces) - self.thing_faces
        stripe = things.stripe.index_select(0, image)
        striped = (stripe > 0) & ((along / stripe.clamp_min(1e-3) + 100).frac() > 0.5)
        first, second = things.colour.index_select(0, image), things.second.index_select(0, image)
        paint = torch.where(striped[:, None], second, first) * (1 + 0.04 * noise)[:, None]
        return torch.where(is_thing[:, None], paint, albedo), shine
