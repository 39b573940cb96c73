# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from disc_bundle import draw_disc

from cmr_runtime import Bundle, Camera, Hand, HandMeshTracker, InputError, StageTimes
from cmr_runtime.results import changed

IMAGE = draw_disc(320, 240, 150, 120, 40, "left")


@pytest.fixture(scope="module")
def hand(bundle: Bundle) -> Hand:
    with HandMeshTracker(bundle, mode="image") as tracker:
        return tracker.track(IMAGE, Camera.from_fov(60, 320, 240), rois=[(70, 40, 230, 200)])[0]


def test_results_are_frozen(hand: Hand) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        hand.score = 0.0  # type: ignore[misc]


def test_a_changed_hand_is_a_replaced_one(hand: Hand) -> None:
    before = {field.name: getattr(hand, field.name) for field in dataclasses.fields(hand)}
    one, other = changed(hand, scale=2.0, track_id=3), dataclasses.replace(hand, scale=2.0, track_id=3)
    assert type(one) is Hand
    assert vars(one) == vars(other)
    assert (one.scale, one.track_id) == (2.0, 3)
    assert {field.name: getattr(hand, field.name) for field in dataclasses.fields(hand)} == before
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.score = 0.0  # type: ignore[misc]
    assert changed(hand.times, smooth=1.5) == dataclasses.replace(hand.times, smooth=1.5)


def test_types(hand: Hand) -> None:
    for name in ("vertices", "joints", "keypoints", "keypoint_scores", "silhouette"):
        assert getattr(hand, name).dtype == np.float32
    np.testing.assert_allclose(hand.joints_root[9], 0, atol=1e-6)
    np.testing.assert_allclose(hand.vertices_root + hand.translation, hand.vertices, atol=1e-6)


def test_record_is_plain_json(hand: Hand) -> None:
    nothing = np.empty((0, 2), np.float32)
    lone = dataclasses.replace(
        hand, silhouette=nothing, registration=dataclasses.replace(hand.registration, gap=np.nan)
    )
    record = json.loads(json.dumps(lone.to_dict(), allow_nan=False))
    assert record["handedness"] == "left"
    assert record["silhouette_px"] == []
    assert record["registration"]["gap"] is None
    assert record["registration"]["inliers"] == [True] * 21
    assert "vertices_m" not in record
    np.testing.assert_allclose(record["joints_m"], hand.joints, atol=1e-6)
    np.testing.assert_allclose(hand.to_dict(mesh=True)["vertices_m"], hand.vertices, atol=1e-6)


def test_times_add_up() -> None:
    assert StageTimes(1, 2, 3, 4, 5).total == 15
    assert StageTimes(1, 2, 3, 4, 5, detect=6, smooth=7).total == 28


def test_drawing_and_mesh_file(hand: Hand, tmp_path: Path) -> None:
    assert hand.draw(IMAGE).shape == IMAGE.shape
    hand.to_mesh(tmp_path / "a.ply")
    mesh = trimesh.load(tmp_path / "a.ply", process=False)
    assert mesh.volume > 0
    np.testing.assert_array_equal(mesh.vertices.astype(np.float32), hand.vertices)
    hand.to_mesh(str(tmp_path / "b.PLY"))
    for name in ("a.stl", "a", "a.ply.gz"):
        with pytest.raises(InputError, match=r"suffix .*\.ply"):
            hand.to_mesh(tmp_path / name)
        assert not (tmp_path / name).exists()
