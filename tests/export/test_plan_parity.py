# SPDX-License-Identifier: Apache-2.0
"""Bundles carry plans of their graphs, and a plan that computes something else is not written."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from exported import exported

from cmr_export import bundle as bundle_module
from cmr_export.bundle import export
from cmr_export.calibration import blobs, normalise
from cmr_export.detector import add_detector
from cmr_export.parity import ParityError, check
from cmr_export.plan import onnx_graphs, plan, written
from cmr_export.plan_parity import plan_parity
from cmr_export.report import plan_lines
from cmr_runtime import Bundle, HandMeshTracker
from cmr_runtime.plan.session import PlanSession, kernels
from cmr_runtime.session import open_stage

PALMS = Path(__file__).parents[2] / "models" / "weights" / "palm_detector.npz"

needs_core = pytest.mark.skipif(not kernels(), reason="the compiled core is not built here, or switched off")


def images() -> np.ndarray:
    return normalise(blobs(160, 2, seed=5), exported().staged)


def test_a_bundle_carries_the_plan_of_its_graphs() -> None:
    bundle = exported().bundle
    graphs = onnx_graphs(bundle)
    assert set(graphs) == {"prior", "mesh", "shallow"}
    assert bundle.plan == written(plan(graphs))


@needs_core
def test_stages_of_a_bundle_run_by_plan() -> None:
    for kind in ("prior", "mesh", "shallow"):
        session, _ = open_stage(exported().bundle, kind, 1)
        assert isinstance(session, PlanSession)


@needs_core
@pytest.mark.parametrize("kind", ["prior", "mesh", "shallow"])
def test_a_plan_that_computes_something_else_is_refused(kind: str) -> None:
    graphs = onnx_graphs(exported().bundle)
    spoilt = copy.deepcopy(plan(graphs))
    step = next(step for step in spoilt["graphs"][kind]["steps"] if step["op"] == "block")
    step["depthwise"]["act"] = [0, 0.5]
    differences = plan_parity(spoilt, graphs, images())
    with pytest.raises(ParityError, match=f"plan of {kind}"):
        check(differences, "fp32")


@needs_core
def test_an_export_compares_its_plan(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(graphs):
        table = plan(graphs)
        next(step for step in table["graphs"]["mesh"]["steps"] if step["op"] == "attend")["eps"] = 50.0
        return table

    monkeypatch.setattr(bundle_module, "plan", spoilt)
    with pytest.raises(ParityError, match="plan of mesh"):
        export(exported().checkpoint, tmp_path / "hand.cmr")
    assert not list(tmp_path.iterdir())


def test_graphs_in_the_other_format_have_no_plan(tmp_path) -> None:
    done = export(exported().checkpoint, tmp_path / "hand.cmr", form="ort")
    assert done.bundle.plan is None
    assert onnx_graphs(done.bundle) == {}


def test_eight_bits_have_no_plan_but_of_what_is_in_floats(tmp_path) -> None:
    bundle = export(exported().checkpoint, tmp_path / "hand.cmr", precision="int8").bundle
    planned = {} if bundle.plan is None else json.loads(bundle.plan)["graphs"]
    assert not {"prior", "mesh"} & set(planned)


def test_a_detector_that_is_added_has_its_plan(tmp_path) -> None:
    source, out = tmp_path / "hand.cmr", tmp_path / "with.cmr"
    export(exported().checkpoint, source)
    bundle = add_detector(source, PALMS, out)
    assert set(json.loads(bundle.plan)["graphs"]) == {"prior", "mesh", "shallow", "detector"}
    assert bundle.plan == written(plan(onnx_graphs(bundle)))
    with HandMeshTracker(Bundle.open(out), mode="image") as tracker:
        assert tracker.track(np.zeros((64, 64, 3), np.uint8)) == []


def test_the_report_says_which_graphs_have_plans(tmp_path) -> None:
    (line,) = plan_lines(exported().bundle)
    assert "prior, mesh, shallow;" in line
    eight = export(exported().checkpoint, tmp_path / "hand.cmr", precision="int8").bundle
    head, *reasons = plan_lines(eight)
    assert "nothing" in head
    assert [reason.split()[0] for reason in reasons] == ["prior", "mesh", "shallow"]
    assert all("DequantizeLinear" in reason or "QuantizeLinear" in reason for reason in reasons)
