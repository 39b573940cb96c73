# SPDX-License-Identifier: Apache-2.0
"""The graphs: traced and simplified to static shapes and operators that mobile providers take."""

from functools import partial

import numpy as np
import onnx
import onnxsim
import pytest
import torch
from exported import CONFIG, exported, run_bundle, run_graph

from cmr_export.graphs import to_onnx
from cmr_models.network.staged import MeshStage, PriorStage
from cmr_models.network.trunk import Conv


@pytest.mark.parametrize("simplifier_folds", [True, False])
def test_same_padding_leaves_no_pad_behind(simplifier_folds, monkeypatch):
    """Whether or not onnxsim has the pass that does the same."""
    if not simplifier_folds:
        without = partial(onnxsim.simplify, skipped_optimizers=["fuse_pad_into_conv"])
        monkeypatch.setattr(onnxsim, "simplify", without)
    torch.manual_seed(0)
    module = torch.nn.Sequential(Conv(2, 4, 3, 2), Conv(4, 4, 5, 2, 4), Conv(4, 3)).eval()
    x = torch.randn(1, 2, 16, 16)
    data = to_onnx(module, {"x": x}, ("y",))
    model = onnx.load_from_string(data)
    assert "Pad" not in {node.op_type for node in model.graph.node}
    found = run_graph(data, {"x": x.numpy()})["y"]
    with torch.no_grad():
        np.testing.assert_allclose(found, module(x), atol=1e-5)


# The default network's graphs


@pytest.mark.parametrize("stage", ["prior", "mesh"])
def test_graphs_are_static_and_plain(stage):
    model = onnx.load_from_string(getattr(exported().bundle, stage))
    onnx.checker.check_model(model, full_check=True)
    values = [*model.graph.input, *model.graph.output]
    for value in values:
        sizes = [d.dim_value for d in value.type.tensor_type.shape.dim]
        assert sizes, value.name
        assert min(sizes) > 0, value.name
        assert sizes[0] == 1, value.name
    found = {node.op_type for node in model.graph.node}
    assert "Conv" in found
    dynamic = {"Pad", "GridSample", "Loop", "If", "Scan", "NonZero", "Shape", "BatchNormalization", "ScatterND"}
    dynamic |= {"Constant", "Flatten", "ReduceSum"}  # what mobile providers lack or count
    assert not found & dynamic
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")] == [17]


def test_inputs_and_outputs_are_those_of_the_bundle_format():
    shape = lambda value: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)  # noqa: E731
    prior, mesh = (onnx.load_from_string(g).graph for g in (exported().bundle.prior, exported().bundle.mesh))
    size, vertices = CONFIG.size, len(exported().bundle.topology.template)
    assert {v.name: shape(v) for v in prior.input} == {"image": (1, 3, size, size)}
    maps = (1, 21, size // 4, size // 4)
    given = {v.name: shape(v) for v in prior.output}
    assert list(given) == list(PriorStage.outputs)
    assert given["heatmaps"] == maps
    assert given["silhouette"] == (1, 1, size // 4, size // 4)
    assert given["presence"] == given["right"] == (1, 1)
    taken = {v.name: shape(v) for v in mesh.input}
    assert taken == {name: given[name] for name in MeshStage.inputs}
    made = {v.name: shape(v) for v in mesh.output}
    assert list(made) == list(exported().staged.mesh.outputs)
    assert made == {
        "vertices": (1, vertices, 3),
        "refined_heatmaps": maps,
        "refined_silhouette": (1, 1, size // 2, size // 2),
        "refined_presence": (1, 1),
    }


def test_all_but_features_and_vertices_are_probabilities():
    bundle = exported().bundle
    image = np.random.default_rng(0).standard_normal((1, 3, CONFIG.size, CONFIG.size)).astype(np.float32)
    found = run_bundle(bundle, image)
    for name, value in found.items():
        if name not in ("features", "vertices"):
            assert value.min() >= 0, name
            assert value.max() <= 1, name
    assert np.ptp(found["heatmaps"]) > 0.1
    assert found["features"].min() < 0
    assert np.abs(found["vertices"]).max() > 0.01
