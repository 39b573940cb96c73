# SPDX-License-Identifier: Apache-2.0
"""When the compiled core is taken, and which arrays it takes as they are."""

import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest

from cmr_runtime import Camera, Roi, compiled
from cmr_runtime.heatmaps import decode
from cmr_runtime.plan.session import kernels
from cmr_runtime.silhouette import contour


def given(monkeypatch: pytest.MonkeyPatch, **constants: int) -> ModuleType:
    """Put a library in the place of the core."""
    library = ModuleType("cmr_runtime._core")
    vars(library).update(constants)
    monkeypatch.setitem(sys.modules, library.__name__, library)
    monkeypatch.delenv("CMR_RUNTIME_COMPILED", raising=False)
    return library


def test_a_core_of_this_version_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    library = given(monkeypatch, INTERFACE=compiled.INTERFACE)
    assert compiled._load() == (library, compiled.IN_USE)
    monkeypatch.setenv("CMR_RUNTIME_COMPILED", "0")
    assert compiled._load() == (None, compiled.OFF)


@pytest.mark.parametrize("constants", [{}, {"INTERFACE": compiled.INTERFACE - 1}])
def test_a_core_left_from_another_version_is_not(monkeypatch: pytest.MonkeyPatch, constants: dict[str, int]) -> None:
    given(monkeypatch, **constants)
    found, state = compiled._load()
    assert found is None
    assert state.startswith(compiled.ABSENT)
    assert f"not {compiled.INTERFACE}" in state


def test_one_that_does_not_load_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cmr_runtime._core", None)
    monkeypatch.delenv("CMR_RUNTIME_COMPILED", raising=False)
    found, state = compiled._load()
    assert found is None
    assert state.startswith(f"{compiled.ABSENT} (")
    assert "_core" in state


_TRACKED = """
import sys
from cmr_runtime import Bundle, HandMeshTracker
from cmr_runtime.doctor import drawn_hand
bundle = Bundle.default()
with HandMeshTracker(bundle) as tracker:
    (hand,) = tracker.track(*drawn_hand(bundle.topology)[:2])
assert not hand.registration.bounds_active
print(sorted({"onnxruntime", "osqp", "scipy"} & set(sys.modules)))
"""


@pytest.mark.skipif(not kernels(), reason="without the core all of it is needed")
def test_an_ordinary_hand_loads_nothing_that_only_others_need() -> None:
    done = subprocess.run([sys.executable, "-c", _TRACKED], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def out_of_place(array: np.ndarray) -> np.ndarray:
    """Return the same array one byte beside its place, as behind the header of a file."""
    moved = np.frombuffer(b"\0" + array.tobytes(), array.dtype, offset=1).reshape(array.shape)
    assert not moved.flags.aligned
    return moved


def test_arrays_out_of_their_place_serve_as_all_others_do() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0.3, 0.6, (5, 3))
    camera = Camera.from_fov(60, 640, 480)
    np.testing.assert_allclose(camera.project(out_of_place(points)), camera.project(points))
    pixels, region = rng.uniform(0, 160, (7, 2)).astype(np.float32), Roi(100.0, 80.0, 200.0, 0.3)
    np.testing.assert_allclose(region.to_image(out_of_place(pixels), 160), region.to_image(pixels, 160))
    y, x = np.mgrid[:40, :40]
    maps = np.exp(-((x - 20.3) ** 2 + (y - 17.8) ** 2) / 50).astype(np.float32)
    for ours, usual in zip(decode(out_of_place(maps[None]), 160), decode(maps[None], 160), strict=True):
        np.testing.assert_allclose(ours, usual, atol=1e-6)
    np.testing.assert_allclose(contour(out_of_place(maps), 160), contour(maps, 160), atol=1e-4)
