# SPDX-License-Identifier: Apache-2.0
"""Sub-poses of the paper, and their aggregation."""

import pytest
import torch

from cmr_models.hand import JOINT_NAMES
from cmr_models.network.cues import SUB_POSES, Aggregation, sub_poses


def test_groups_are_those_of_the_paper():
    names = {kind: [{JOINT_NAMES[j] for j in group} for group in groups] for kind, groups in SUB_POSES.items()}
    fingers = ("thumb", "index", "middle", "ring", "little")
    assert names["part"] == [{"wrist", *(f"{f}_{k}" for k in (1, 2, 3, 4))} for f in fingers]
    assert names["level"] == [{f"{f}_{k}" for f in fingers} for k in (1, 2, 3, 4)]
    assert len(names["tip"]) == 10
    assert all(len(pair) == 2 and {n[-1] for n in pair} == {"4"} for pair in names["tip"])
    assert len({frozenset(pair) for pair in names["tip"]}) == 10


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
