# SPDX-License-Identifier: Apache-2.0
import json

import cv2
import numpy as np
import pytest
import torch

from cmr_models.hand import load_hand
from cmr_models.synth import Backgrounds, Engine, compose
from cmr_models.synth.bake import CHUNK, DTYPES, bake
from cmr_models.synth.objects import IN_FRONT
from cmr_models.synth.sheet import main, mirror, sheet
from cmr_models.synth.surface import Surface, vertex_normals

SIZE, COUNT = 80, 12


@pytest.fixture(scope="module")
def hand():
    return load_hand()


@pytest.fixture(scope="module")
def batch(hand):
    return Engine(hand, SIZE, seed=4).render(COUNT)


def test_labels_are_joints_and_mesh_of_one_hand(hand, batch):
    regressed = torch.einsum("jv,nvk->njk", torch.from_numpy(hand.joint_regressor), batch.vertices)
    torch.testing.assert_close(regressed, batch.joints, atol=1e-5, rtol=0)
    torch.testing.assert_close(batch.joints[:, 9], torch.zeros(COUNT, 3))
    camera = batch.joints + batch.root[:, None]
    pixels = camera[..., :2] / camera[..., 2:] * batch.focal[:, None, None] + (SIZE - 1) / 2
    torch.testing.assert_close(pixels, batch.keypoints, atol=1e-3, rtol=0)


def test_visible_joints_lie_on_the_silhouette(batch):
    assert batch.visible.float().mean() > 0.3
    for k in range(len(batch.visible)):
        for x, y in batch.keypoints[k][batch.visible[k] > 0].round().int().tolist():
            around = batch.silhouette[k, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
            assert around.max() > 0


def test_silhouette_is_where_the_mesh_projects(hand, batch):
    """The network's mesh, drawn as a mask, covers the silhouette; what it covers more is hidden by arm or object."""
    from cmr_models.synth.raster import rasterise

    camera = batch.vertices + batch.root[:, None]
    pixels = camera[..., :2] / camera[..., 2:] * batch.focal[:, None, None] + (SIZE - 1) / 2
    points, faces = torch.cat((pixels, camera[..., 2:]), -1), torch.from_numpy(hand.faces).long()
    mask = torch.zeros(COUNT * SIZE * SIZE, dtype=torch.bool)
    mask[rasterise(points, faces, SIZE, SIZE, cull=False).pixel] = True
    mask, seen = mask.reshape(COUNT, SIZE, SIZE), batch.silhouette > 127
    assert (seen & ~mask).sum() / seen.sum() < 0.03
    shares = (seen & mask).sum((1, 2)) / mask.sum((1, 2)).clamp_min(1)
    assert shares.median() > 0.95


def test_silhouette_is_within_alpha(batch):
    assert (batch.silhouette <= batch.rgba[..., 3]).all()
    assert (batch.silhouette.flatten(1).amax(1) > 0).float().mean() > 0.95


def test_the_same_seed_gives_the_same_batch(hand):
    engine = Engine(hand, 48, seed=6, stream=2)
    first = engine.render(3)
    following = engine.render(3)
    engine.restart(6, 2)
    for ours, theirs in zip(engine.render(3), first, strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(following.keypoints, first.keypoints)


def test_supersampling_smooths_the_edge_only(hand):
    fine, coarse = (Engine(hand, SIZE, seed=9, supersample=s).render(4) for s in (2, 1))
    torch.testing.assert_close(fine.keypoints, coarse.keypoints)
    assert ((fine.silhouette > 0) & (fine.silhouette < 255)).any()
    assert set(coarse.silhouette.unique().tolist()) <= {0, 255}
    assert ((fine.silhouette > 127) != (coarse.silhouette > 127)).float().mean() < 0.02


def test_compose_blends_straight_alpha():
    rgba = torch.tensor([[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 51]]], dtype=torch.uint8)
    out = compose(rgba, torch.full((1, 3, 3), 50, dtype=torch.uint8))
    assert out.tolist() == [[[200, 100, 0], [50, 50, 50], [80, 60, 40]]]


def test_mirror_keeps_keypoints_on_their_pixels():
    image = np.zeros((1, 9, 11, 3), np.uint8)
    image[0, 4, 2] = 255
    flipped, points = mirror(image, np.array([[[2.0, 4.0]]]))
    x, y = points[0, 0].astype(int)
    assert flipped[0, y, x, 0] == 255
    assert x == 8


def test_drawn_surface_is_closed_and_points_outward(hand):
    surface = Surface(hand, torch.device("cpu"))
    faces = surface.faces.numpy()
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    forward, backward = {tuple(e) for e in edges.tolist()}, {tuple(e[::-1]) for e in edges.tolist()}
    assert len(forward) == len(edges)
    assert forward == backward
    rest = torch.from_numpy(hand.rest)[None]
    normals = vertex_normals(rest, surface.faces)[0]
    nails = torch.from_numpy(hand.dorsal) > 0.9
    assert (normals[nails, 2] < 0).float().mean() > 0.9  # the back faces -z


def test_objects_hide_the_hand(hand, monkeypatch):
    def areas(shares):
        monkeypatch.setattr("cmr_models.synth.objects.SHARES", shares)
        return (Engine(hand, SIZE, seed=2).render(8).silhouette > 127).sum((1, 2)).float()

    bare, hidden = areas((1.0, 0.0, 0.0)), areas((0.0, 0.0, 1.0))
    assert (hidden <= bare).all()
    assert 0.4 * bare.sum() < hidden.sum() < 0.95 * bare.sum()
    assert IN_FRONT == 2


def test_bake_goes_on_where_it_stopped(tmp_path):
    bake(tmp_path, CHUNK + 5, size=32, seed=3)
    first = {name: np.load(tmp_path / f"{name}.npy") for name in DTYPES}
    assert first["rgba"].shape == (CHUNK + 5, 32, 32, 4)
    assert np.load(tmp_path / "done.npy").tolist() == [1, 1]
    done = np.load(tmp_path / "done.npy", mmap_mode="r+")
    np.load(tmp_path / "rgba.npy", mmap_mode="r+")[CHUNK:] = 7
    done[1] = 0
    bake(tmp_path, CHUNK + 5, size=32, seed=3)
    for name, values in first.items():
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), values)
    assert json.loads((tmp_path / "about.json").read_text())["seed"] == 3
    with pytest.raises(SystemExit, match="another folder"):
        bake(tmp_path, CHUNK + 5, size=32, seed=4)


def test_sheet_has_a_cell_per_sample(batch):
    images = compose(batch.rgba, torch.from_numpy(Backgrounds(None, 0).sample(COUNT, SIZE))).numpy()
    assert sheet(batch, images, columns=5).shape == (3 * 2 * SIZE, 5 * 2 * SIZE, 3)


def test_the_command_prints_the_sheet_it_wrote_or_fails(tmp_path, capsys):
    options = ["--count", "2", "--size", "48", "--columns", "2"]
    main([str(tmp_path / "a.png"), *options])
    assert capsys.readouterr().out.strip() == str(tmp_path / "a.png")
    assert cv2.imread(str(tmp_path / "a.png")).shape == (96, 192, 3)
    for name in ("none/a.png", "a.text"):
        with pytest.raises(SystemExit, match="cannot be written"):
            main([str(tmp_path / name), *options])
    assert capsys.readouterr().out == ""
