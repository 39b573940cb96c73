# SPDX-License-Identifier: Apache-2.0
"""Plans in bundles: carried as they are, run where nothing speaks against it, refused where they do not fit."""

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from disc_bundle import S, draw_disc

from cmr_runtime import Bundle, BundleError, Camera, HandMeshTracker, InputError, write_bundle
from cmr_runtime import session as sessions
from cmr_runtime.network import MeshStage, PriorStage
from cmr_runtime.plan import session as plan_session
from cmr_runtime.plan.session import PlanSession, kernels
from cmr_runtime.session import CPU, open_stage

compiled = pytest.mark.skipif(not kernels(), reason="the compiled core is not built here, or switched off")


def prior_plan(content: dict) -> dict:
    """A plan of a prior without constants: its features are those of the disc bundle's graph, all else is not."""
    steps = [
        {"op": "pool", "x": 0, "kind": "mean"},
        {"op": "pool", "x": 1, "kind": "mean"},
        {"op": "pool", "x": 2, "kind": "mean"},
        {"op": "slice", "x": 3, "from": 0, "to": 2},
        {"op": "concat", "x": [1] * 7, "axis": "channels"},
        {"op": "slice", "x": 1, "from": 0, "to": 1},
        {"op": "mean", "x": 6},
    ]
    outputs = [
        ["heatmaps", 5, [1, 21, 16, 16]],
        ["silhouette", 6, [1, 1, 16, 16]],
        ["presence", 7, [1, 1]],
        ["right", 7, [1, 1]],
        ["features", 4, [1, 2, 4, 4]],
    ]
    sha256 = hashlib.sha256(content["prior"]).hexdigest()
    return {"sha256": sha256, "inputs": [["image", [1, 3, S, S]]], "steps": steps, "outputs": outputs}


def packed(**graphs: dict) -> bytes:
    return json.dumps({"version": 1, "graphs": graphs}).encode()


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory, content: dict) -> Bundle:
    """With a plan of the prior, and none of the mesh stage."""
    path = tmp_path_factory.mktemp("planned") / "hand.cmr"
    return write_bundle(path, **content, plan=packed(prior=prior_plan(content)))


def written(tmp_path: Path, content: dict, plan: bytes) -> Bundle:
    return write_bundle(tmp_path / "hand.cmr", **content, plan=plan)


def test_a_bundle_keeps_its_plan(content: dict, bundle: Bundle, bundle_path: Path, tmp_path: Path) -> None:
    assert bundle.plan is None
    with zipfile.ZipFile(bundle_path) as archive:
        assert "plan.json" not in archive.namelist()
    plan = b' {"version": 1,\n "graphs": {}} '
    assert written(tmp_path, content, plan).plan == plan
    assert Bundle.open(tmp_path / "hand.cmr").plan == plan
    with zipfile.ZipFile(tmp_path / "hand.cmr") as archive:
        assert archive.read("plan.json") == plan
    first = (tmp_path / "hand.cmr").read_bytes()
    written(tmp_path, content, plan)
    assert (tmp_path / "hand.cmr").read_bytes() == first


@compiled
def test_a_stage_runs_its_plan(planned: Bundle, bundle: Bundle) -> None:
    opened, part = open_stage(planned, "prior", 1)
    assert isinstance(opened, PlanSession)
    assert part == f"prior.onnx of {planned.source}"
    image = draw_disc(S, S, 15, 15, 8)
    ours, theirs = PriorStage(planned)(image), PriorStage(bundle)(image)
    np.testing.assert_allclose(ours.features, theirs.features, atol=1e-6)
    assert np.abs(ours.heatmaps - theirs.heatmaps).max() > 0.1
    assert PriorStage(planned).shapes == PriorStage(bundle).shapes


@compiled
@pytest.mark.parametrize("providers", [CPU, list(CPU)])
@pytest.mark.parametrize("threads", [1, 2])
def test_threads_and_the_default_provider_leave_it_its_plan(planned: Bundle, threads: int, providers) -> None:
    opened, _ = open_stage(planned, "prior", threads, providers)
    image = np.random.default_rng(0).random((1, 3, S, S), np.float32)
    (found,) = opened.run(["features"], {"image": image})
    wanted = image.reshape(1, 3, 4, 8, 4, 8).mean((3, 5))[:, :2]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert isinstance(opened, PlanSession)


@pytest.mark.parametrize("case", ["another provider", "another first", "no plan", "not of this graph", "no core"])
def test_where_onnx_runtime_runs_the_graph(
    planned: Bundle, bundle: Bundle, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(sessions, "open_session", lambda *given: asked.append(given) or "a session of ONNX Runtime")
    if case == "no core":
        monkeypatch.setattr(plan_session, "core", None)
    of = bundle if case == "no plan" else planned
    kind = "mesh" if case == "not of this graph" else "prior"
    providers = {"another provider": ("XnnpackExecutionProvider",), "another first": ("Azure", *CPU)}.get(case, CPU)
    opened, part = open_stage(of, kind, 1, providers)
    assert opened == "a session of ONNX Runtime"
    assert part == f"{kind}.onnx of {of.source}"
    assert asked == [(getattr(of, kind), part, 1, providers)]


def test_without_the_core_a_plan_changes_nothing(
    planned: Bundle, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_session, "core", None)
    image = draw_disc(S, S, 15, 15, 8)
    np.testing.assert_array_equal(PriorStage(planned)(image).heatmaps, PriorStage(bundle)(image).heatmaps)


@pytest.mark.parametrize("providers", [None, "CPUExecutionProvider", [], 3, ["Nobody"]])
def test_providers_are_checked_with_a_plan_too(planned: Bundle, providers) -> None:
    if providers == []:
        open_stage(planned, "prior", 1, providers)
        return
    with pytest.raises(InputError, match="providers is"):
        open_stage(planned, "prior", 1, providers)


@pytest.mark.parametrize("threads", [0, -1, True, 1.0, "1", 257, None])
def test_threads_are_checked_with_a_plan_too(planned: Bundle, threads) -> None:
    with pytest.raises(InputError, match="threads is"):
        open_stage(planned, "prior", threads)


@compiled
@pytest.mark.parametrize(
    "plan", [b"", b"\xff", b"[]", b'{"version": 0, "graphs": {}}', b'{"version": 1, "graphs": {"prior": {}}}']
)
def test_what_is_no_plan(content: dict, tmp_path: Path, plan: bytes) -> None:
    broken = written(tmp_path, content, plan)
    with pytest.raises(BundleError, match=r"plan\.json of .*hand\.cmr is no plan: .*; export it again"):
        PriorStage(broken)
    with pytest.raises(BundleError, match="is no plan"):
        HandMeshTracker(broken)


@compiled
def test_a_plan_that_does_not_fit_the_graph(content: dict, tmp_path: Path) -> None:
    table = prior_plan(content)
    weight = {"x": 0, "weight": [len(content["prior"]) - 8, [3, 3]], "order": "oi", "bias": None, "act": None}
    table["steps"].append({"op": "linear", **weight})
    with pytest.raises(BundleError, match=r"the plan of prior\.onnx of .*hand\.cmr .*; export it again"):
        PriorStage(written(tmp_path, content, packed(prior=table)))


@compiled
@pytest.mark.parametrize("sha256", [None, "", 64 * "0", 3])
def test_a_plan_of_another_graph(content: dict, tmp_path: Path, sha256: object) -> None:
    table = prior_plan(content) | {"sha256": sha256}
    with pytest.raises(BundleError, match=r"the plan of prior\.onnx of .*hand\.cmr was made of another graph"):
        PriorStage(written(tmp_path, content, packed(prior=table)))


@compiled
@pytest.mark.parametrize("change", ["other joints", "an output is unknown", "an input is smaller", "no image"])
def test_a_plan_for_another_network(content: dict, tmp_path: Path, change: str) -> None:
    table = prior_plan(content)
    if change == "other joints":
        table["outputs"][0] = ["heatmaps", 6, [1, 1, 16, 16]]
    elif change == "an output is unknown":
        table["outputs"].append(["more", 7, [1, 1]])
    elif change == "an input is smaller":
        table["inputs"][0][1] = [1, 3, S, S - 8]
        table["outputs"] = [["heatmaps", 5, [1, 21, 16, 12]]]
    else:
        table["inputs"][0][0] = "picture"
    with pytest.raises(BundleError, match=r"prior\.onnx of .*hand\.cmr"):
        PriorStage(written(tmp_path, content, packed(prior=table)))


@compiled
def test_a_tracker_runs_the_plan(planned: Bundle) -> None:
    prior = PriorStage(planned)
    assert isinstance(prior._session, PlanSession)
    assert not isinstance(MeshStage(planned, prior)._session, PlanSession)
    image = draw_disc(320, 240, 150, 120, 40)
    runs = []
    with pytest.MonkeyPatch.context() as patch, HandMeshTracker(planned, smoothing=False) as tracker:
        run = PlanSession.run
        patch.setattr(PlanSession, "run", lambda *given: runs.append(given) or run(*given))
        tracker.follow([(70, 40, 230, 200)])
        tracker.track(image, Camera.from_fov(60, 320, 240))
    assert runs
