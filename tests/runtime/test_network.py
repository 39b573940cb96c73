# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import onnx
import pytest
from disc_bundle import H, S, V, draw_disc

from cmr_runtime import Bundle, BundleError, InputError
from cmr_runtime.network import MeshStage, PriorStage


def _edited(graph: bytes, edit) -> bytes:
    model = onnx.load_from_string(graph)
    edit(model.graph)
    return model.SerializeToString()


def _rename(old: str, new: str):
    def edit(graph: onnx.GraphProto) -> None:
        for node in graph.node:
            for names in (node.input, node.output):
                for k, name in enumerate(names):
                    if name == old:
                        names[k] = new
        for value in [*graph.input, *graph.output]:
            if value.name == old:
                value.name = new

    return edit


def test_stages_give_the_documented_shapes(bundle: Bundle) -> None:
    prior_stage = PriorStage(bundle)
    prior = prior_stage(draw_disc(S, S, 15, 15, 8))
    assert prior.heatmaps.shape == (21, H, H)
    assert prior.silhouette.shape == (H, H)
    assert isinstance(prior.presence, float)
    mesh = MeshStage(bundle, prior_stage)(prior)
    assert mesh.vertices.shape == (V, 3)
    np.testing.assert_allclose(mesh.vertices, bundle.topology.template, atol=1e-7)


def test_normalisation_is_the_documented_one(bundle: Bundle) -> None:
    crop = np.random.default_rng(0).integers(0, 256, (S, S, 3), np.uint8)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    features = PriorStage(dataclasses.replace(bundle, mean=mean, std=std))(crop).features
    value = (crop / 255.0 - mean) / std
    pooled = value.reshape(4, S // 4, 4, S // 4, 3).mean(axis=(1, 3)).transpose(2, 0, 1)[:2]
    np.testing.assert_allclose(features[0], pooled, atol=1e-5)


def test_results_outlive_the_next_call(bundle: Bundle) -> None:
    stage = PriorStage(bundle)
    first = stage(draw_disc(S, S, 15, 15, 8))
    kept = first.heatmaps.copy()
    stage(draw_disc(S, S, 20, 10, 5))
    np.testing.assert_array_equal(first.heatmaps, kept)


@pytest.mark.parametrize("name", ["image", "heatmaps", "presence", "right", "features"])
def test_prior_without_a_name_is_refused_by_name(bundle: Bundle, name: str) -> None:
    other = dataclasses.replace(bundle, prior=_edited(bundle.prior, _rename(name, "other")))
    with pytest.raises(BundleError, match=rf"prior\.onnx of hand\.cmr lacks {name}"):
        PriorStage(other)


def test_other_input_size_is_refused(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="image of prior"):
        PriorStage(dataclasses.replace(bundle, input_size=64))


def test_mesh_that_does_not_fit_is_refused(bundle: Bundle) -> None:
    prior = PriorStage(bundle)
    with pytest.raises(BundleError, match=r"mesh\.onnx of hand\.cmr lacks vertices"):
        MeshStage(dataclasses.replace(bundle, mesh=_edited(bundle.mesh, _rename("vertices", "v"))), prior)
    with pytest.raises(BundleError, match="lacks features"):
        MeshStage(dataclasses.replace(bundle, mesh=bundle.prior), prior)


def test_no_graph_and_bad_threads(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="does not load"):
        PriorStage(dataclasses.replace(bundle, prior=b"nothing"))
    for threads in (0, True, 1.5, 1000):
        with pytest.raises(InputError, match="threads"):
            PriorStage(bundle, threads)  # type: ignore[arg-type]
