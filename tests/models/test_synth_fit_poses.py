# SPDX-License-Identifier: Apache-2.0
"""Poses fitted to labels: those that made the labels are found again; what ships is diverse, anatomical and told of."""

import math
from importlib.resources import files

import numpy as np
import pytest
import torch
from fake_data import write_photos

from cmr_models.hand import HandModel, load_hand
from cmr_models.losses import similarity_align
from cmr_models.synth.fit_poses import Joints, fit, main, thin
from cmr_models.synth.gestures import gesture_angles
from cmr_models.synth.pose import clamp_to_limits, limits, neutral_angles, sample_poses, sample_shapes, seen_poses
from cmr_models.synth.rng import Rng

HAND = load_hand()
MODEL = HandModel(HAND)
ASSETS = files("cmr_models.synth") / "assets"


def anatomical(name: str) -> torch.Tensor:
    """Angles (16, 3) of a gesture, radians."""
    return clamp_to_limits(torch.cat((torch.zeros(1, 3), gesture_angles(name)))[None].deg2rad())[0]


def labels(angles: torch.Tensor, shape: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """The model's joints, turned, moved and scaled at random."""
    random = np.random.default_rng(seed)
    joints = MODEL(angles - neutral_angles(HAND), shape).joints
    turns = np.linalg.qr(random.normal(size=(len(angles), 3, 3)))[0]
    turns *= np.linalg.det(turns)[:, None, None]
    scale, shift = random.uniform(0.8, 1.2, (len(angles), 1, 1)), random.uniform(-0.1, 0.1, (len(angles), 1, 3))
    return joints @ torch.from_numpy(turns * scale).float() + torch.from_numpy(shift).float()


def test_joints_from_moments_are_those_of_the_skin():
    angles, shape = sample_poses(Rng(1), 20), sample_shapes(Rng(2), 20, MODEL.shape_count)
    torch.testing.assert_close(Joints(MODEL)(angles, shape), MODEL(angles, shape).joints, atol=1e-6, rtol=0)


def test_exact_labels_are_met_by_the_angles_that_made_them():
    angles = sample_poses(Rng(0), 60)
    angles[:, 0] = 0
    world = labels(angles, 0.3 * sample_shapes(Rng(1), 60, MODEL.shape_count))
    fitted = fit(HAND, world, sigma=2e-4)  # labels are trusted more than tendons
    moved = similarity_align(world, fitted.joints)
    assert (moved - fitted.joints).norm(dim=-1).mean(1).quantile(0.95) < 1e-3
    torch.testing.assert_close((moved - fitted.joints).norm(dim=-1).mean(1), fitted.residual, atol=1e-6, rtol=0)
    apart = (fitted.angles - angles).rad2deg().abs()[..., 0]
    assert apart.median() < 1
    assert apart.quantile(0.95) < 6


def test_weak_labels_are_met_by_fingers_whose_last_joints_follow_the_middle_ones():
    """A label that bends a last joint alone, as no tendon does, is met half way; one that obeys it is met."""
    angles = torch.stack([anatomical("fist"), anatomical("flat"), anatomical("flat")])
    angles[2, 6, 0] += math.radians(40)  # index
    fitted = fit(HAND, labels(angles, torch.zeros(3, MODEL.shape_count)))
    assert fitted.residual[:2].max() < 1e-3
    assert (fitted.angles - angles)[:2, :, 0].rad2deg().abs().max() < 8
    assert angles[1, 6, 0] + math.radians(5) < fitted.angles[2, 6, 0] < angles[2, 6, 0] - math.radians(5)


def test_fits_to_anything_keep_the_limits_and_the_wrist():
    world = torch.from_numpy(np.random.default_rng(0).normal(0, 0.05, (20, 21, 3))).float()
    fitted = fit(HAND, world)
    low, high = limits()
    assert (fitted.angles >= low - 1e-6).all()
    assert (fitted.angles <= high + 1e-6).all()
    assert not fitted.angles[:, 0].any()
    assert fitted.shape.abs().max() <= 2.5
    assert fitted.residual.min() > 0.01


def test_thinning_keeps_far_poses_and_weighs_by_the_root_of_what_is_near():
    near = torch.tensor([[0.0, 0.0]] * 9 + [[10.0, 0.0]] * 4 + [[0.0, 30.0]])
    index, weight = thin(near, 10)
    assert sorted(map(tuple, near[index].tolist())) == [(0, 0), (0, 30), (10, 0)]
    by = {tuple(near[i].tolist()): w for i, w in zip(index, weight.tolist(), strict=True)}
    assert by[0, 0] / by[0, 30] == pytest.approx(3)
    assert by[10, 0] / by[0, 30] == pytest.approx(2)
    assert sum(by.values()) == pytest.approx(1)
    points = torch.from_numpy(np.random.default_rng(0).uniform(0, 1, (400, 2)))
    chosen = points[thin(points, 30)[0]]
    assert len(chosen) == 30
    between = torch.cdist(chosen, chosen) + 9 * torch.eye(30)
    assert between.min() >= torch.cdist(points, chosen).min(1).values.max()  # no point is as far from all of them


@pytest.fixture
def real(tmp_path):
    """Two right and two mirrored left gestures, one of no trust, one that is no hand, and two held out."""
    names = ["fist", "point", "fist", "point", "rock", "flat", "call me", "call me"]
    world = labels(torch.stack([anatomical(name) for name in names]), torch.zeros(8, MODEL.shape_count)).numpy()
    world[2:4] *= [-1, 1, 1]
    world[5] = np.random.default_rng(0).normal(0, 0.05, (21, 3))
    with np.load(write_photos(tmp_path / "real.npz", 8)) as data:
        content = dict(data)
    content["world"], content["right"] = world, np.array([True, True, False, False, True, True, True, True])
    content["weight"], content["val"] = np.float32([1, 1, 1, 1, 0.1, 1, 1, 1]), np.arange(8) > 5
    np.savez(tmp_path / "real.npz", **content)
    return tmp_path / "real.npz"


def test_the_command_takes_either_hand_and_neither_held_out_nor_doubtful_ones(real, tmp_path, capsys):
    main([str(real), str(tmp_path / "out.npz"), "--sheet", str(tmp_path / "sheet.png")])
    with np.load(tmp_path / "out.npz") as data:
        poses, weight = data["poses"], data["weight"]
    wanted = np.stack([anatomical(name)[1:].rad2deg().numpy() for name in ("fist", "point")])
    apart = np.abs(poses[:, None, :, 0] - wanted[..., 0]).max(2)
    assert len(poses) == len(weight) == 4
    assert apart.min(1).max() < 10
    assert sorted(apart.argmin(1)) == [0, 0, 1, 1]
    assert poses.dtype == np.float16
    assert "4 within 5.0 mm" in capsys.readouterr().out
    assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_where_nothing_fits_the_command_says_so(real, tmp_path):
    with pytest.raises(SystemExit, match=r"within 0\.0 mm: raise --limit"):
        main([str(real), str(tmp_path / "out.npz"), "--limit", "0"])


def test_the_poses_that_ship_are_anatomical_and_no_two_alike():
    poses, weight = seen_poses()
    assert poses.shape == (len(weight), 15, 3)
    assert len(poses) > 500
    low, high = (limit[1:].rad2deg() for limit in limits())
    assert (poses >= low - 1e-3).all()
    assert (poses <= high + 1e-3).all()
    assert len(torch.unique(poses, dim=0)) == len(poses)
    assert torch.cdist(poses.flatten(1), poses.flatten(1)).add(999 * torch.eye(len(poses))).min() > 3  # degrees
    assert weight.min() > 0
    assert weight.sum() == pytest.approx(1, abs=0.01)
    assert poses[:, [4, 7, 10, 13], 0].std(0).min() > 20  # fingers are straight, half bent and bent


def test_the_poses_that_ship_are_small_and_their_file_says_where_they_come_from():
    assert len((ASSETS / "poses.npz").read_bytes()) < 150_000
    text = (ASSETS / "PROVENANCE.md").read_text()
    for name, licence in (
        ("SubhiH/HandsDataset", "Apache-2.0"),
        ("emrecandir9/custom-gesture-dataset", "MIT"),
        ("ardamavi/Sign-Language-Digits-Dataset", "Apache-2.0"),
        ("MediaPipe Hands 0.10.14", "Apache-2.0"),
    ):
        assert licence in next(line for line in text.splitlines() if name in line)
    assert f"{len(seen_poses()[0]):,} poses" in text
    assert "held-out" in text
