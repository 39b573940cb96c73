# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from cmr_runtime import Bundle, BundleError, HandMeshTracker, InputError, write_bundle
from cmr_runtime.plan.session import kernels
from cmr_runtime.precision import cache_folder, fastest, open_bundle


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory, content: dict) -> Bundle:
    """The same network behind eight wide convolutions that change nothing."""
    model = onnx.load_from_string(content["prior"])
    kernel = np.zeros((3, 3, 31, 31), np.float32)
    kernel[range(3), range(3), 15, 15] = 1.0
    model.graph.initializer.append(numpy_helper.from_array(kernel, "wide"))
    for node in model.graph.node:
        node.input[:] = ["same8" if name == "image" else name for name in node.input]
    for k in range(8, 0, -1):
        given = "image" if k == 1 else f"same{k - 1}"
        model.graph.node.insert(0, helper.make_node("Conv", [given, "wide"], [f"same{k}"], pads=[15] * 4))
    path = tmp_path_factory.mktemp("slow") / "slow.cmr"
    write_bundle(path, **{**content, "prior": model.SerializeToString()})
    return Bundle.open(path)


@pytest.mark.parametrize("turned", [False, True])
def test_the_faster_one_is_taken_and_remembered(
    bundle: Bundle, slow: Bundle, turned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles, cache = [bundle, slow][:: -1 if turned else 1], tmp_path / "not/there/yet.json"
    assert fastest(bundles, cache=cache) is bundle
    monkeypatch.setattr("cmr_runtime.precision._measure", lambda *_: pytest.fail("measured again"))
    assert fastest(bundles, cache=cache) is bundle


def test_what_the_choice_depends_on_is_measured_anew(bundle: Bundle, slow: Bundle, tmp_path: Path) -> None:
    cache = tmp_path / "precision.json"
    fastest([bundle, slow], cache=cache)
    fastest([slow, bundle], cache=cache)
    fastest([bundle, slow], threads=2, cache=cache)
    assert sorted(json.loads(cache.read_text()).values()) == [0, 0, 1]


@pytest.mark.parametrize(
    "damaged",
    [b"", b"[1]", b"\xff{", b'{"key": 7}', b"[" * 10**6, b'{"key": ' + b"[" * 3000 + b"]" * 3000 + b"}"],
    ids=["empty", "list", "no text", "other", "endless", "deep"],
)
def test_a_damaged_cache_costs_a_measurement(damaged: bytes, bundle: Bundle, slow: Bundle, tmp_path: Path) -> None:
    cache = tmp_path / "precision.json"
    cache.write_bytes(damaged)
    assert fastest([slow, bundle], cache=cache) is bundle
    assert 1 in json.loads(cache.read_text()).values()


@pytest.mark.parametrize("value", [7, -1, "0", None, 0.5])
def test_a_choice_that_is_none_is_not_followed(value: object, bundle: Bundle, slow: Bundle, tmp_path: Path) -> None:
    cache = tmp_path / "precision.json"
    fastest([slow, bundle], cache=cache)
    cache.write_text(json.dumps(dict.fromkeys(json.loads(cache.read_text()), value)))
    assert fastest([slow, bundle], cache=cache) is bundle


def test_a_cache_that_cannot_be_written_is_done_without(bundle: Bundle, slow: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert fastest([slow, bundle], cache=tmp_path / "file/precision.json") is bundle


def test_without_a_home_folder_there_is_no_cache(
    bundle: Bundle, slow: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("CMR_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", home)
    monkeypatch.chdir(tmp_path)
    assert fastest([slow, bundle]) is bundle
    assert not list(tmp_path.iterdir())


def test_nothing_is_measured_where_there_is_no_choice(bundle: Bundle, tmp_path: Path) -> None:
    assert fastest([bundle], cache=tmp_path / "precision.json") is bundle
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="no bundles to choose from"):
        fastest([])


def test_the_cache_can_be_put_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CMR_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("CMR_CACHE")
    assert "cmr-runtime" in str(cache_folder())


def test_the_bundles_of_the_package_are_one_network_in_several_precisions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CMR_CACHE", str(tmp_path))
    made = {precision: open_bundle(None, precision) for precision in ("fp32", "int8", "auto", None)}
    assert (made["fp32"].run_in, made["int8"].run_in) == ("fp32", "int8")
    usual = next((name for name, bits in (("int16", 16), ("int8", 8)) if kernels(bits)), "fp32")
    assert (made[None].source, made[None].run_in) == ("hand.cmr", usual)
    assert made["int8"].provenance["checkpoint_sha256"] == made["fp32"].provenance["checkpoint_sha256"]
    assert made["auto"].run_in in ("fp32", "int16", "int8")
    assert (tmp_path / "precision.json").is_file()
    with pytest.raises(BundleError, match="comes in fp32 and int8"):
        Bundle.default("fp16")


def test_the_choice_is_made_for_the_providers_that_are_asked_for(
    bundle: Bundle, slow: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["OneExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setenv("CMR_CACHE", str(tmp_path))
    measured = []
    # The first of the bundles is the faster one on the CPU, the second one on the other provider.
    monkeypatch.setattr("cmr_runtime.precision._measure", lambda *a: measured.append(a) or int(len(a[2]) > 1))
    for _ in range(2):
        assert open_bundle(None, "auto").precision == "fp32"
        assert open_bundle(None, "auto", providers=["OneExecutionProvider"]).precision == "int8"
    assert [threads_and_more[1:] for threads_and_more in measured] == [
        (1, ["CPUExecutionProvider"]),
        (1, ["OneExecutionProvider", "CPUExecutionProvider"]),
    ]
    with pytest.raises(InputError, match="providers is None"):
        fastest([bundle, slow], cache=tmp_path / "other.json", providers=None)


def test_the_tracker_asks_for_its_providers_and_measures_them(
    bundle: Bundle, slow: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["OneExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setenv("CMR_CACHE", str(tmp_path))
    monkeypatch.setattr(Bundle, "default", lambda precision: bundle if precision == "fp32" else slow)
    asked, real = [], onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda *a, providers, **_: asked.append(tuple(providers)) or real(*a)
    )
    HandMeshTracker(precision="auto", providers=["OneExecutionProvider"]).close()
    assert len(asked) >= 6  # two networks of two bundles, and of the one chosen
    assert set(asked) == {("OneExecutionProvider", "CPUExecutionProvider")}


@pytest.mark.parametrize("given", [5, b"hand.cmr", ["hand.cmr"]])
def test_what_is_no_bundle_is_refused(given: object) -> None:
    with pytest.raises(InputError, match=r"bundle is .*; give a path, an open Bundle, or None"):
        HandMeshTracker(given)


def test_a_bundle_is_opened_as_it_is_and_other_precisions_are_refused(bundle: Bundle, bundle_path: Path) -> None:
    assert open_bundle(bundle) is bundle
    assert open_bundle(bundle_path).name == open_bundle(bundle_path, "fp32").name == bundle.name
    for given, precision in ((None, "fp16"), (bundle, "fast")):
        with pytest.raises(InputError, match=f"precision is '{precision}'; give one of fp32, int16, int8, auto"):
            HandMeshTracker(given, precision=precision)
