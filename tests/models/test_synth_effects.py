# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest
import torch

from cmr_models.hand import HandModel, load_hand
from cmr_models.synth.appearance import cloth_albedo, cloth_thickness, pigment, sample_cloth, sample_skin, skin_albedo
from cmr_models.synth.background import KINDS, Backgrounds, draw_background
from cmr_models.synth.camera_noise import (
    compress,
    degrade,
    expose,
    filter_images,
    gaussian_kernels,
    lower_resolution,
    motion_kernels,
)
from cmr_models.synth.detail import TEXELS, detail_coordinates, draw_details, speckle_tile
from cmr_models.synth.gestures import gesture_angles
from cmr_models.synth.light import ambient, diffuse, occlusion, sample_lights, shadow, specular
from cmr_models.synth.objects import find_grip, free_radius, shape_points, superellipsoid
from cmr_models.synth.pose import neutral_angles
from cmr_models.synth.rng import Rng


def test_random_numbers_depend_on_seed_and_stream():
    assert torch.equal(Rng(1, 2).normal(5), Rng(1, 2).normal(5))
    assert not torch.equal(Rng(1, 2).normal(5), Rng(1, 3).normal(5))
    values = Rng(0).log_uniform(0.25, 1.2, 1000)
    assert 0.25 <= values.min() < 0.27
    assert 1.1 < values.max() < 1.2
    torch.testing.assert_close(Rng(0).direction(7, 2).norm(dim=-1), torch.ones(7, 2))


def test_skin_reaches_from_light_to_dark_and_stays_skin():
    low, high = (pigment(torch.tensor([m]), torch.tensor([0.5]))[0] for m in (0.05, 3.1))
    assert low.mean() > 5 * high.mean()
    for colour in (low, high):
        assert colour[0] > colour[1] > colour[2]


def test_palms_are_lighter_than_backs_above_all_on_dark_skin():
    count = 64
    skin = sample_skin(Rng(0), count)
    flat = torch.zeros(TEXELS**2, 5)
    speckle = torch.zeros(512**2, 3)

    def side(dorsal):
        args = (torch.arange(count), torch.full((count, 2), 250.0), torch.full((count,), dorsal), torch.zeros(count))
        return skin_albedo(skin, *args, flat, speckle).mean(1)

    palm, back = side(-1.0), side(1.0)
    dark = skin.melanin > 1.5
    assert (palm > back)[dark].all()
    assert (palm / back)[dark].mean() > 1.5 * (palm / back)[skin.melanin < 0.4].mean()


def test_details_lie_on_the_hand():
    hand = load_hand()
    joints = hand.joint_regressor @ hand.rest[hand.vertex_index]
    maps = draw_details(joints).reshape(TEXELS, TEXELS, 5)
    assert maps.min() >= 0
    assert maps.max() <= 1.001
    x, y = (
        detail_coordinates(torch.from_numpy(joints[6])).round().int().tolist()
    )  # index PIP: creases before, folds behind
    assert maps[y - 4 : y + 5, x - 4 : x + 5, 0].max() > 0.3
    assert maps[y - 6 : y + 7, x - 4 : x + 5, 2].max() > 0.3
    assert maps[:5].max() < 0.05
    tile = speckle_tile()
    torch.testing.assert_close(tile.std(0), torch.ones(3), atol=0.02, rtol=0)


def test_sleeves_begin_where_they_say():
    cloth = sample_cloth(Rng(3), 40)
    along = torch.linspace(-0.1, 0.25, 50).expand(40, -1)
    thickness = cloth_thickness(cloth, along)
    assert (thickness[along < 0.004] == 0).all()
    image = torch.arange(40)
    _, covered = cloth_albedo(cloth, image, cloth.start + 0.01, torch.zeros(40))
    assert covered.all()
    _, covered = cloth_albedo(cloth, image, torch.full((40,), -0.05), torch.zeros(40))
    assert not covered.any()


def test_lights_brighten_what_faces_them():
    lights = sample_lights(Rng(0), 50)
    torch.testing.assert_close(lights.direction.norm(dim=-1), torch.ones(50, 3))
    towards, colour = lights.direction[:, 0], lights.colour[:, 0]
    facing, averted = (diffuse(n[:, None], towards, colour) for n in (towards, -towards))
    torch.testing.assert_close(facing[:, 0], colour)
    assert (averted == 0).all()
    assert (ambient(towards[:, None], lights.harmonics) > 0).all()
    gloss = torch.full((50,), 20.0)
    at_mirror = specular(towards, towards, towards, gloss)
    aside = specular(torch.nn.functional.normalize(towards + 0.7 * towards.roll(1, 1), dim=1), towards, towards, gloss)
    assert (at_mirror >= aside).all()


def test_occlusion_darkens_crevices():
    points, normals = torch.tensor([[[0.0, 0, 0], [0.0, 0, 0]]]), torch.tensor([[[0.0, 0, 1], [0.0, 0, -1]]])
    share = occlusion(points, normals, torch.tensor([[[0.0, 0, 0.015]]]), torch.tensor([0.01]))
    assert share[0, 0] < 0.75
    assert share[0, 1] == 1


def test_a_ball_casts_a_shadow():
    angles, faces = superellipsoid()
    points = shape_points(angles, torch.full((1, 3), 0.02), torch.ones(1, 2)) + torch.tensor([0.0, 0, 0.5])
    direction = torch.tensor([[0.0, -1.0, 0.0]])
    lit = shadow(points, faces, direction, torch.tensor([[0.0, 0, 0.5]]), torch.tensor([0.1]))
    below, above, aside = [0.0, 0.05, 0.5], [0.0, -0.05, 0.5], [0.06, 0.05, 0.5]
    share = lit(torch.tensor([below, above, aside, [0.0, -0.02, 0.5]]), torch.zeros(4, dtype=torch.long))
    assert share.tolist() == [0, 1, 1, 1]


def test_held_things_fit():
    points = torch.tensor([[[0.03, 0.0, 0.0], [0.0, 0.02, 0.01], [0.0, 0.001, 0.3]]])
    radius = free_radius(points, torch.zeros(1, 3), torch.tensor([[0.0, 0.0, 1.0]]))
    assert radius.item() == pytest.approx(0.02)


def test_a_grip_is_found_in_a_closing_hand_only():
    hand = load_hand()
    model, neutral = HandModel(hand), neutral_angles(hand)
    angles = torch.stack([torch.cat((torch.zeros(1, 3), gesture_angles(name))) for name in ("power grasp", "spread")])
    posed = model(angles * (np.pi / 180) - neutral, torch.zeros(2, model.shape_count))
    axis = torch.nn.functional.normalize(posed.joints[:, 17] - posed.joints[:, 5], dim=1)
    centre, radius, closed = find_grip(posed.vertices, posed.joints, axis)
    assert closed.tolist() == [True, False]
    assert 0.006 < radius[0] < 0.05
    assert centre[0, 2] > 0.01  # before the palm: canonical +z


def test_backgrounds_vary_and_repeat_by_seed(tmp_path):
    random = np.random.default_rng(0)
    images = [draw_background(random, 48) for _ in range(8 * len(KINDS))]
    assert all(i.shape == (48, 48, 3) and i.dtype == np.uint8 for i in images)
    assert np.std([i.mean() for i in images]) > 20
    np.testing.assert_array_equal(Backgrounds(None, 1).sample(3, 32), Backgrounds(None, 1).sample(3, 32))
    # A bank of two photographs, one red, one blue.
    jpegs = [cv2.imencode(".jpg", np.full((80, 100, 3), c, np.uint8))[1] for c in ((0, 0, 250), (250, 0, 0))]
    bank = tmp_path / "bank.npz"
    np.savez(bank, bg_jpeg=np.concatenate(jpegs), bg_offsets=np.cumsum([0] + [len(j) for j in jpegs]))
    source = Backgrounds(bank, 0)
    assert len(source) == 2
    colours = lambda source: {tuple((source.photo(40).mean((0, 1)) > 128).tolist()) for _ in range(20)}  # noqa: E731
    assert colours(source) == {(True, False, False), (False, False, True)}
    # One of them is held out.
    np.savez(bank, **np.load(bank), bg_val=np.array([False, True]))
    assert colours(Backgrounds(bank, 0)) == {(True, False, False)}
    assert colours(Backgrounds(bank, 0, val=True)) == {(False, False, True)}


def test_camera_effects_do_what_they_say():
    image = torch.zeros(2, 3, 21, 21)
    image[:, :, 10, 10] = 1
    blurred = filter_images(image, gaussian_kernels(torch.tensor([0.05, 1.5])))
    torch.testing.assert_close(blurred.sum((2, 3)), torch.ones(2, 3))
    assert blurred[0, 0, 10, 10] > 0.99 > 0.2 > blurred[1, 0, 10, 10]
    smeared = filter_images(image, motion_kernels(torch.tensor([9.0, 9.0]), torch.tensor([0.0, np.pi / 2])))
    assert smeared[0, 0, 10, 7] > 10 * smeared[0, 0, 7, 10]
    assert smeared[1, 0, 7, 10] > 10 * smeared[1, 0, 10, 7]
    grey, one = torch.full((1, 3, 4, 4), 0.4), torch.ones(1)
    same = expose(grey, torch.ones(1, 3), one, one, one)
    torch.testing.assert_close(same, grey)
    warm = expose(grey, torch.tensor([[1.2, 1.0, 0.8]]), one, one, one)
    assert warm[0, 0, 0, 0] > warm[0, 1, 0, 0] > warm[0, 2, 0, 0]
    assert lower_resolution(image, 2.0).amax() < 0.5
    ramp = torch.arange(160.0).expand(1, 1, 160, 160) / 160
    for factor in (1.3, 2.1, 3.1):  # nothing moves, save within a few pixels of the border
        assert (lower_resolution(ramp, factor) - ramp)[..., 16:-16].abs().max() * 160 < 0.1
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    errors = [np.abs(compress(noise, q).astype(int) - noise).mean() for q in (20, 98)]
    assert errors[0] > errors[1]


def test_degrade_repeats_by_seed_and_keeps_the_content_in_place():
    images = torch.full((30, 48, 48, 3), 60, dtype=torch.uint8)
    images[:, 12:30, 20:40] = 200
    once, twice = (degrade(Rng(7), images) for _ in range(2))
    assert torch.equal(once, twice)
    assert once.shape == images.shape
    assert once.dtype == torch.uint8
    bright = once[:, 15:27, 23:37].float().mean((1, 2, 3)) - once[:, 35:].float().mean((1, 2, 3))
    assert (bright > 5).all()
