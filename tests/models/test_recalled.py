# SPDX-License-Identifier: Apache-2.0
"""Cues of a last frame that there was not: how maps are moved, which samples get whose, and what that teaches."""

import math

import numpy as np
import pytest
import torch
from small_net import CONFIG, SIZE, lively_net

from cmr_models.batches import Batches, Mix, Renderings
from cmr_models.last_frame import PARTS, last_frames
from cmr_models.losses import gaussian_maps
from cmr_models.network.objective import HandNetObjective, HandNetRecipe
from cmr_models.network.recall import recalled

CELLS = 16
STILL = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def cues(count: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(count, 21, CELLS, CELLS, generator=random), torch.rand(count, 1, CELLS, CELLS, generator=random)


def still(count: int) -> torch.Tensor:
    return STILL.expand(count, PARTS, 2, 3).clone()


def test_samples_that_are_not_chosen_keep_theirs_and_a_hand_at_rest_too():
    maps, outline = cues()
    own, chosen = torch.arange(2), torch.tensor([False, True])
    for source in (own, own.flip(0)):
        found = recalled(maps, outline, source, still(2), chosen)
        for given, taken in zip((maps, outline), found, strict=True):
            assert torch.equal(taken[0], given[0])
            torch.testing.assert_close(taken[1], given[source[1]], atol=1e-5, rtol=1e-5)


def test_a_finger_moves_by_itself_and_leaves_nothing_behind():
    points = torch.full((1, 21, 2), 31.5)  # the middle of 64 pixels
    maps = gaussian_maps(points, 64, CELLS)
    moved = still(1)
    moved[0, 2, 0, 2] = -2 * 3 / CELLS  # the middle finger: three cells to the right
    found, outline = recalled(maps, maps[:, :1], torch.arange(1), moved, torch.tensor([True]))
    shifted = gaussian_maps(points + torch.tensor([3 * 64 / CELLS, 0.0]), 64, CELLS)
    for joint in range(21):
        wanted = shifted if 9 <= joint <= 12 else maps
        torch.testing.assert_close(found[0, joint, :, 3:], wanted[0, joint, :, 3:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(outline, maps[:, :1], atol=1e-5, rtol=1e-5)


def test_nothing_is_learnt_through_what_is_recalled():
    maps, outline = (each.requires_grad_() for each in cues())
    found = recalled(maps, outline, torch.arange(2), still(2), torch.tensor([False, True]))
    sum(each.sum() for each in found).backward()
    for each in (maps, outline):
        assert (each.grad[0] == 1).all()
        assert not each.grad[1].any()


def test_pictures_without_a_hand_recall_one():
    present = [True, False, True, False, False]
    for seed in range(20):
        drawn = last_frames(present, Mix(wrong=0.0), np.random.default_rng(seed))
        source = drawn["source"].tolist()
        assert (source[0], source[2]) == (0, 2)
        assert {source[1], source[3], source[4]} <= {0, 2}
    alone = last_frames([False, False], Mix(), np.random.default_rng(0))
    assert alone["source"].tolist() == [0, 1]


def test_motions_are_as_large_as_the_mixture_says():
    mix = Mix(recalled=0.3, moved=(0.02, 0.05, 0.04), fingers=0.01, jumps=0.0, wrong=0.2)
    drawn = last_frames([True] * 20000, mix, np.random.default_rng(0))
    assert float(drawn["recalled"].float().mean()) == pytest.approx(0.3, abs=0.02)
    own = drawn["source"] == torch.arange(20000)
    assert 1 - float(own.float().mean()) == pytest.approx(0.2, abs=0.02)
    hand, fingers = drawn["moved"][:, -1], drawn["moved"][:, :-1]
    zoom, turn = hand[:, :, 0].norm(dim=1).log(), torch.atan2(hand[:, 1, 0], hand[:, 0, 0])
    assert hand.dtype == torch.float32
    for values, spread in ((hand[:, :, 2], 0.04), (turn, 0.05), (zoom, 0.04)):
        assert float(values.std()) == pytest.approx(spread, rel=0.05)
    assert float((fingers - hand[:, None])[..., 2].std()) == pytest.approx(0.02, rel=0.05)
    torch.testing.assert_close(fingers[..., :2], hand[:, None, :, :2].expand(-1, PARTS - 1, -1, -1))
    far = last_frames([True] * 20000, Mix(jumps=1.0, wrong=0.0), np.random.default_rng(0))["moved"][:, -1]
    assert float(far[:, :, 2].std()) == pytest.approx(3 * 2 * Mix.moved[0], rel=0.05)


def test_batches_say_the_same_of_a_number_and_another_of_the_next(data):
    batches = Batches(Renderings(data[0]), None, [SIZE], Mix(rendered=3, photos=0, empty=2), 4, 9)
    first, again, other = batches[2], batches[2], batches[3]
    for name in ("moved", "source", "recalled"):
        assert torch.equal(first[name], again[name])
    assert not torch.equal(first["moved"], other["moved"])


def test_the_mesh_stage_learns_from_recalled_cues_and_the_prior_does_not(data):
    mix = Mix(rendered=3, photos=0, empty=1, recalled=1.0)
    batch = Batches(Renderings(data[0]), None, [SIZE], mix, 0, 1)[0]
    objective = HandNetObjective(CONFIG, HandNetRecipe(), mix)
    net = lively_net()
    terms = objective.losses(net, batch)
    (terms["heat2"] + terms["mesh"]).backward()
    assert all(p.grad is None or not p.grad.any() for p in net.prior.head.parameters())
    assert net.mesh.project.weight.grad.any()
    assert all(math.isfinite(float(term.detach())) for term in terms.values())
