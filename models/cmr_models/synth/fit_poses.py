# SPDX-License-Identifier: Apache-2.0
"""Poses of photographed hands: ``python -m cmr_models.synth.fit_poses REAL.npz OUT.npz [--sheet PNG]``.

REAL.npz is what :mod:`cmr_models.real_crops` writes. The hand model is fitted to the weak labels of every hand that is
not held out, up to similarity, all hands at once; poses that fit are thinned out to a diverse set. OUT.npz holds

=======  =====================  ==============================================================================
array    shape, type            content
=======  =====================  ==============================================================================
poses    (N, 15, 3) float16     degrees: anatomical flexion, abduction, twist of thumb and fingers (:mod:`.pose`)
weight   (N,) float16           how often to draw each; sums to one
=======  =====================  ==============================================================================

The labels know of no forearm, so that the wrist stays at zero. ``--sheet`` draws some photos beside their fits.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from ..hand import HandModel, HandTopology, load_hand
from ..losses import similarity_align
from ..photos.jpeg import decode
from ..recut import warp
from .pose import DIP_PER_PIP, SHAPE_LIMIT, clamp_to_limits, library, neutral_angles
from .raster import rasterise

__all__ = ["Fit", "fit", "main", "thin"]

#: Standard deviation of a label's joint, metres: about the median residual.
SIGMA = 0.004
#: That of a distal joint about what its tendon does with the middle one, and of twists about none. The labels' index
#: is straight in its middle joint and bent by 40 degrees in its last one where an open palm is seen, and in fists last
#: joints are straight: without this fingers would be crooked.
SIGMA_TENDON, SIGMA_TWIST = math.radians(15), math.radians(5)
#: Adam: first step in radians (shape: five times as many standard deviations), steps, gestures to start from.
RATE, STEPS, STARTS = 0.05, 150, 2
#: Mean residual of a hand that is kept, millimetres at the hand model's scale, at most; trust of its labels, at least.
LIMIT_MM, TRUST = 5.0, 0.3
#: Poses wanted.
COUNT = 1200
#: Side of a picture of the sheet in pixels.
CELL = 200
PIP, DIP = [5, 8, 11, 14], [6, 9, 12, 15]


class Joints:
    """Joints of `HandModel` alone, from moments of the skin around each: exact, and quick for thousands of hands."""

    def __init__(self, model: HandModel) -> None:
        self.model = model
        near = model.joint_regressor[..., None] * model.skin_weights[model.vertex_index]  # joint, vertex, bone
        rest = torch.cat((model.rest[None], model.shape_directions))[:, model.vertex_index]
        self.weight, self.moment = near.sum(1), torch.einsum("jvb,svx->sjbx", near, rest)

    def __call__(self, angles: Tensor, shape: Tensor) -> Tensor:
        """Joints (B, 21, 3), metres; ``angles`` (B, 16, 3) and ``shape`` (B, S) as `HandModel` takes them."""
        rotations, offsets = self.model.bone_transforms(angles, shape)
        moment = self.moment[0] + torch.einsum("bs,sjkx->bjkx", shape, self.moment[1:])
        return torch.einsum("bkxy,bjky->bjx", rotations, moment) + self.weight @ offsets


class Fit(NamedTuple):
    """Fitted hands.

    Attributes
    ----------
    angles : Tensor
        (B, 16, 3) radians, anatomical, within the limits of `pose`; the wrist's are zero.
    shape : Tensor
        (B, S) standard deviations.
    joints : Tensor
        (B, 21, 3) metres, canonical frame.
    residual : Tensor
        (B,) mean distance in metres to the labels when these are moved onto the joints.
    """

    angles: Tensor
    shape: Tensor
    joints: Tensor
    residual: Tensor


def nearest_gestures(joints: Joints, neutral: Tensor, world: Tensor) -> Tensor:
    """Angles (STARTS, B, 16, 3) of the gestures whose joints are nearest to labels (B, 21, 3), up to similarity."""
    degrees = library()[0]
    angles = clamp_to_limits(torch.cat((torch.zeros(len(degrees), 1, 3), degrees), 1) * (math.pi / 180))
    posed = joints(angles - neutral, torch.zeros(len(angles), joints.model.shape_count))
    apart = [(similarity_align(one.expand_as(world), world) - world).square().sum((1, 2)) for one in posed]
    return angles[torch.stack(apart).topk(STARTS, dim=0, largest=False).indices]


def fit(hand: HandTopology, world: Tensor, sigma: float = SIGMA) -> Fit:
    """Fit pose and shape to labelled right hands: the most probable ones, if labels and priors are Gaussian.

    Parameters
    ----------
    hand : HandTopology
        From `load_hand`.
    world : Tensor
        (B, 21, 3) joints, about in metres; up to similarity.
    sigma : float
        Standard deviation of the labels, metres.
    """
    joints, neutral = Joints(HandModel(hand)), neutral_angles(hand)
    fits, costs = [], []
    for start in nearest_gestures(joints, neutral, world):
        angles, shape = start.clone(), torch.zeros(len(world), joints.model.shape_count)
        groups = [{"params": [angles.requires_grad_()]}, {"params": [shape.requires_grad_()], "lr": 5 * RATE}]
        adam = torch.optim.Adam(groups, RATE, betas=(0.9, 0.99))
        slower = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.02, STEPS)
        for _ in range(STEPS):
            adam.zero_grad()
            posed = joints(angles - neutral, shape)
            cost = (similarity_align(posed, world) - world).square().sum((1, 2)) / sigma**2 + shape.square().sum(1)
            cost = cost + ((angles[:, DIP, 0] - DIP_PER_PIP * angles[:, PIP, 0]) / SIGMA_TENDON).square().sum(1)
            cost = cost + (angles[..., 2] / SIGMA_TWIST).square().sum(1)
            cost.sum().backward()
            adam.step()
            slower.step()
            with torch.no_grad():
                angles.copy_(clamp_to_limits(angles))
                angles[:, 0] = 0
                shape.clamp_(-SHAPE_LIMIT, SHAPE_LIMIT)
        with torch.no_grad():
            posed = joints(angles - neutral, shape)
            residual = (similarity_align(world, posed) - posed).norm(dim=-1).mean(1)
        fits.append(Fit(angles.detach(), shape.detach(), posed, residual))
        costs.append(cost.detach())
    best = torch.stack(costs).argmin(0)
    return Fit(*(torch.stack(values)[best, torch.arange(len(world))] for values in zip(*fits, strict=True)))


def thin(poses: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Choose poses far from one another (Gonzalez, 1985), from the one next to the mean on.

    Parameters
    ----------
    poses : Tensor
        (B, ...) angles.
    count : int
        How many, at most; of equal poses one is chosen.

    Returns
    -------
    index : Tensor
        (N,) int64.
    weight : Tensor
        (N,) the square root of the number of poses nearest to each, so that frequent ones stay somewhat more
        frequent; sums to one.
    """
    flat = poses.flatten(1)
    chosen = [int((flat - flat.mean(0)).norm(dim=1).argmin())]
    distance = (flat - flat[chosen[0]]).norm(dim=1)
    owner = torch.zeros(len(flat), dtype=torch.long)
    while len(chosen) < count and distance.max() > 0:
        chosen.append(int(distance.argmax()))
        fresh = (flat - flat[chosen[-1]]).norm(dim=1)
        owner[fresh < distance] = len(chosen) - 1
        distance = distance.minimum(fresh)
    weight = torch.bincount(owner, minlength=len(chosen)).sqrt()
    return torch.tensor(chosen), weight / weight.sum()


def draw(hand: HandTopology, fitted: Fit, row: int, world: Tensor, keypoints: np.ndarray, size: int) -> np.ndarray:
    """Grey picture (size, size, 3) uint8 of a fitted hand as the labels ``world`` and ``keypoints`` (pixels) see it."""
    vertices = HandModel(hand)(fitted.angles[row, None] - neutral_angles(hand), fitted.shape[row, None]).vertices[0]
    joints = fitted.joints[row]
    moved = similarity_align(joints[None], world[None])[0]
    ones = torch.ones_like(vertices[:, :1])
    motion = torch.linalg.lstsq(torch.cat((joints, ones[:21]), 1), moved).solution
    points = torch.cat((vertices, ones), 1) @ motion
    plane, seen = moved[:, :2] - moved[:, :2].mean(0), torch.as_tensor(keypoints)
    scale = (plane * (seen - seen.mean(0))).sum() / plane.square().sum()  # weak perspective, from 1 m away
    points = scale * (points - torch.cat((moved[:, :2].mean(0), torch.tensor([-1.0]))))
    points[:, :2] += seen.mean(0)
    faces = torch.as_tensor(hand.render_faces).long()
    shown = rasterise(points[None], faces, size, size)
    corners = points[faces[shown.face]]
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    light = torch.nn.functional.normalize(normal, dim=1) @ torch.tensor([-0.4, -0.5, -0.77])
    picture = torch.zeros(size * size)
    picture[shown.pixel] = 70 + 170 * light.clamp_min(0)
    return np.repeat(picture.reshape(size, size, 1).byte().numpy(), 3, 2)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m cmr_models.synth.fit_poses", description=__doc__.split(":")[0])
    parser.add_argument("real", type=Path, help="NPZ file of cmr_models.real_crops")
    parser.add_argument("out", type=Path, help="NPZ file to write")
    parser.add_argument("--count", type=int, default=COUNT, help=f"poses wanted (default {COUNT})")
    parser.add_argument("--limit", type=float, default=LIMIT_MM, help=f"largest mean residual in mm ({LIMIT_MM:.0f})")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="draw 24 photos beside their fits")
    args = parser.parse_args(argv)
    with np.load(args.real) as file:
        data = {name: file[name] for name in ("jpeg", "offsets", "keypoints", "world", "right", "weight", "val")}
    rows = np.flatnonzero(~data["val"] & (data["weight"] >= TRUST))
    world = data["world"][rows]
    world[~data["right"][rows], :, 0] *= -1
    hand, world = load_hand(), torch.from_numpy(world)
    fitted = fit(hand, world)
    millimetres = 1000 * fitted.residual
    quantiles = millimetres.quantile(torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9, 0.99])).tolist()
    good = (millimetres <= args.limit).nonzero()[:, 0]
    if not len(good):
        raise SystemExit(f"no hand of {len(rows)} fits within {args.limit} mm: raise --limit above {quantiles[0]:.1f}")
    degrees = (fitted.angles[good, 1:] * (180 / math.pi)).half()
    index, weight = thin(degrees.float(), args.count)
    np.savez_compressed(args.out, poses=degrees[index].numpy(), weight=weight.half().numpy())
    print(f"{len(rows)} hands; residual in mm, 10/25/50/75/90/99 %: {' '.join(f'{q:.1f}' for q in quantiles)}")
    print(f"{len(good)} within {args.limit} mm, {len(index)} poses kept, {args.out.stat().st_size / 1000:.0f} kB")
    if args.sheet:
        cells = []
        for k in good[torch.linspace(0, len(good) - 1, 24).long()].tolist():
            photo, points = decode(data["jpeg"], data["offsets"], rows[k]), data["keypoints"][rows[k]]
            if not data["right"][rows[k]]:
                photo, points = photo[:, ::-1], points * np.float32([-1, 1]) + np.float32([photo.shape[1] - 1, 0])
            low, high = points.min(0), points.max(0)
            matrix = warp(CELL, 0.0, CELL / (1.6 * (high - low).max()), (low + high) / 2, np.zeros(2))
            points = (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
            photo = cv2.warpAffine(np.ascontiguousarray(photo), matrix, (CELL, CELL))
            cells.append(np.hstack([photo, draw(hand, fitted, k, world[k], points, CELL)]))
        cv2.imwrite(str(args.sheet), np.vstack([np.hstack(cells[k : k + 4]) for k in range(0, 24, 4)])[..., ::-1])


if __name__ == "__main__":
    main()
