# SPDX-License-Identifier: Apache-2.0
"""Whole batches: what the mix says, absent labels masked, the seed and the number say all."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cmr_models.batches import Batches, Mix, Renderings, Sample, collate, mirror

SIZE = 96  # of the fixture `folder`


# Mirroring and stacking


def test_mirroring_twice_gives_the_picture_back():
    random = np.random.default_rng(0)
    image, outline = (random.integers(0, 255, shape).astype(np.uint8) for shape in ((8, 8, 3), (8, 8)))
    sample = Sample(image, random.uniform(0, 7, (21, 2)).astype(np.float32), outline, np.ones((4, 3)), present=True)
    before = sample.keypoints.copy()
    mirror(sample)
    assert (sample.right, sample.vertices, sample.weight) == (False, None, 0.0)
    np.testing.assert_array_equal(sample.image, image[:, ::-1])
    np.testing.assert_array_equal(sample.silhouette, outline[:, ::-1])
    np.testing.assert_allclose(sample.keypoints, np.stack([7 - before[:, 0], before[:, 1]], 1), rtol=1e-6)
    mirror(sample)
    np.testing.assert_array_equal(sample.image, image)
    np.testing.assert_allclose(sample.keypoints, before, atol=1e-5)


def test_stacking_marks_what_each_sample_can_teach():
    image, vertices = np.zeros((8, 8, 3), np.uint8), np.ones((5, 3), np.float32)
    rendered = Sample(image, silhouette=np.full((8, 8), 9, np.uint8), vertices=vertices, present=True)
    photo, empty, left = Sample(image, weight=0.7, present=True), Sample(image), replace(rendered)
    mirror(left)
    batch = collate([rendered, photo, empty, left], torch.zeros(4, 8, 8, 3, dtype=torch.uint8))
    assert batch["meshed"].tolist() == [0]
    assert batch["vertices"].shape == (1, 5, 3)
    assert batch["present"].tolist() == [True, True, False, True]
    assert batch["right"].tolist()[-1] is False
    assert batch["outlined"].tolist() == [True, False, True, True]  # an empty picture's outline is known: none
    assert batch["weight"].tolist() == pytest.approx([0, 0.7, 0, 0])
    assert batch["silhouette"].amax((1, 2)).tolist() == [9, 0, 0, 9]


# Whole batches


def batches(folder, photos=None, seed=0, mix=None) -> Batches:
    return Batches(Renderings(folder), photos, [SIZE], mix or Mix(rendered=3, photos=2, empty=1), seed, 10)


def same(a: dict, b: dict) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("with_photos", [False, True])
def test_a_batch_depends_on_seed_and_number_only(folder, photos, with_photos):
    bank = photos if with_photos else None
    first, second = batches(folder, bank), batches(folder, bank)
    wanted = first[3]
    first[4], second[0]
    assert same(first[3], wanted)
    assert same(second[3], wanted)
    for other in (first[4], batches(folder, bank, seed=1)[3]):
        assert not torch.equal(other["image"], wanted["image"])
        assert not torch.equal(other["keypoints"], wanted["keypoints"])
    assert len(first) == 10


def test_a_batch_holds_what_the_mix_says(folder, photos):
    batch = batches(folder, photos, mix=Mix(rendered=3, photos=2, empty=4, mirrored=0.0))[0]
    assert batch["image"].shape == (9, SIZE, SIZE, 3)
    assert batch["image"].dtype == torch.uint8
    assert batch["meshed"].tolist() == [0, 1, 2]
    assert (batch["weight"] > 0).nonzero()[:, 0].tolist() == [3, 4]
    assert batch["present"].tolist() == [True] * 5 + [False] * 4
    assert batch["right"][batch["present"]].all()


def test_without_photos_all_hands_are_rendered(folder):
    batch = batches(folder, mix=Mix(rendered=2, photos=3, empty=1, mirrored=0.0))[0]
    assert batch["meshed"].tolist() == [0, 1, 2, 3, 4]
    assert not batch["weight"].any()
    assert batch["outlined"].all()


@pytest.mark.parametrize("part", ["rendered", "empty"])
def test_a_mix_may_leave_a_part_out(folder, photos, part):
    parts = {"rendered": 2, "photos": 2, "empty": 1, "mirrored": 0.0, part: 0}
    assert len(batches(folder, photos, mix=Mix(**parts))[0]["image"]) == 5 - (1 if part == "empty" else 2)


def test_mirrored_samples_teach_no_mesh(folder, photos):
    batch = batches(folder, photos, mix=Mix(rendered=3, photos=2, empty=1, mirrored=1.0))[0]
    assert not len(batch["meshed"])
    assert not batch["weight"].any()
    assert not batch["right"][batch["present"]].any()
    assert batch["outlined"].tolist() == [True] * 3 + [False] * 2 + [True]


SECONDS = Mix(rendered=2, photos=2, empty=1, second=1.0, second_photos=1.0)


@pytest.mark.parametrize("with_photos", [False, True])
def test_a_batch_with_second_hands_depends_on_seed_and_number_only(folder, photos, with_photos):
    bank = photos if with_photos else None
    first, second = (batches(folder, bank, mix=SECONDS) for _ in range(2))
    second[5]
    assert same(first[2], second[2])
    assert not torch.equal(first[3]["image"], first[2]["image"])


@pytest.mark.parametrize(("part", "share"), [("rendered", "second"), ("photos", "second_photos")])
def test_second_hands_come_into_the_share_that_the_mix_says(folder, photos, part, share):
    """Of one sample, so that the same random numbers are drawn before the second hand comes in."""
    alone = Mix(**{"rendered": 0, "photos": 0, "empty": 0, "mirrored": 0.0, "covered": 0.0, part: 1})
    alone = replace(alone, second=0.0, second_photos=0.0)
    changed = {0.4: 0, 1.0: 0}
    for seed in range(40):
        with pytest.MonkeyPatch.context() as patch:
            patch.delattr("cmr_models.batches.join")  # a share of 0 needs neither
            patch.delattr("cmr_models.batches.second_hand")
            without = batches(folder, photos, seed, alone)[0]
        for value in changed:
            batch = batches(folder, photos, seed, replace(alone, **{share: value}))[0]
            changed[value] += not torch.equal(batch["image"], without["image"])
            for name in ("keypoints", "vertices", "world", "weight", "present", "right", "outlined"):
                assert torch.equal(batch[name], without[name]), name
    assert changed[1.0] > 25
    assert 0.2 < changed[0.4] / changed[1.0] < 0.6


def test_steps_take_their_sizes_in_turn_and_all_parts_of_a_step_the_same(folder, photos):
    mix = Mix(rendered=2, photos=1, empty=1)
    made = Batches(Renderings(folder), photos, [SIZE, SIZE + 32], mix, 0, 8, parts=2)
    assert [made[k]["image"].shape[1] - SIZE for k in range(8)] == [0, 0, 32, 32, 0, 0, 32, 32]
    assert made[2]["silhouette"].shape[1:] == (SIZE + 32, SIZE + 32)
    assert same(Batches(Renderings(folder), photos, [SIZE], mix, 0, 8)[0], made[0])
