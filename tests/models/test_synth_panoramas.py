# SPDX-License-Identifier: Apache-2.0
"""Light of panoramas against integrals over the sphere."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cmr_models.hand import load_hand
from cmr_models.synth import shade
from cmr_models.synth.bake_panoramas import BLUE, FINE_ROWS, LUMINANCE, main, sound, split
from cmr_models.synth.engine import Engine
from cmr_models.synth.light import ambient, sample_lights
from cmr_models.synth.panoramas import grid, irradiance, load_panoramas, turns, under_panoramas
from cmr_models.synth.rng import Rng

UP = torch.tensor([0.0, -1.0, 0.0])
STILL = torch.eye(3)[None]


def sent_back(sky: torch.Tensor, normals: torch.Tensor) -> torch.Tensor:
    """Light (N, 3) that white surfaces send back, summed over the sky (R, 2 R, 3)."""
    directions, angle = grid(sky.shape[0])
    cosine = (normals @ directions.reshape(-1, 3).T).clamp_min(0)
    return cosine @ (sky * angle[..., None]).reshape(-1, 3) / math.pi


def smooth_sky(rows: int) -> torch.Tensor:
    """Draw a sky that changes as slowly as harmonics of second order do."""
    directions, _ = grid(rows)
    axes = Rng(1).direction(3)
    return (
        1
        + 0.5 * (directions @ axes[0])[..., None]
        + 0.3 * (directions @ axes[1:].T).prod(-1)[..., None] * torch.ones(3)
    )


def test_the_grid_covers_the_sphere_once():
    directions, angle = grid(16)
    assert float(angle.sum()) == pytest.approx(4 * math.pi, rel=1e-6)
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(16, 32))
    assert float(directions[0, 0] @ UP) > 0.99
    assert ((directions * angle[..., None]).sum((0, 1)).abs() < 1e-5).all()


def test_a_white_sky_is_sent_back_as_it_is():
    harmonics = irradiance(torch.ones(1, 16, 32, 3), STILL)
    torch.testing.assert_close(ambient(Rng(0).direction(1, 50), harmonics), torch.ones(1, 50, 3), rtol=0, atol=2e-3)


def test_harmonics_are_the_integral_over_the_sky():
    sky, normals = smooth_sky(64), Rng(0).direction(1, 50)
    found = ambient(normals, irradiance(sky[None], STILL))[0]
    torch.testing.assert_close(found, sent_back(sky, normals[0]), rtol=0, atol=3e-3)


def test_real_skies_are_sent_back_nearly_as_by_the_integral():
    """Second order is off by 3 % in the mean and by 9 % at most (Ramamoorthi and Hanrahan, 2001)."""
    normals, means = Rng(0).direction(1, 100), []
    for sky in load_panoramas().sky:
        exact = sent_back(sky, normals[0])
        off = (ambient(normals, irradiance(sky[None], STILL))[0] - exact).abs()
        assert float(off.max() / exact.max()) < 0.1
        means.append(float(off.mean() / exact.mean()))
    assert np.mean(means) < 0.03


@pytest.mark.parametrize("seed", range(3))
def test_a_turned_sky_lights_turned_surfaces_alike(seed):
    turn = torch.from_numpy(Rotation.random(random_state=seed).as_matrix()).float()[None]
    sky, normals = smooth_sky(64)[None], Rng(seed).direction(1, 20)
    turned = ambient(normals @ turn.transpose(1, 2), irradiance(sky, turn))
    torch.testing.assert_close(turned, ambient(normals, irradiance(sky, STILL)), rtol=0, atol=2e-3)


def test_cameras_look_around_and_stay_upright():
    turned = turns(Rng(0), 500)
    torch.testing.assert_close(turned @ turned.transpose(1, 2), torch.eye(3).expand(500, 3, 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.linalg.det(turned), torch.ones(500))
    assert float((turned @ UP)[:, 1].max()) < 0  # up in the panorama is up in the image
    ahead = turned[:, 2]  # where the camera looks, in the panorama
    assert (ahead.mean(0)[[0, 2]].abs() < 0.1).all()


def test_the_asset_holds_places_with_their_light_above_and_one_mean_brightness():
    places = load_panoramas()
    _, angle = grid(places.sky.shape[1])
    mean = (places.sky * angle[..., None]).sum((1, 2)) / (4 * math.pi) + places.colour
    torch.testing.assert_close(mean @ LUMINANCE, torch.ones(len(mean)), rtol=0, atol=0.01)
    torch.testing.assert_close(places.direction.norm(dim=-1), torch.ones(len(mean)), rtol=0, atol=1e-3)
    assert (places.direction @ UP > 0).all()
    assert (places.sky >= 0).all()
    assert (places.colour[:, 2] < BLUE * places.colour[:, 0]).all()


def test_a_lamp_is_split_from_the_sky_and_nothing_is_lost():
    directions, angle = grid(FINE_ROWS)
    towards = torch.nn.functional.normalize(torch.tensor([0.4, -0.7, 0.3]), dim=0)
    lamp = (directions @ towards > math.cos(math.radians(4))) * 50.0
    warm = torch.tensor([1.0, 0.8, 0.5])
    radiance = torch.full((FINE_ROWS, 2 * FINE_ROWS, 3), 0.3) + lamp[..., None] * warm
    found = split(radiance)
    assert float(found.direction[0] @ towards) > math.cos(math.radians(0.5))
    torch.testing.assert_close(found.sky / found.sky.mean(), torch.ones_like(found.sky), rtol=0, atol=1e-3)
    torch.testing.assert_close(found.colour[0] / found.colour[0, 0], warm, rtol=1e-3, atol=0)
    share = (lamp * angle).sum() / math.pi * warm @ LUMINANCE
    assert float(found.colour[0] @ LUMINANCE) == pytest.approx(float(share / (share + 0.3)), rel=1e-3)


def test_a_panorama_that_lost_the_colour_of_its_sun_is_refused():
    pixels = torch.full((8, 16, 3), 0.3)
    pixels[2, 5] = torch.tensor([900.0, 100.0, 1.0])  # sets
    sound("red", pixels)
    pixels[2, 5] = torch.tensor([0.0, 0.0, 900.0])
    with pytest.raises(SystemExit, match=r"blue: its brightest pixel, \(0, 0, 900\)"):
        sound("blue", pixels)


def test_only_their_share_of_the_scenes_is_lit_by_panoramas():
    lights = sample_lights(Rng(0), 64)
    for a, b in zip(under_panoramas(Rng(1), lights, share=0.0), lights, strict=True):
        assert torch.equal(a, b)
    lit = under_panoramas(Rng(1), lights, share=1.0)
    assert not lit.colour[:, 1:].any()  # one lamp
    assert torch.equal(lit.direction[:, 1:], lights.direction[:, 1:])
    torch.testing.assert_close(lit.direction.norm(dim=-1), torch.ones(64, 3))
    some = under_panoramas(Rng(1), lights, share=0.5)
    changed = (some.harmonics != lights.harmonics).any(2).any(1)
    assert 16 < int(changed.sum()) < 48
    assert torch.equal(some.harmonics[changed], lit.harmonics[changed])


def test_light_changes_the_picture_and_not_the_hand(monkeypatch):
    hands = []
    for share in (0.0, 1.0):
        monkeypatch.setattr(shade, "under_panoramas", lambda rng, lights, s=share: under_panoramas(rng, lights, s))
        engine = Engine(load_hand(), 48, seed=3)
        hands += [engine.render(2), engine.render(2)]
    for dark, lit in zip(hands[:2], hands[2:], strict=True):
        assert torch.equal(dark.vertices, lit.vertices)
        assert torch.equal(dark.silhouette, lit.silhouette)
        assert not torch.equal(dark.rgba, lit.rgba)


def test_a_folder_without_panoramas_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path), str(tmp_path / "out.npz")])
    assert "no .exr files" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
