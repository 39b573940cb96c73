# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest
from registration_scenes import scene, wild

from cmr_runtime.camera import Camera
from cmr_runtime.errors import CameraError, InputError
from cmr_runtime.registration import Registrar, register

KNOWN = (1.0, 0.0)


def test_refused_inputs():
    s = scene(0)
    bad = s.keypoints.copy()
    bad[3, 0] = np.nan
    cases = {
        "keypoints holds NaN": replace(s, keypoints=bad),
        "expected 4 or more": replace(s, scores=np.full(21, 0.05)),
        "do not agree": replace(s, scores=np.ones(20)),
        "millimetres": replace(s, joints=1000 * s.joints, vertices=1000 * s.vertices),
        "vertices has shape": replace(s, vertices=s.vertices[:, :2]),
        "scores reaches": replace(s, scores=np.full(21, 7.0)),
        "joints span": replace(s, joints=np.zeros((21, 3))),
        "silhouette holds": replace(s, silhouette=np.full((9, 2), np.inf)),
        "no array of numbers": replace(s, keypoints=[["a", "b"]] * 21),
    }
    for message, case in cases.items():
        with pytest.raises(InputError, match=message):
            register(*case.arguments())
    for camera, name in ((None, "NoneType"), (s.camera.matrix, "ndarray")):
        with pytest.raises(CameraError, match=f"camera is a {name}; give a Camera"):
            register(*replace(s, camera=camera).arguments())
    with pytest.raises(InputError, match="cut is"):
        register(*s.arguments(), cut=np.zeros(3, dtype=bool))
    with pytest.raises(InputError, match="without a silhouette"):
        register(*s.without_silhouette().arguments(), cut=np.zeros(3, dtype=bool))


@pytest.mark.parametrize(
    "prior", [(0.0, 0.1), (1.0, -0.1), (1.0, 0.5), (np.nan, 0.1), (1.0, np.inf), (1.0,), None, "ab", "10", (True, 0)]
)
def test_refused_priors(prior):
    for call in (lambda: Registrar(prior), lambda: register(*scene(0).arguments(), scale_prior=prior)):
        with pytest.raises(InputError, match="scale_prior"):
            call()


def test_numbers_beyond_floats_are_refused():
    vertices, joints, *others = scene(0).arguments()
    with pytest.raises(InputError, match="joints is no array of numbers"):
        register(vertices, [[10**400] * 3] * len(joints), *others)


def test_refused_options():
    with pytest.raises(InputError, match="blend"):
        Registrar(blend="mean")
    for bounds in ((1.0, 0.5), (1,), None, (0.1, "far")):
        with pytest.raises(InputError, match="depth_bounds"):
            Registrar(depth_bounds=bounds)
    for length in ("0.19", [0.19], True, np.nan, 19.0):
        for call in (Registrar, lambda **option: register(*scene(0).arguments(), **option)):
            with pytest.raises(InputError, match="hand_length is"):
                call(hand_length=length)
    with pytest.raises(InputError, match="solver="):
        register(*scene(0).arguments(), solver=["osqp"])


def test_any_finite_input_gives_a_finite_result_or_a_clear_error():
    rng = np.random.default_rng(0)
    registrar = Registrar()
    s = scene(0)
    for _ in range(300):
        keypoints = rng.choice([1e-3, 1.0, 100.0, 1e6]) * rng.uniform(-1, 1, size=(21, 2))
        joints = rng.choice([0.0, 1e-3, 0.1, 1.0]) * rng.uniform(-1, 1, size=(21, 3))
        contour = rng.choice([0.0, 1.0, 300.0, 1e6]) * rng.uniform(-1, 1, size=(rng.integers(0, 30), 2))
        focal = rng.choice([1e-3, 1.0, 500.0, 1e7])
        case = replace(
            s,
            joints=joints,
            keypoints=keypoints,
            scores=rng.uniform(size=21),
            silhouette=contour,
            camera=Camera(focal, focal, 320, 240, 640, 480),
        )
        try:
            result = registrar(*case.arguments(), cut=rng.uniform(size=len(contour)) < 0.3)
        except InputError:
            continue
        assert np.isfinite(result.translation).all()
        assert np.isfinite(result.sigma).all()
        assert result.translation[2] >= 0.05 - 1e-9


@pytest.mark.parametrize("count", [2_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_any_call_ends_in_a_finite_result_or_a_clear_error(count):
    rng = np.random.default_rng(count)
    registrars = [Registrar(), Registrar(KNOWN), Registrar(blend="paper"), Registrar(hand_length=0.19)]
    scenes = [scene(k, noise=2) for k in range(8)]
    refused = 0
    for k in range(count):
        arguments, cut = wild(rng, scenes[k % 8])
        try:
            result = registrars[k % 4](*arguments, cut=cut)
        except InputError:
            refused += 1
            continue
        assert np.isfinite(result.translation).all()
        assert np.isfinite(result.sigma).all()
        assert (result.sigma > 0).all()
        assert result.translation[2] >= 0.05 - 1e-9
        assert 0.0 <= result.weight_1d <= 1.0
        vertices, joints = arguments[:2]
        assert (result.scale * np.concatenate([vertices, joints]) + result.translation)[:, 2].min() > 0
    assert 0.2 * count < refused < 0.9 * count


def test_cameras_without_an_image_are_refused():
    for matrix in (np.zeros((3, 3)), np.diag([500.0, 0.0, 1.0]), np.full((3, 3), np.nan)):
        with pytest.raises(CameraError):
            Camera.from_matrix(matrix, 640, 480)
