# SPDX-License-Identifier: Apache-2.0
"""The stand-in for the prior: what it takes up from the last frame, what it computes anew, which bundles it refuses."""

import dataclasses

import numpy as np
import onnx
import pytest
from disc_bundle import MESH_OUTPUTS, S, draw_disc, make_content, make_mesh, make_prior
from onnx.utils import Extractor

from cmr_runtime import Bundle, BundleError, Camera, HandMeshTracker, write_bundle
from cmr_runtime.network import MeshStage, PriorStage
from cmr_runtime.recall import Recall, Said
from cmr_runtime.resting import TRUSTED

CAMERA = Camera.from_fov(60, 320, 240)
REFINED = (*MESH_OUTPUTS, "refined_presence")


def first_layers(prior: bytes) -> bytes:
    return Extractor(onnx.load_from_string(prior)).extract_model(["image"], ["features"]).SerializeToString()


@pytest.fixture(scope="module")
def recalling(tmp_path_factory: pytest.TempPathFactory, topology) -> Bundle:
    content = make_content(topology=topology, outputs=REFINED)
    content["mesh"] = make_mesh(topology, inputs=("features", "heatmaps", "silhouette"), outputs=REFINED)
    path = tmp_path_factory.mktemp("recall") / "hand.cmr"
    return write_bundle(path, **content, shallow=first_layers(content["prior"]))


class Counted:
    """A stand-in that counts its calls."""

    def __init__(self, recall: Recall) -> None:
        self.recall, self.calls = recall, 0

    def run(self, *arguments: object, **more: object) -> object:
        self.calls += 1
        return self.recall.run(*arguments, **more)


def stages(bundle: Bundle) -> tuple[PriorStage, MeshStage]:
    prior = PriorStage(bundle)
    return prior, MeshStage(bundle, prior)


def test_cues_are_the_last_frames_and_features_this_ones(recalling: Bundle) -> None:
    prior, mesh = stages(recalling)
    recall = Recall(recalling, prior, mesh)
    first, second = draw_disc(S, S, 15, 15, 8), draw_disc(S, S, 18, 14, 6)
    seen = prior(first)
    rng = np.random.default_rng(0)
    fine = rng.random((16, 16), np.float32)
    said = Said(seen, dataclasses.replace(mesh(seen), silhouette=fine))
    found = recall(second, said)
    np.testing.assert_allclose(found.features, prior(second).features, atol=1e-6)
    assert found.heatmaps is said.mesh.heatmaps
    np.testing.assert_allclose(found.silhouette, fine)  # outlines of this bundle are as coarse as the prior's
    assert (found.presence, found.right) == (seen.presence, seen.right)


def test_a_finer_outline_is_averaged_over_the_priors_cells(recalling: Bundle) -> None:
    prior, mesh = stages(recalling)
    recall = Recall(recalling, prior, mesh)
    crop = draw_disc(S, S, 15, 15, 8)
    fine = np.random.default_rng(1).random((32, 32), np.float32)
    said = Said(prior(crop), dataclasses.replace(mesh(prior(crop)), silhouette=fine))
    wanted = [[fine[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean() for j in range(16)] for i in range(16)]
    np.testing.assert_allclose(recall(crop, said).silhouette, wanted, atol=1e-6)


@pytest.mark.parametrize("cells", [1, 5, 16, 40])
@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8])
def test_opencvs_averages_are_numpys(recalling: Bundle, cells: int, factor: int) -> None:
    prior, mesh = stages(recalling)
    recall = Recall(recalling, prior, mesh)
    recall._cells = cells
    crop = draw_disc(S, S, 15, 15, 8)
    fine = np.random.default_rng(2).random((cells * factor, cells * factor), np.float32)
    found = recall(crop, Said(prior(crop), dataclasses.replace(mesh(prior(crop)), silhouette=fine))).silhouette
    assert (found.dtype, found.shape) == (np.float32, (cells, cells))
    wanted = fine.astype(np.float64).reshape(cells, factor, cells, factor).mean(axis=(1, 3))
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=0)


def test_a_tracker_rests_the_prior_and_says_the_same_of_a_hand_at_rest(recalling: Bundle) -> None:
    image = draw_disc(320, 240, 150, 120, 40)
    results = {}
    for recall in (True, False):
        with HandMeshTracker(recalling, smoothing=False, recall=recall) as tracker:
            tracker.follow([(70, 40, 230, 200)])
            stand_in = tracker._parts.stages.viewer._recall
            assert (stand_in is not None) == recall
            if recall:
                counted = Counted(stand_in)
                tracker._parts.stages.viewer._recall = counted
            results[recall] = [tracker.track(image, CAMERA) for _ in range(TRUSTED + 20)]
    assert counted.calls == 19
    for with_it, without in zip(results[True], results[False], strict=True):
        (a,), (b,) = with_it, without
        assert a.track_id == b.track_id
        np.testing.assert_allclose(a.keypoints, b.keypoints, atol=0.5)
        assert a.score == pytest.approx(b.score, abs=1e-3)


def test_a_hand_that_leaves_is_gone_at_once(recalling: Bundle) -> None:
    image = draw_disc(320, 240, 150, 120, 40)
    with HandMeshTracker(recalling, smoothing=False) as tracker:
        tracker.follow([(70, 40, 230, 200)])
        for _ in range(TRUSTED + 3):
            assert tracker.track(image, CAMERA)
        assert tracker.track(np.zeros_like(image), CAMERA) == []


@pytest.mark.parametrize("side", ["left", None])
def test_a_left_hand_is_recalled_in_the_mirror(recalling: Bundle, side: str | None) -> None:
    image = draw_disc(320, 240, 150, 120, 40, "left")
    with HandMeshTracker(recalling, smoothing=False, side=side) as tracker:
        tracker.follow([(70, 40, 230, 200)])
        counted = Counted(tracker._parts.stages.viewer._recall)
        tracker._parts.stages.viewer._recall = counted
        hands = [tracker.track(image, CAMERA)[0] for _ in range(TRUSTED + 5)]
    assert counted.calls == 4
    assert {hand.handedness for hand in hands} == {"left"}
    np.testing.assert_allclose(hands[-1].keypoints, hands[TRUSTED - 1].keypoints, atol=0.5)


def test_a_single_image_recalls_nothing(recalling: Bundle) -> None:
    with HandMeshTracker(recalling, mode="image") as tracker:
        assert not tracker._parts.stages.viewer.recalls


def test_other_bundles_are_looked_at_with_both_networks(bundle: Bundle) -> None:
    assert bundle.shallow is None
    with HandMeshTracker(bundle) as tracker:
        assert not tracker._parts.stages.viewer.recalls


def test_stages_that_do_not_give_what_it_needs_are_refused(recalling: Bundle, bundle: Bundle, topology) -> None:
    with pytest.raises(BundleError, match="no graph of the first layers"):
        Recall(bundle, *stages(bundle))
    unjudged = dataclasses.replace(recalling, mesh=make_mesh(topology))
    with pytest.raises(BundleError, match="needs stages that give refined_presence"):
        Recall(unjudged, *stages(unjudged))
    other = dataclasses.replace(recalling, shallow=recalling.prior)
    with pytest.raises(BundleError, match=r"shallow\.onnx of hand\.cmr has heatmaps"):
        Recall(other, *stages(other))
    asking = make_mesh(topology, inputs=("features", "heatmaps", "silhouette", "right"), outputs=REFINED)
    asking = dataclasses.replace(recalling, mesh=asking)
    with pytest.raises(BundleError, match="the mesh stage takes right"):
        Recall(asking, *stages(asking))
    broken = dataclasses.replace(recalling, shallow=recalling.shallow[:100])
    with pytest.raises(BundleError, match="does not load"):
        HandMeshTracker(broken)


def test_the_first_layers_come_back_from_the_file(recalling: Bundle, tmp_path) -> None:
    content = {
        f.name: getattr(recalling, f.name) for f in dataclasses.fields(Bundle) if f.name not in ("source", "bits")
    }
    write_bundle(tmp_path / "again.cmr", **content)
    assert Bundle.open(tmp_path / "again.cmr").shallow == recalling.shallow == first_layers(make_prior())
