# SPDX-License-Identifier: Apache-2.0
import dataclasses
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from disc_bundle import OFFSETS, PRIOR_OUTPUTS, H, S, V, draw_disc, make_mesh, make_prior

from cmr_runtime import Bundle, BundleError, InputError, Topology, write_bundle
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


def test_prior_without_its_input_is_refused_by_name(bundle: Bundle) -> None:
    other = dataclasses.replace(bundle, prior=_edited(bundle.prior, _rename("image", "other")))
    with pytest.raises(BundleError, match=r"prior\.onnx of hand\.cmr lacks image; it has \['other'\]"):
        PriorStage(other)


def test_an_unknown_output_is_refused_by_name(bundle: Bundle) -> None:
    other = dataclasses.replace(bundle, prior=_edited(bundle.prior, _rename("right", "other")))
    with pytest.raises(BundleError, match=r"prior\.onnx of hand\.cmr has other, which this version does not know"):
        PriorStage(other)


@pytest.mark.parametrize("name", PRIOR_OUTPUTS)
def test_each_output_of_the_prior_may_be_absent(bundle: Bundle, topology: Topology, name: str) -> None:
    rest = tuple(output for output in PRIOR_OUTPUTS if output != name)
    prior = PriorStage(dataclasses.replace(bundle, prior=make_prior(rest)))
    crop = draw_disc(S, S, 15, 15, 8)
    seen, full = prior(crop), PriorStage(bundle)(crop)
    assert getattr(seen, name) == (0.5 if name == "right" else None)
    for other in rest:
        np.testing.assert_array_equal(getattr(seen, other), getattr(full, other))
    for taken in rest:
        mesh = dataclasses.replace(bundle, prior=make_prior(rest), mesh=make_mesh(topology, (taken,), ("vertices",)))
        output = MeshStage(mesh, prior)(seen)
        np.testing.assert_allclose(output.vertices, topology.template, atol=1e-7)
        assert output.heatmaps is None
        assert output.silhouette is None


def test_keypoints_and_coarse_maps(bundle: Bundle) -> None:
    crop = draw_disc(S, S, 15, 17, 8)
    prior = PriorStage(dataclasses.replace(bundle, prior=make_prior(("keypoints", "coarse_heatmaps"))))
    assert prior.shapes == {"keypoints": (1, 21, 2)}  # coarse maps are not asked for
    np.testing.assert_allclose(prior(crop).keypoints * S - 0.5, (15, 17) + 8 * OFFSETS, atol=0.3)


def test_maps_are_square(bundle: Bundle) -> None:
    def edit(graph: onnx.GraphProto) -> None:
        for node in graph.node:
            if node.output[0] == "silhouette":
                node.output[0] = "whole"
        graph.initializer.append(onnx.numpy_helper.from_array(np.array([12]), "end"))
        graph.initializer.append(onnx.numpy_helper.from_array(np.array([3]), "axis"))
        graph.node.append(onnx.helper.make_node("Slice", ["whole", "zero", "end", "axis"], ["silhouette"]))
        next(v for v in graph.output if v.name == "silhouette").type.tensor_type.shape.dim[3].dim_value = 12

    with pytest.raises(BundleError, match=r"silhouette of prior\.onnx of hand\.cmr has shape .* must be square"):
        PriorStage(dataclasses.replace(bundle, prior=_edited(bundle.prior, edit)))


def test_other_input_size_is_refused(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="image of prior"):
        PriorStage(dataclasses.replace(bundle, input_size=64))


def test_mesh_that_does_not_fit_is_refused(bundle: Bundle) -> None:
    prior = PriorStage(bundle)
    with pytest.raises(BundleError, match=r"mesh\.onnx of hand\.cmr lacks vertices"):
        MeshStage(dataclasses.replace(bundle, mesh=_edited(bundle.mesh, _rename("vertices", "v"))), prior)
    with pytest.raises(BundleError, match="takes image, which the prior stage does not give"):
        MeshStage(dataclasses.replace(bundle, mesh=bundle.prior), prior)


def test_graphs_in_ort_format_give_the_same(bundle: Bundle, tmp_path: Path) -> None:
    graphs = {}
    for name in ("prior", "mesh"):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / name)
        options.add_session_config_entry("session.save_model_format", "ORT")
        onnxruntime.InferenceSession(getattr(bundle, name), options, providers=["CPUExecutionProvider"])
        graphs[name] = (tmp_path / name).read_bytes()
    content = {f.name: getattr(bundle, f.name) for f in dataclasses.fields(Bundle) if f.name not in ("source", "bits")}
    other = write_bundle(tmp_path / "ort.cmr", **{**content, **graphs})
    with zipfile.ZipFile(tmp_path / "ort.cmr") as archive:
        assert archive.namelist() == ["manifest.json", "prior.ort", "mesh.ort", "topology.npz", "LICENSE.txt"]
    assert Bundle.open(tmp_path / "ort.cmr").mesh == graphs["mesh"]
    crop = draw_disc(S, S, 15, 15, 8)
    results = []
    for each in (bundle, other):
        prior = PriorStage(each)
        seen = prior(crop)
        results.append(vars(MeshStage(each, prior)(seen)) | {key: getattr(seen, key) for key in ("presence", "right")})
    for key in ("presence", "right", "vertices", "heatmaps", "silhouette"):
        np.testing.assert_allclose(results[1][key], results[0][key], atol=1e-6)
    with pytest.raises(BundleError, match=r"part mesh\.ort of ort\.cmr does not load"):
        MeshStage(dataclasses.replace(other, mesh=graphs["mesh"][:200]), PriorStage(other))


def test_no_graph_and_bad_threads(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="does not load"):
        PriorStage(dataclasses.replace(bundle, prior=b"nothing"))
    for threads in (0, True, 1.5, 1000):
        with pytest.raises(InputError, match="threads"):
            PriorStage(bundle, threads)  # type: ignore[arg-type]


def test_providers_of_this_build_run_and_others_are_named(bundle: Bundle) -> None:
    available = onnxruntime.get_available_providers()
    crop = np.random.default_rng(0).integers(0, 255, (S, S, 3), np.uint8)
    expected = PriorStage(bundle)(crop).heatmaps
    # Whatever a provider leaves out, the CPU does.
    found = PriorStage(bundle, providers=[name for name in available if name.startswith("CPU")] * 2)(crop).heatmaps
    np.testing.assert_array_equal(found, expected)
    for odd in (["TPUExecutionProvider"], "CPUExecutionProvider", [7]):
        with pytest.raises(InputError, match=r"providers is .*which this build of ONNX Runtime has"):
            PriorStage(bundle, providers=odd)


def test_providers_with_threads_of_their_own_are_told_how_many(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the session's options, which these do not read: names as ONNX Runtime documents them."""
    listed = [
        "OpenVINOExecutionProvider",
        "XnnpackExecutionProvider",
        "CoreMLExecutionProvider",
        "CPUExecutionProvider",
    ]
    real, seen = onnxruntime.InferenceSession, []

    def session(graph: bytes, options: object, providers: list[str], provider_options: list[dict[str, str]]) -> object:
        seen.append(dict(zip(providers, provider_options, strict=True)))
        return real(graph, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    PriorStage(bundle, 3, listed[:3])
    named = {"OpenVINOExecutionProvider": "num_of_threads", "XnnpackExecutionProvider": "intra_op_num_threads"}
    assert seen == [{name: {named[name]: "3"} if name in named else {} for name in listed}]
