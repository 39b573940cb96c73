# SPDX-License-Identifier: Apache-2.0
"""Sub-poses of the paper, and their aggregation."""

import pytest
import torch

from cmr_models.hand import JOINT_NAMES
from cmr_models.network.cues import BODY_SUB_POSES, SUB_POSES, Aggregation, sub_poses


def test_groups_are_those_of_the_paper():
    names = {kind: [{JOINT_NAMES[j] for j in group} for group in groups] for kind, groups in SUB_POSES.items()}
    fingers = ("thumb", "index", "middle", "ring", "little")
    assert names["part"] == [{"wrist", *(f"{f}_{k}" for k in (1, 2, 3, 4))} for f in fingers]
    assert names["finger"] == [part - {"wrist"} for part in names["part"]]
    assert names["level"] == [{f"{f}_{k}" for f in fingers} for k in (1, 2, 3, 4)]
    assert len(names["tip"]) == 10
    assert all(len(pair) == 2 and {n[-1] for n in pair} == {"4"} for pair in names["tip"])
    assert len({frozenset(pair) for pair in names["tip"]}) == 10


def test_groups_of_the_body_are_limbs_levels_and_pairs_of_ends():
    # Human3.6M: 1-3 right leg, 4-6 left leg, 7-10 spine and head, 11-13 left arm, 14-16 right arm.
    ends = {3, 6, 10, 13, 16}
    assert [max(group) for group in BODY_SUB_POSES["part"]] == sorted(ends, key=(3, 6, 10, 13, 16).index)
    assert all(group[0] == 0 and tuple(sorted(group)) == group for group in BODY_SUB_POSES["part"])
    assert BODY_SUB_POSES["level"] == ((1, 4, 11, 14), (2, 5, 12, 15), (3, 6, 13, 16))
    assert len(set(map(frozenset, BODY_SUB_POSES["tip"]))) == 10
    assert set().union(*BODY_SUB_POSES["tip"]) == ends
    assert sub_poses("tip+part", 17) == BODY_SUB_POSES["tip"] + BODY_SUB_POSES["part"]


def test_joints_without_sub_poses_are_refused():
    with pytest.raises(ValueError, match=r"no sub-poses for 16 joints; need one of \[17, 21\]"):
        sub_poses("tip", 16)


def test_without_a_silhouette_the_groups_follow_the_heat_maps():
    heatmaps = torch.rand(1, 17, 3, 3)
    module = Aggregation("level", 17, silhouette=False)
    out = module(heatmaps)
    assert out.shape == (1, module.channels, 3, 3) == (1, 20, 3, 3)
    torch.testing.assert_close(out[:, 18], heatmaps[:, [2, 5, 12, 15]].sum(1))


def test_a_union_lists_its_parts_in_turn():
    assert sub_poses("tip+part") == SUB_POSES["tip"] + SUB_POSES["part"]


@pytest.mark.parametrize("name", ["tips", "", "part+", "part tip"])
def test_an_unknown_name_is_refused_with_the_choices(name):
    with pytest.raises(ValueError, match=r"choose from .*'level', 'part', 'tip'"):
        sub_poses(name)


@pytest.mark.parametrize("name", ["part", "level", "tip", "part+level+tip"])
def test_channels_are_heat_maps_silhouette_and_sums(name):
    heatmaps, silhouette = torch.rand(2, 21, 4, 4), torch.rand(2, 1, 4, 4)
    module = Aggregation(name)
    out = module(heatmaps, silhouette)
    groups = sub_poses(name)
    assert out.shape == (2, module.channels, 4, 4) == (2, 22 + len(groups), 4, 4)
    torch.testing.assert_close(out[:, :21], heatmaps)
    torch.testing.assert_close(out[:, 21:22], silhouette)
    for k, group in enumerate(groups):
        torch.testing.assert_close(out[:, 22 + k], sum(heatmaps[:, j] for j in group))


def test_aggregation_has_nothing_to_train_or_to_store():
    assert not list(Aggregation("tip").parameters())
    assert not Aggregation("tip").state_dict()
