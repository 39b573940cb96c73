# SPDX-License-Identifier: Apache-2.0
"""The palm detector in a bundle: the graph, its parity, the terms that go with it."""

import io
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from exported import exported
from onnx import TensorProto, helper, numpy_helper

from cmr_export import cli
from cmr_export.detector import (
    NOTICE,
    PROVENANCE,
    detector_graph,
    detector_parity,
    load_detector,
    main,
    split_prelus,
    with_notice,
)
from cmr_export.report import bundle_costs, bundle_findings, table
from cmr_models.detector.palm import PalmDetector
from cmr_runtime import Bundle
from cmr_runtime.detect import Detector

WEIGHTS = Path(__file__).parents[2] / "models" / "weights" / "palm_detector.npz"


@pytest.fixture(scope="module")
def network() -> PalmDetector:
    return load_detector(WEIGHTS)


@pytest.fixture(scope="module")
def graph(network) -> bytes:
    return detector_graph(network)


def test_split_prelus_compute_the_same():
    channels = 5
    slopes = np.array([-1.0, 0.0, 0.25, 1.0, 3.0], np.float32).reshape(channels, 1, 1)
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, channels, 3, 4)) for n in ("x", "y")]
    body = helper.make_graph(
        [helper.make_node("PRelu", ["x", "a"], ["y"])],
        "g",
        [value[0]],
        [value[1]],
        [numpy_helper.from_array(slopes, "a")],
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    x = np.random.default_rng(0).standard_normal((1, channels, 3, 4)).astype(np.float32)
    expected = np.where(x > 0, x, slopes * x)
    assert split_prelus(model) == 1
    assert split_prelus(model) == 0
    (found,) = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_graph_is_the_network(network, graph):
    assert max(d.largest for d in detector_parity(network, graph).values()) < 1e-5
    plain = detector_graph(network, "ort")
    assert max(d.largest for d in detector_parity(network, plain).values()) < 1e-5
    assert len(graph) < 0.55 * len(plain)  # half precision
    nodes = onnx.load_from_string(graph).graph.node
    assert not any(node.op_type == "PRelu" for node in nodes)
    # What is left of pads adds channels; those of convolutions are folded.
    assert [node.op_type for node in nodes].count("Pad") == 3


def test_parity_sees_another_network(network, graph):
    other = load_detector(WEIGHTS)
    with torch.no_grad():
        other.fine.score.conv.bias += 0.1
    assert detector_parity(other, graph)["detector.scores"].largest > 1e-3


def test_a_bundle_gets_a_detector_and_its_terms(tmp_path, capsys):
    old, out = exported().checkpoint.parent / "hand.cmr", tmp_path / "with.cmr"
    assert main([str(old), str(WEIGHTS), "--out", str(out)]) == 0
    assert f"{out.stat().st_size:,} bytes" in capsys.readouterr().out
    before, after = Bundle.open(old), Bundle.open(out)
    assert (after.prior, after.mesh, after.name) == (before.prior, before.mesh, before.name)
    assert after.provenance == {**before.provenance, "detector": PROVENANCE}
    assert after.licence_text == with_notice(before.licence_text)
    assert with_notice(after.licence_text) == after.licence_text
    assert NOTICE in after.licence_text
    assert Detector(after).size == 192
    # Once more: the detector is replaced, not added.
    assert main([str(out), str(WEIGHTS), "--out", str(tmp_path / "again.cmr")]) == 0
    assert (tmp_path / "again.cmr").read_bytes() == out.read_bytes()


def test_export_with_a_detector_gives_the_same_part(tmp_path, capsys, graph):
    out = tmp_path / "hand.cmr"
    assert cli.main(["--ckpt", str(exported().checkpoint), "--detector", str(WEIGHTS), "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    apart = next(k for k, line in enumerate(lines) if line.startswith("parity of the detector"))
    assert [line.split()[0] for line in lines[apart + 2 : apart + 4]] == ["detector.boxes", "detector.scores"]
    assert all(word in lines[apart + 2] for word in ("1e-04", "of the image"))
    assert not any(line.split()[0].startswith("detector.") for line in lines[:apart])
    bundle = Bundle.open(out)
    assert (bundle.detector, bundle.detector_size) == (graph, 192)
    assert bundle.provenance["detector"] == PROVENANCE
    assert NOTICE in bundle.licence_text
    costs = bundle_costs(bundle)
    assert list(costs) == ["prior", "mesh", "shallow", "detector"]
    assert costs["detector"].bytes == len(graph)
    assert table(costs) in "\n".join(lines)  # the command and the module say the same
    assert {"detector"} <= bundle_findings(bundle).keys()


def other_weights() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, conv_0_weight=np.zeros(3, np.float32))
    return stream.getvalue()


def plain_array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(3, np.float32))
    return stream.getvalue()


def much_in_little(compression: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("conv_0_weight.npy", bytes(65 << 20))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "No such file"),
        (b"", "no .npz archive"),
        (b"no archive", "no .npz archive"),
        (WEIGHTS.read_bytes()[:1000], "no .npz archive"),
        (plain_array(), "no .npz archive"),
        (other_weights(), "neither of MediaPipe's palm detectors"),
        (much_in_little(zipfile.ZIP_DEFLATED), f"{65 << 20} bytes; the limit is {64 << 20}"),
    ],
    ids=["absent", "empty", "text", "cut", "array", "other", "bomb"],
)
def test_what_is_no_detector_is_refused_in_one_line_before_anything_is_traced(
    tmp_path, capsys, monkeypatch, content, word
):
    weights, out = tmp_path / "palm.npz", tmp_path / "out.cmr"
    if content is not None:
        weights.write_bytes(content)
    old, checkpoint = str(exported().checkpoint.parent / "hand.cmr"), str(exported().checkpoint)
    monkeypatch.setattr("cmr_export.bundle.trace", lambda network: pytest.fail("traced"))
    assert main([old, str(weights), "--out", str(out)]) == 2
    assert cli.main(["--ckpt", checkpoint, "--detector", str(weights), "--out", str(out)]) == 2
    for error in capsys.readouterr().err.splitlines(keepends=True):
        assert "palm.npz holds no palm detector" in error
        assert word in error
        assert "cmr_models.detector.convert" in error
    assert not out.exists()


def test_a_member_that_is_more_than_it_says_is_refused(tmp_path):
    data = plain_array()
    with zipfile.ZipFile(tmp_path / "palm.npz", "w") as archive:
        archive.writestr("conv_0_weight.npy", data.replace(b"(3,)", b"(7,)"))
    with pytest.raises(ValueError, match=r"declares float32 \(7,\), 28 bytes; it holds 12"):
        load_detector(tmp_path / "palm.npz")
    with zipfile.ZipFile(tmp_path / "palm.npz", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("conv_0_weight.npy", data)
    with pytest.raises(ValueError, match=r"conv_0_weight\.npy is compressed in another way"):
        load_detector(tmp_path / "palm.npz")
