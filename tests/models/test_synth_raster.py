# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from cmr_models.synth.objects import shape_points, superellipsoid
from cmr_models.synth.raster import interpolate, rasterise


def brute_force(points: np.ndarray, faces: np.ndarray, height: int, width: int):
    """Face (-1: none) and depth per pixel by testing every pixel against every front-facing triangle."""
    seen, depth = np.full((height, width), -1), np.full((height, width), np.inf)
    margin = np.full((height, width), np.inf)  # to the nearest edge of any triangle, in pixels
    y, x = np.mgrid[:height, :width].astype(float)
    for number, face in enumerate(faces):
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = points[face].astype(float)
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area >= 0:
            continue
        weights = []
        for (px, py), (qx, qy) in (((bx, by), (cx, cy)), ((cx, cy), (ax, ay)), ((ax, ay), (bx, by))):
            edge = (qx - px) * (y - py) - (qy - py) * (x - px)
            margin = np.minimum(margin, np.abs(edge) / np.hypot(qx - px, qy - py))
            weights.append(edge / area)
        inside = np.all(np.stack(weights) >= 0, axis=0)
        z = 1 / sum(w / k for w, k in zip(weights, (az, bz, cz), strict=True))
        nearer = inside & (z < depth)
        seen[nearer], depth[nearer] = number, z[nearer]
    return seen, depth, margin


def ball(centre=(20.0, 18.0), radius=13.0, depth=0.5):
    """A closed surface in pixels and metres."""
    angles, faces = superellipsoid()
    points = shape_points(angles, torch.ones(1, 3), torch.ones(1, 2))
    return points * torch.tensor([radius, radius, 0.1]) + torch.tensor([*centre, depth]), faces


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_agrees_with_brute_force(seed):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.rand(1, 40, 1, 2, generator=generator) * 40 - 4
    xy = centres + torch.randn(1, 40, 3, 2, generator=generator) * 8
    z = 0.3 + torch.rand(1, 40, 3, 1, generator=generator)
    points, faces = torch.cat((xy, z), -1).reshape(1, 120, 3), torch.arange(120).reshape(40, 3)
    got = rasterise(points, faces, 32, 36)
    seen, depth, margin = brute_force(points[0].numpy(), faces.numpy(), 32, 36)
    face = np.full(32 * 36, -1)
    face[got.pixel] = got.face
    z = np.full(32 * 36, np.inf)
    z[got.pixel] = got.depth
    sure = (margin > 1e-3).ravel()
    assert sure.mean() > 0.95
    assert (seen >= 0).sum() > 200
    np.testing.assert_array_equal(face[sure], seen.ravel()[sure])
    np.testing.assert_allclose(z[sure], depth.ravel()[sure], rtol=1e-4)


def test_closed_surface_has_no_holes_and_draws_no_pixel_twice():
    points, faces = ball()
    got = rasterise(points, faces, 40, 40)
    y, x = np.divmod(got.pixel.numpy(), 40)
    assert len(np.unique(got.pixel)) == len(got.pixel)
    inside = np.hypot(*np.mgrid[:40, :40].astype(float) - np.array([18.0, 20.0])[:, None, None]) < 12.6
    covered = np.zeros((40, 40), bool)
    covered[y, x] = True
    assert covered[inside].all()
    assert got.depth.max() <= 0.505  # only the near half


def test_two_triangles_share_an_edge_without_gap_or_overlap():
    generator = torch.Generator().manual_seed(5)
    for _ in range(20):
        quad = torch.tensor([[2.0, 2], [30, 3], [29, 28], [1, 30]]) + torch.randn(4, 2, generator=generator)
        points = torch.cat((quad, torch.ones(4, 1)), 1)[None]
        halves = [rasterise(points, torch.tensor([f]), 32, 32, cull=False).pixel for f in ([0, 1, 2], [0, 2, 3])]
        both = rasterise(points, torch.tensor([[0, 1, 2], [0, 2, 3]]), 32, 32, cull=False).pixel
        assert len(halves[0]) + len(halves[1]) == len(both)


def test_interpolation_is_perspective_correct():
    corners = torch.tensor([[[-0.4, -0.3, 0.5], [0.1, 0.5, 1.4], [0.5, -0.2, 0.8]]])
    pixels = torch.cat((corners[..., :2] / corners[..., 2:] * 30 + 20, corners[..., 2:]), -1)
    faces = torch.tensor([[0, 1, 2]])
    got = rasterise(pixels, faces, 40, 40, cull=False)
    points = interpolate(corners, faces, got)  # the surface's own points
    assert len(points) > 100
    torch.testing.assert_close(points[:, 2], got.depth, rtol=1e-4, atol=1e-5)
    back = points[:, :2] / points[:, 2:] * 30 + 20
    torch.testing.assert_close(back, torch.stack((got.pixel % 40, got.pixel // 40), 1).float(), rtol=0, atol=2e-3)


def test_images_of_a_batch_do_not_mix_and_outside_is_cut():
    points, faces = ball()
    moved = points + torch.tensor([100.0, 0, 0])
    partly = points - torch.tensor([25.0, 10.0, 0])
    got = rasterise(torch.cat((points, moved, partly)), faces, 40, 40)
    alone = rasterise(partly, faces, 40, 40)
    assert (got.image == 1).sum() == 0
    torch.testing.assert_close(got.pixel[got.image == 2] - 2 * 1600, alone.pixel)
    torch.testing.assert_close(got.depth[got.image == 2], alone.depth)
    assert len(rasterise(moved, faces, 40, 40).pixel) == 0


def test_triangles_behind_the_camera_are_dropped():
    points, faces = ball(depth=-0.5)
    assert len(rasterise(points, faces, 40, 40).pixel) == 0
