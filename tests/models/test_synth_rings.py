# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest
import torch

from cmr_models.hand import load_hand
from cmr_models.synth import Engine, rings
from cmr_models.synth.raster import Fragments
from cmr_models.synth.rings import FINGERS, Rings, proximal_phalanges, ring_albedo, ring_thickness, sample_rings
from cmr_models.synth.rng import Rng
from cmr_models.synth.surface import Surface

SIZE, COUNT = 96, 10
CPU = torch.device("cpu")
KNUCKLES = (5, 9, 13, 17)  # joints; the next is the finger's middle joint


@pytest.fixture(scope="module")
def hand():
    return load_hand()


@pytest.fixture(scope="module")
def phalanges(hand):
    return proximal_phalanges(hand, CPU)


@pytest.fixture(scope="module")
def joints(hand):
    return hand.joint_regressor @ hand.rest[hand.vertex_index]


def one_ring(phalanges, finger, place=0.5, half=0.001, stand_off=0.001):
    """A ring on one finger: ``place`` is a share of where it may lie."""
    middle = torch.full((1, FINGERS + 1), rings.FAR)
    low, high = phalanges.base[finger] + half, phalanges.end[finger] - half
    middle[0, finger] = low + place * (high - low)
    flat = torch.ones(1, FINGERS + 1)
    return Rings(middle, flat * half, flat * stand_off, torch.ones(1, FINGERS + 1, 3) * 0.5, flat)


def test_the_coordinate_runs_from_knuckle_to_middle_joint_on_the_proximal_phalanges_only(hand, phalanges, joints):
    finger = phalanges.finger[:-1].numpy()
    assert phalanges.finger[-1] == FINGERS
    assert set(finger.tolist()) == set(range(FINGERS + 1))
    for k, knuckle in enumerate(KNUCKLES):
        on = finger == k
        length = np.linalg.norm(joints[knuckle + 1] - joints[knuckle])
        along = phalanges.along.numpy()[on]
        # From the distances to both joints, by the law of cosines.
        to_knuckle, to_next = (np.linalg.norm(hand.rest[on] - joints[j], axis=1) for j in (knuckle, knuckle + 1))
        by_cosines = (to_knuckle**2 - to_next**2 + length**2) / (2 * length)
        np.testing.assert_allclose(along, by_cosines, atol=1e-3)
        assert (to_knuckle < 1.2 * length).all()
        assert along.min() > -1e-3
        assert along.max() < 1.03 * length
        assert 0 < phalanges.base[k] < phalanges.end[k] < length
        # Skin of the phalanx follows its bone, and no other phalanx's coordinate is defined there.
        assert (hand.skin_weights[on].argmax(1) == 4 + 3 * k).all()
    assert (phalanges.along.numpy()[finger == FINGERS] == 0).all()


def loop_round(faces, height, level):
    """Triangles of each connected part of the section of a mesh, whose vertices have a height, at a level."""
    above = height[faces] > level
    cut = np.flatnonzero(above.any(1) & ~above.all(1))
    parts = {f: f for f in cut.tolist()}

    def root(f):
        while parts[f] != f:
            f = parts[f]
        return f

    edges = {}
    for f in cut.tolist():
        for a, b in ((0, 1), (1, 2), (2, 0)):
            if above[f][a] != above[f][b]:
                edge = tuple(sorted((int(faces[f][a]), int(faces[f][b]))))
                parts[root(f)] = root(edges.setdefault(edge, f))
    loops = {}
    for f in cut.tolist():
        loops.setdefault(root(f), []).append(f)
    return list(loops.values())


@pytest.mark.parametrize("finger", range(FINGERS))
def test_a_band_closes_round_its_finger_and_touches_neither_palm_nor_neighbour(hand, phalanges, joints, finger):
    """The section through the mesh at the band's height: one whole loop is drawn, and nothing of the others."""
    knuckle, following = joints[KNUCKLES[finger]], joints[KNUCKLES[finger] + 1]
    axis = (following - knuckle) / np.linalg.norm(following - knuckle)
    height = (hand.rest - knuckle) @ axis
    faces = Surface(hand, CPU).faces
    for place in (0.0, 0.5, 1.0):
        ring = one_ring(phalanges, finger, place)
        level = float(ring.place[0, finger])
        drawn = []
        for loop in loop_round(faces.numpy(), height, level):
            # One pixel per triangle, on the line where the plane cuts it.
            corner = height[faces.numpy()[loop]]
            low, high = corner.argmin(1), corner.argmax(1)
            row = np.arange(len(loop))
            share = (level - corner[row, low]) / (corner[row, high] - corner[row, low])
            weights = np.zeros((len(loop), 3), np.float32)
            weights[row, high], weights[row, low] = share, 1 - share
            zeros = torch.zeros(len(loop), dtype=torch.long)
            pixels = Fragments(zeros, zeros, torch.tensor(loop), torch.from_numpy(weights), torch.ones(len(loop)))
            seen, _, _ = ring_albedo(ring, phalanges, faces, pixels)
            points = (hand.rest[faces.numpy()[loop]] * weights[..., None]).sum(1)
            off_axis = np.linalg.norm(points - knuckle - level * axis, axis=1)
            drawn.append((len(seen) / len(loop), off_axis.max(), len(loop)))
        whole = [d for d in drawn if d[0] == 1]
        assert len(whole) == 1
        assert whole[0][1] < 0.02
        assert whole[0][2] > 20
        assert all(d[0] == 0 for d in drawn if d not in whole)


def test_only_skin_under_and_beside_a_ring_stands_off(hand, phalanges):
    rest = torch.from_numpy(hand.rest)[None]
    surface = Surface(hand, CPU)
    cloth = Engine(hand, 16).shader.sample(Rng(0), Rng(1), 1).cloth
    bare = cloth._replace(start=torch.full((1,), 9.0), band=torch.full((1,), -9.0))
    for finger in range(FINGERS):
        ring = one_ring(phalanges, finger, stand_off=0.0015)
        moved = (surface.dress(rest, bare, ring) - rest).norm(dim=-1)[0]
        beside = (phalanges.along - ring.place[0, finger]).abs() < 0.001 + rings.FADE
        assert (moved > 0).any()
        assert (moved <= 0.0015 + 1e-6).all()
        assert ((phalanges.finger[:-1] == finger) & beside)[moved > 1e-7].all()


def test_rings_are_as_frequent_and_as_large_as_set(phalanges):
    worn = sample_rings(Rng(0), 8000, phalanges)
    here = worn.place < rings.FAR
    number = here.sum(1)
    assert not here[:, FINGERS].any()
    assert (number > 0).float().mean() == pytest.approx(rings.SHARE, abs=0.015)
    assert (number > 1).sum() / (number > 0).sum() == pytest.approx(rings.SECOND, abs=0.06)
    assert number.max() == 2
    assert here.sum(0).argmax() == 2  # the ring finger
    width = 2 * worn.half[here]
    assert 0.002 <= width.min() < 0.003
    assert 0.006 < width.max() <= 0.008
    slots = here[:, :FINGERS]
    for part, limit, sign in ((phalanges.base, -worn.half, 1), (phalanges.end, worn.half, -1)):
        edge = (worn.place + limit)[:, :FINGERS]
        assert (sign * (edge - part) > -1e-6)[slots].all()
    bright = worn.colour[here].amax(-1)
    assert bright.min() < 0.1
    assert bright.max() > 0.6
    thickness = ring_thickness(worn, phalanges)
    assert (thickness[number == 0] == 0).all()
    assert 0.0005 < thickness.max() <= 0.0015


def render(hand, monkeypatch, share, stand_off=rings.STAND_OFF, finger=2):
    """The same hands with and without rings: the random numbers are the same."""
    monkeypatch.setattr(rings, "SHARE", share)
    monkeypatch.setattr(rings, "SECOND", 0.0)
    monkeypatch.setattr(rings, "STAND_OFF", stand_off)
    monkeypatch.setattr(rings, "WORN", np.eye(FINGERS)[finger])
    return Engine(hand, SIZE, seed=4).render(COUNT)


def near(hand, batch, finger):
    """Pixels (N, S, S) no further than one from the proximal phalanx of a finger."""
    chain = hand.bone[hand.vertex_index] == 4 + 3 * finger
    camera = (batch.vertices[:, chain] + batch.root[:, None]).numpy()
    pixels = camera[..., :2] / camera[..., 2:] * batch.focal.numpy()[:, None, None] + (SIZE - 1) / 2
    masks = np.zeros((COUNT, SIZE, SIZE), np.uint8)
    for mask, points in zip(masks, pixels, strict=True):
        cv2.fillConvexPoly(mask, cv2.convexHull(points.round().astype(np.int32)), 1)
        cv2.dilate(mask, np.ones((3, 3), np.uint8), mask)
    return torch.from_numpy(masks) > 0


@pytest.mark.parametrize("finger", range(FINGERS))
def test_a_ring_colours_pixels_of_its_finger_only(hand, monkeypatch, finger):
    """Without standing off it changes neither light nor shadow, so that all other pixels stay as they are."""
    flat = (0.0, 0.0)
    ringed, bare = (render(hand, monkeypatch, share, flat, finger) for share in (1.0, 0.0))
    changed = (ringed.rgba != bare.rgba).any(-1)
    assert changed.any()
    assert not (changed & ~near(hand, bare, finger)).any()
    for name in set(bare._fields) - {"rgba"}:
        assert torch.equal(getattr(ringed, name), getattr(bare, name)), name


def test_labels_stay_and_the_silhouette_grows_by_a_hair(hand, monkeypatch):
    ringed, bare = (render(hand, monkeypatch, share) for share in (1.0, 0.0))
    for name in ("vertices", "joints", "root", "keypoints", "focal", "angles", "shape"):
        assert torch.equal(getattr(ringed, name), getattr(bare, name)), name
    changed = (ringed.silhouette.float() - bare.silhouette.float()).abs() / 255
    assert changed.sum() < 0.004 * bare.silhouette.float().sum() / 255
    assert not (changed > 0)[~near(hand, bare, 2)].any()
    assert ((ringed.rgba.float() - bare.rgba.float()).abs().amax(-1) > 20).any()


def test_the_same_seed_gives_the_same_rings(hand, monkeypatch):
    first, again = (render(hand, monkeypatch, 1.0) for _ in range(2))
    assert torch.equal(first.rgba, again.rgba)
