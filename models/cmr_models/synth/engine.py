# SPDX-License-Identifier: Apache-2.0
"""The data engine: random hands, rendered with exact labels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..hand import ROOT_JOINT, HandModel, HandOutput, HandTopology
from .objects import Things, place_things, superellipsoid
from .pose import neutral_angles, sample_poses, sample_shapes
from .raster import rasterise
from .rng import Rng
from .shade import Looks, Scene, Shader
from .surface import Surface
from .view import SIDE, View, place, project, sample_rotations

__all__ = ["Batch", "Engine", "compose"]


PALM_REACH, FINGER_REACH = 0.03, 0.016  # metres between a joint and the skin over it, at most


class Batch(NamedTuple):
    """Rendered right hands without a background, with their labels.

    The crop camera has its principal point at ((size - 1) / 2, (size - 1) / 2): x right, y down, z forward, metres.

    Attributes
    ----------
    rgba : Tensor
        (N, size, size, 4) uint8, colour not multiplied by alpha (straight); sRGB. Hand, forearm and object.
    silhouette : Tensor
        (N, size, size) uint8: share of each pixel, 0..255, where the *hand* is seen: not the forearm, and not where
        an object hides it.
    vertices : Tensor
        (N, V, 3) float32 metres, crop camera, relative to joint 9; the network's mesh.
    joints : Tensor
        (N, 21, 3) float32 metres, crop camera, relative to joint 9.
    root : Tensor
        (N, 3) float32 metres: joint 9 in the crop camera.
    keypoints : Tensor
        (N, 21, 2) float32 pixels of the crop; the centre of the top-left pixel is (0, 0).
    visible : Tensor
        (N, 21) uint8: 1 where the skin over the joint is the nearest surface at its pixel.
    focal : Tensor
        (N,) float32 pixels.
    angles : Tensor
        (N, 16, 3) float32 radians, as `HandModel` takes them.
    shape : Tensor
        (N, S) float32, as `HandModel` takes them.
    """

    rgba: Tensor
    silhouette: Tensor
    vertices: Tensor
    joints: Tensor
    root: Tensor
    keypoints: Tensor
    visible: Tensor
    focal: Tensor
    angles: Tensor
    shape: Tensor


def compose(rgba: Tensor, background: Tensor) -> Tensor:
    """Lay straight-alpha ``rgba`` (..., H, W, 4) over ``background`` (..., H, W, 3), all uint8; (..., H, W, 3)."""
    alpha = rgba[..., 3:].float() / 255
    return torch.lerp(background.float(), rgba[..., :3].float(), alpha).round().to(torch.uint8)


class Engine:
    """Renders random hands.

    Parameters
    ----------
    hand : HandTopology
        From `load_hand`.
    size : int
        Side of the images in pixels.
    supersample : int
        Samples per pixel along each axis.
    seed, stream : int
        The same pair gives the same images on the same kind of device.
    device : str
        Where to render; parameters are drawn on the CPU.
    sides : (float, float)
        Side of an image in sides of the joints' box: from, to.

    Examples
    --------
    >>> batch = Engine(load_hand(), size=128, seed=3).render(8)
    >>> batch.rgba.shape
    torch.Size([8, 128, 128, 4])
    """

    def __init__(
        self,
        hand: HandTopology,
        size: int = 160,
        *,
        supersample: int = 2,
        seed: int = 0,
        stream: int = 0,
        device: str = "cpu",
        sides: tuple[float, float] = SIDE,
    ) -> None:
        self.size, self.supersample, self.device = size, supersample, torch.device(device)
        self.sides = sides
        self.model = HandModel(hand).to(self.device)
        self.surface = Surface(hand, self.device)
        self.shader = Shader(hand, self.device)
        self._neutral = neutral_angles(hand)
        self._object_angles, faces = (t.to(self.device) for t in superellipsoid())
        count = self.surface.count
        self.faces = torch.cat((self.surface.faces, faces + count))
        self.restart(seed, stream)

    def restart(self, seed: int, stream: int = 0) -> None:
        """Begin again with another seed or stream."""
        self._rng = Rng(seed, stream)
        self._places = Rng(~seed, stream)  # apart, so that hands do not depend on what lights them

    @torch.no_grad()
    def render(self, count: int) -> Batch:
        """Render the next `count` hands."""
        rng, size = self._rng, self.size
        angles = sample_poses(rng, count) - self._neutral
        angles = angles.to(self.device)
        shape = sample_shapes(rng, count, self.model.shape_count).to(self.device)
        posed = self.model(angles, shape)
        view = place(rng, posed.joints.cpu(), sample_rotations(rng, count), size, ROOT_JOINT, self.sides)
        view = View(*(t.to(self.device) for t in view))
        looks = self.shader.sample(rng, self._places, count)
        things = self._things(rng, view.to_camera(posed.vertices), view.to_camera(posed.joints))
        return self.draw(angles, shape, posed, view, looks, things)

    @torch.no_grad()
    def draw(self, angles: Tensor, shape: Tensor, posed: HandOutput, view: View, looks: Looks, things: Things) -> Batch:
        """Render hands of which all is given: pose and shape as in `Batch`, the model posed by them, and the scene."""
        count, size, focal = len(angles), self.size, view.focal
        joints = view.to_camera(posed.joints)
        label_vertices = view.to_camera(posed.vertices[:, self.model.vertex_index])
        arm = self.surface.dress(view.to_camera(posed.vertices), looks.cloth, looks.rings)
        vertices = torch.cat((arm, things.vertices), 1)

        scale = self.supersample
        points = project(vertices, focal, size)
        points = torch.cat(((points[..., :2] + 0.5) * scale - 0.5, points[..., 2:]), -1)
        fragments = rasterise(points, self.faces, size * scale, size * scale)
        scene = Scene(vertices, self.faces, joints, focal, size, scale, things)
        colour = self.shader.shade(scene, fragments, looks)
        on_hand = self.surface.hand_face(fragments.face)
        rgba, silhouette = self._resolve(colour, on_hand, fragments.pixel, count)

        root = joints[:, ROOT_JOINT]
        keypoints = project(joints, focal, size)
        visible = self._visible(keypoints, fragments, on_hand, count)
        root_relative = (label_vertices - root[:, None], joints - root[:, None])
        return Batch(rgba, silhouette, *root_relative, root, keypoints[..., :2], visible, focal, angles, shape)

    def _things(self, rng: Rng, vertices: Tensor, joints: Tensor) -> Things:
        things = place_things(rng, vertices.cpu(), joints.cpu(), self._object_angles.cpu())
        return Things(*(t.to(self.device) for t in things))

    def _resolve(self, colour: Tensor, on_hand: Tensor, pixel: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Average the samples (P, 3) of each pixel: straight RGBA and the hand's share."""
        side = self.size * self.supersample
        ones = torch.ones_like(colour[:, :1])
        samples = torch.zeros(count * side * side, 5, device=colour.device)
        samples.index_copy_(0, pixel, torch.cat((colour, ones, on_hand[:, None].to(colour)), 1))
        blocks = samples.reshape(count, self.size, self.supersample, self.size, self.supersample, 5)
        mean = blocks.sum(4).sum(2) / self.supersample**2
        rgb = mean[..., :3] / mean[..., 3:4].clamp_min(1e-6)
        image = (torch.cat((rgb, mean[..., 3:]), -1) * 255).round().clamp(0, 255).to(torch.uint8)
        return image[..., :4].contiguous(), image[..., 4].contiguous()

    def _visible(self, keypoints: Tensor, fragments, on_hand: Tensor, count: int) -> Tensor:
        """Whether the hand is seen at each keypoint, no further before the joint than its skin."""
        side = self.size * self.supersample
        depth = torch.zeros(count * side * side, device=self.device)
        depth[fragments.pixel] = torch.where(on_hand, fragments.depth, 0.0)
        at = ((keypoints[..., :2] + 0.5) * self.supersample - 0.5).round().long()
        inside = ((at >= 0) & (at < side)).all(-1)
        at = at.clamp(0, side - 1)
        image = torch.arange(count, device=self.device)[:, None]
        seen = depth[(image * side + at[..., 1]) * side + at[..., 0]]
        reach = torch.full((21,), FINGER_REACH, device=self.device)
        reach[[0, 1, 2, 5, 9, 13, 17]] = PALM_REACH
        return (inside & (seen > 0) & (seen > keypoints[..., 2] - reach)).to(torch.uint8)
