# SPDX-License-Identifier: Apache-2.0
"""Networks that give less than the default one: what the tracker makes of each."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from disc_bundle import OFFSETS, H, draw_disc, make_content, make_topology

from cmr_runtime import Bundle, BundleError, Camera, Hand, HandMeshTracker, InputError, Roi, write_bundle
from cmr_runtime.network import PriorStage

W, HEIGHT = 320, 240
CAMERA = Camera.from_fov(60, W, HEIGHT)
IMAGE = draw_disc(W, HEIGHT, 150, 120, 40)
BOX = (70, 40, 230, 200)

#: Those of the paper: 2D pose and silhouette, refined or not; a successor: keypoints alone.
NETWORKS: dict[str, dict[str, Any]] = {
    "maps": {"prior": ("heatmaps", "silhouette", "features"), "outputs": ("vertices",)},
    "maps, no silhouette": {
        "prior": ("heatmaps", "features"), "inputs": ("features", "heatmaps"), "outputs": ("vertices",),
    },
    "refined maps": {"prior": ("heatmaps", "silhouette", "features")},
    "cells from their edge": {"prior": ("heatmaps", "silhouette", "features"), "cell_centre": 0.0},
    "keypoints": {"prior": ("keypoints", "features"), "inputs": ("features", "keypoints"), "outputs": ("vertices",)},
}  # fmt: skip


def _bundle(folder: Path, **network: Any) -> Bundle:
    return write_bundle(folder / "net.cmr", **make_content(**network))


def _looks(monkeypatch: pytest.MonkeyPatch) -> list[Roi]:
    """Regions that the prior stage is shown from now on."""
    looks: list[Roi] = []
    fill = Roi.fill
    monkeypatch.setattr(Roi, "fill", lambda self, *a: looks.append(self) or fill(self, *a))
    return looks


def _check(hand: Hand, side: str) -> None:
    sign = -1 if side == "left" else 1
    assert hand.handedness == side
    np.testing.assert_allclose(hand.keypoints, np.array([150, 120]) + 40 * OFFSETS * (sign, 1), atol=2)
    np.testing.assert_allclose(CAMERA.project(hand.joints), hand.keypoints, atol=3)
    assert hand.translation[2] == pytest.approx(CAMERA.fx * 0.045 / 40, rel=0.1)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", NETWORKS)
def test_each_places_the_hand_of_a_box(tmp_path: Path, name: str, side: str) -> None:
    bundle = _bundle(tmp_path, **NETWORKS[name])
    with HandMeshTracker(bundle, mode="image", side=side) as tracker:
        (hand,) = tracker.track(draw_disc(W, HEIGHT, 150, 120, 40, side), CAMERA, rois=[BOX])
    _check(hand, side)
    assert hand.handedness_score == 1.0
    if name == "keypoints":
        assert hand.score == 1.0
        np.testing.assert_array_equal(hand.keypoint_scores, 1.0)
    else:
        assert hand.score == pytest.approx(hand.keypoint_scores.mean(), abs=1e-6)  # no peak is far from its cell
    if "silhouette" in NETWORKS[name]["prior"]:
        assert np.isfinite(hand.registration.residual_1d)
        np.testing.assert_allclose(
            0.5 * (hand.silhouette.min(axis=0) + hand.silhouette.max(axis=0)), (150, 120), atol=3
        )
    else:
        assert hand.silhouette.shape == (0, 2)
        assert np.isnan(hand.registration.residual_1d)


def test_the_cell_centre_is_heeded(tmp_path: Path) -> None:
    right = _bundle(tmp_path, **NETWORKS["cells from their edge"])
    shifts = []
    for bundle in (right, dataclasses.replace(right, cell_centre=0.5)):
        with HandMeshTracker(bundle, mode="image", refine=0) as tracker:
            (hand,) = tracker.track(IMAGE, CAMERA, rois=[BOX])
        shifts.append(hand.keypoints[9] - (150, 120))
    np.testing.assert_allclose(shifts[0], 0, atol=1)
    # Half a cell of the crop's 16, which covers 160 pixels, is 5 pixels.
    np.testing.assert_allclose(shifts[1] - shifts[0], 5, atol=0.5)


def test_refined_maps_alone_are_a_pose(tmp_path: Path) -> None:
    content = make_content(prior=("features",), inputs=("features",), outputs=("vertices",))
    # The mesh stage gets heat maps of its own, each with one cell of 0.5.
    cells = np.rint(H / 2 + 4 * OFFSETS).astype(int)
    maps = np.zeros((1, 21, H, H), np.float32)
    maps[0, np.arange(21), cells[:, 1], cells[:, 0]] = 0.5
    model = onnx.load_from_string(content["mesh"])
    model.graph.initializer.append(onnx.numpy_helper.from_array(maps, "maps"))
    model.graph.node.append(onnx.helper.make_node("Add", ["maps", "nothing"], ["refined_heatmaps"]))
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("refined_heatmaps", onnx.TensorProto.FLOAT, maps.shape)
    )
    content["mesh"] = model.SerializeToString()
    with HandMeshTracker(write_bundle(tmp_path / "net.cmr", **content), mode="image") as tracker:
        (hand,) = tracker.track(IMAGE, CAMERA, rois=[BOX])
    assert hand.roi == Roi.from_box(BOX)  # nothing to draw it again by
    np.testing.assert_allclose(hand.keypoint_scores, 0.5)
    np.testing.assert_allclose(hand.keypoints[9], (154.5, 124.5), atol=1)  # the cell right of and below the middle


@pytest.mark.parametrize("mode", ["image", "video"])
def test_without_a_box_the_middle_of_the_image_is_looked_at(
    tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = _bundle(tmp_path, **NETWORKS["maps"])
    looks = _looks(monkeypatch)
    with HandMeshTracker(bundle, mode=mode) as tracker:
        (hand,) = tracker.track(IMAGE, CAMERA)
        assert looks[0] == Roi.from_box(((W - HEIGHT) / 2, 0, (W + HEIGHT) / 2, HEIGHT))
        _check(hand, "right")
        assert hand.handedness_score == 0.5
        looks.clear()
        assert tracker.track(np.zeros_like(IMAGE), CAMERA) == []
        # What was followed is looked at, and the middle again once it is gone.
        assert [look.size for look in looks][-1] == HEIGHT
        assert len(looks) == (1 if mode == "image" else 2)


def test_a_video_goes_on_from_the_last_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = _bundle(tmp_path, **NETWORKS["maps"])
    with HandMeshTracker(bundle, num_hands=2) as tracker:
        tracker.track(IMAGE, CAMERA)
        looks = _looks(monkeypatch)
        for shift in range(1, 6):
            (hand,) = tracker.track(draw_disc(W, HEIGHT, 150 + 4 * shift, 120, 40), CAMERA)
            assert abs(hand.keypoints[9, 0] - 150 - 4 * shift) < 2
    assert len(looks) == 5  # one a frame
    assert all(look.size < 0.8 * HEIGHT for look in looks)


def test_weak_peaks_are_no_hand_and_the_caller_may_say_how_weak(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path, **NETWORKS["maps"])

    def scores(radius: float, least: float | None) -> list[float]:
        with HandMeshTracker(bundle, mode="image", refine=0, min_presence=least) as tracker:
            return [hand.score for hand in tracker.track(draw_disc(W, HEIGHT, 150, 120, radius), rois=[BOX])]

    # The smaller the disc, the weaker its peaks.
    (faint,), (clear,) = scores(10.5, 0), scores(12, 0)
    assert faint < 0.2 < clear < 0.5
    assert scores(10.5, None) == []
    assert scores(12, None) == [clear]
    assert scores(12, clear - 0.01) == [clear]
    assert scores(12, clear + 0.01) == []


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_side_that_is_given_saves_the_second_look(bundle: Bundle, side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = draw_disc(W, HEIGHT, 150, 120, 40, side)
    with (
        HandMeshTracker(bundle, mode="image", refine=0) as judging,
        HandMeshTracker(bundle, mode="image", side=side, refine=0) as told,
    ):
        (judged,) = judging.track(image, CAMERA, rois=[BOX])
        looks = _looks(monkeypatch)
        (hand,) = told.track(image, CAMERA, rois=[BOX])
        assert len(looks) == 1
        np.testing.assert_array_equal(hand.vertices, judged.vertices)
        assert hand.handedness == judged.handedness == side
        assert hand.handedness_score == 1.0
        (searched,) = told.track(image, CAMERA)
        assert searched.handedness == side
        assert all(look.mirrored == (side == "left") for look in looks)


def test_a_side_that_is_given_is_not_doubted(bundle: Bundle) -> None:
    with HandMeshTracker(bundle, side="left") as tracker:
        sides = {tracker.track(IMAGE)[0].handedness for _ in range(8)}  # a right hand
    assert sides == {"left"}
    with pytest.raises(InputError, match="side is 'both'; give 'left', 'right' or None"):
        HandMeshTracker(bundle, side="both")  # type: ignore[arg-type]


def test_follow_begins_at_a_box(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.maximum(draw_disc(400, 160, 70, 80, 30), draw_disc(400, 160, 330, 80, 25))
    with HandMeshTracker(bundle) as tracker:
        assert abs(tracker.track(image)[0].keypoints[9, 0] - 70) < 4
        tracker.follow([(270, 20, 390, 140)])
        looks = _looks(monkeypatch)
        for _ in range(3):
            (hand,) = tracker.track(image)
            assert abs(hand.keypoints[9, 0] - 330) < 4
        assert len(looks) < 8  # no search
        tracker.follow([(270, 20, 390, 140)])
        tracker.reset()
        assert abs(tracker.track(image)[0].keypoints[9, 0] - 70) < 4
        with pytest.raises(InputError, match="empty"):
            tracker.follow([(5, 5, 5, 5)])
    with (
        HandMeshTracker(bundle, mode="image") as still,
        pytest.raises(InputError, match="mode 'image' follows nothing"),
    ):
        still.follow([BOX])


def test_without_a_pose_it_is_refused(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path, prior=("features",), inputs=("features",), outputs=("vertices",))
    with pytest.raises(BundleError, match=r"net\.cmr gives no 2D pose .* cannot be placed"):
        HandMeshTracker(bundle)


def test_a_body_without_its_regressor_opens_but_is_refused(tmp_path: Path) -> None:
    topology = make_topology(17, regressor=False)
    network = _bundle(
        tmp_path, prior=("heatmaps", "features"), inputs=("features",), outputs=("vertices",), topology=topology
    )
    bundle = Bundle.open(tmp_path / "net.cmr")
    assert bundle.topology.joints == network.topology.joints == 17
    assert PriorStage(bundle)(np.zeros((32, 32, 3), np.uint8)).heatmaps.shape[0] == 17
    with pytest.raises(BundleError, match=r"net\.cmr lacks the joint_regressor .* cannot be placed"):
        HandMeshTracker(bundle)


def test_another_skeleton_is_placed_and_drawn(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path, **NETWORKS["maps"], topology=make_topology(17))
    with HandMeshTracker(bundle, mode="image") as tracker:
        (hand,) = tracker.track(IMAGE, CAMERA, rois=[BOX])
    assert hand.joints.shape == (17, 3)
    assert hand.roi.angle == 0.0
    np.testing.assert_allclose(hand.keypoints, np.array([150, 120]) + 40 * OFFSETS[:17], atol=2)
    assert (hand.draw(IMAGE) != IMAGE).any()


def test_keypoints_that_are_no_numbers_are_blamed_on_the_network(tmp_path: Path) -> None:
    bundle = dataclasses.replace(_bundle(tmp_path, **NETWORKS["keypoints"]), mean=(float("nan"), 0.0, 0.0))
    with (
        HandMeshTracker(bundle, mode="image") as tracker,
        pytest.raises(BundleError, match="keypoints that are not fin"),
    ):
        tracker.track(IMAGE, rois=[BOX])
