# SPDX-License-Identifier: Apache-2.0
"""The compiled registration against NumPy's: the same where it answers, and an answer wherever it should."""

import threading
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from registration_scenes import CAMERA, Scene, outline, project, scene, wild

from cmr_runtime.camera import Camera
from cmr_runtime.errors import CameraError, CmrError, InputError
from cmr_runtime.registration import Registrar, in_core
from cmr_runtime.registration.problem import starting_point

pytestmark = pytest.mark.skipif(in_core.core is None, reason="the compiled core is not built here, or switched off")

NUMBERS = ("translation", "scale", "residual_2d", "residual_1d", "gap", "weight_1d", "sigma")
PRIOR, BOUNDS = (1.0, 0.08), (0.05, 3.0)


@dataclass
class Outcome:
    """What NumPy says: a result or an error; whether a bound was reached on the way, which takes its solver."""

    result: object = None
    error: Exception | None = None
    bounded: bool = False


def by_core(arguments, cut=None, prior=PRIOR, bounds=BOUNDS):
    *arrays, camera = arguments
    return in_core.register_in_core(in_core.settings(), (*arrays, cut), camera, prior, bounds, True)


def by_numpy(arguments, cut=None, prior=PRIOR, bounds=BOUNDS):
    registrar = Registrar(prior, depth_bounds=bounds)
    registrar._settings = None
    outcome = Outcome()
    solver = registrar._solver

    class Watched:
        def solve(self, *program):
            outcome.bounded = True
            return solver.solve(*program)

    registrar._solver = Watched()
    try:
        outcome.result = registrar(*arguments, cut=cut)
    except CmrError as error:
        outcome.error = error
    return outcome


def assert_same(ours, theirs, relative=1e-9):
    if theirs.sigma.max() > 0.5 * theirs.translation[2]:  # little is known, and rounding then shows in every digit
        assert all(
            np.isfinite(getattr(ours, name)).all() == np.isfinite(getattr(theirs, name)).all() for name in NUMBERS
        )
        return
    for name in NUMBERS:
        expected = np.asarray(getattr(theirs, name))
        tolerance = relative * max(float(np.abs(expected).max()), 1e-2) if np.isfinite(expected).all() else 0.0
        np.testing.assert_allclose(getattr(ours, name), expected, rtol=0, atol=tolerance, err_msg=name)
    assert np.array_equal(ours.inliers, theirs.inliers)
    assert (ours.bounds_active, ours.metric) == (theirs.bounds_active, theirs.metric)


def assert_agree(arguments, cut=None, prior=PRIOR, bounds=BOUNDS, relative=1e-9):
    ours, theirs = by_core(arguments, cut, prior, bounds), by_numpy(arguments, cut, prior, bounds)
    # Of a bounded program that rounding leaves hardly determined, one may make something and the other not.
    hardly = theirs.bounded and (theirs.error is None or "singular" in str(theirs.error))
    assert (ours is not None) == (theirs.error is None) or hardly, theirs
    if ours is not None and theirs.error is None:
        # On a bound scale and depth hardly differ in what they do, and the rounds make more of rounding; without limit
        # where nothing fits by a thousand pixels.
        if theirs.bounded and theirs.result.residual_2d > 1e3:
            assert ours.residual_2d == pytest.approx(theirs.result.residual_2d, rel=0.05)
            return ours
        assert_same(ours, theirs.result, max(relative, 1e-3) if theirs.bounded else relative)
    return ours


def jagged(s: Scene, seed: int) -> Scene:
    """With a contour that is not convex, jitters, and is of single precision, as a silhouette's is."""
    rng = np.random.default_rng(seed)
    around = s.silhouette - s.silhouette.mean(axis=0)
    inwards = 1.0 - 0.4 * np.square(np.sin(np.linspace(0, 5 * np.pi, len(around))))[:, None]
    contour = around * inwards + s.silhouette.mean(axis=0) + rng.normal(size=around.shape)
    return replace(s, silhouette=contour.astype(np.float32))


@pytest.mark.parametrize("kind", ["joints", "double", "single", "jagged", "cut"])
@pytest.mark.parametrize("noise", [0.0, 2.0, 6.0])
def test_ordinary_hands(kind, noise):
    for seed in range(25):
        s, cut = scene(seed, noise=noise, outliers=seed % 5, silhouette_noise=noise / 2), None
        if kind == "joints":
            s = s.without_silhouette()
        elif kind == "single":
            s = replace(s, silhouette=s.silhouette.astype(np.float32))
        elif kind != "double":
            s = jagged(s, seed)
        if kind == "cut":
            cut = s.silhouette[:, 0] > np.quantile(s.silhouette[:, 0], 0.6 + 0.015 * seed)
        ours = assert_agree(s.arguments(), cut)
        assert ours is not None
        assert np.isnan(ours.gap) == (kind == "joints") or kind == "cut"


def test_a_registrar_asks_the_core(monkeypatch):
    s = scene(4, noise=2)
    ours = Registrar()(*s.arguments())
    monkeypatch.setattr(in_core, "core", None)
    theirs = Registrar()(*s.arguments())
    assert_same(ours, theirs)
    assert np.array_equal(theirs.sigma, by_numpy(s.arguments()).result.sigma)
    monkeypatch.undo()
    assert np.array_equal(ours.sigma, by_core(s.arguments()).sigma)


@settings(deadline=None, max_examples=300, derandomize=True)
@given(st.data())
def test_any_size_and_setting(data):
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    joints, vertices = draw(st.integers(1, 64)), draw(st.integers(0, 90))
    points = draw(st.integers(0, 40) | st.sampled_from([100, 199, 200, 201, 299, 1000]))
    spread = draw(st.sampled_from([0.02, 0.1, 0.2]))
    focal = draw(st.sampled_from([50.0, 500.0, 3000.0]))
    camera = Camera(focal, focal * rng.uniform(0.9, 1.1), rng.uniform(0, 900), rng.uniform(0, 900), 900, 900)
    place = np.array([rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5), 1.0]) * draw(st.floats(0.1, 4.0))
    J, V = spread * rng.uniform(-1, 1, (joints, 3)), spread * rng.uniform(-1, 1, (vertices, 3))
    place[2] += spread
    keypoints = project(J + place, camera) + rng.choice([0.0, 1.0, 50.0]) * rng.normal(size=(joints, 2))
    contour = project(place + spread * rng.uniform(-1, 1, (points, 3)), camera)
    contour = contour.astype(draw(st.sampled_from([np.float32, np.float64])))
    cut = draw(st.none() | st.sampled_from([0.0, 0.1, 1.0]))
    marks = None if cut is None else rng.uniform(size=points) < cut
    prior = draw(st.sampled_from([(1.0, 1e-4), PRIOR, (0.7, 0.2)]))
    bounds = draw(st.sampled_from([BOUNDS, (0.3, 1.0)]))
    arguments = (V, J, keypoints, rng.uniform(0, 1, joints), contour, camera)
    # Few joints or a far hand hardly determine a position, and rounding grows with that.
    assert_agree(arguments, marks, prior, bounds, relative=1e-5 if joints < 12 else 1e-7)


def test_any_nonsense():
    rng = np.random.default_rng(5)
    scenes = [scene(k, noise=2) for k in range(8)]
    answered = 0
    for k in range(1500):
        arguments, cut = wild(rng, scenes[k % 8])
        answered += assert_agree(arguments, cut, relative=1e-5) is not None
    assert 75 < answered < 750


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e7])
@pytest.mark.parametrize("which", range(5))
@pytest.mark.parametrize("place", [0, -1])
def test_a_value_that_is_refused(which, value, place):
    arguments = [np.array(a) if isinstance(a, np.ndarray) else a for a in scene(1, noise=1).arguments()]
    arguments[which].flat[place] = value
    assert by_core(arguments) is None
    with pytest.raises(InputError, match=r"holds NaN|reaches a magnitude"):
        Registrar()(*arguments)
    if which == 4:
        arguments[4] = arguments[4].astype(np.float32)
        assert by_core(arguments) is None


def test_extremes_of_size():
    s = jagged(scene(2, noise=2), 2)
    rng = np.random.default_rng(0)
    for count in (0, 1, 2, 3, 300, 303, 304, 305):
        ours = assert_agree(replace(s, vertices=s.vertices[:count].copy()).arguments(), relative=1e-6)
        assert np.isnan(ours.gap) == (count < 3)  # three by themselves meet a bound
    for count in (0, 1, 2, 3, 4, 16, 17):
        ours = assert_agree(replace(s, silhouette=s.silhouette[:count].copy()).arguments(), relative=1e-6)
        assert np.isnan(ours.gap) == (count < 3)
    many = replace(
        s,
        vertices=np.repeat(s.vertices, 40, axis=0) + 1e-4 * rng.normal(size=(40 * len(s.vertices), 3)),
        silhouette=outline(project(s.vertices + s.translation), 20_000),
    )
    assert assert_agree(many.arguments()) is not None


def test_equal_points_are_a_tie_and_no_more():
    """Every vertex and contour point four times: any of equal ones is the same."""
    s = scene(3, noise=2)
    ours = assert_agree(replace(s, vertices=np.repeat(s.vertices, 4, 0)).arguments())
    assert_same(ours, by_core(s.arguments()), 1e-12)
    flat = replace(s, vertices=np.zeros((50, 3)), silhouette=np.full((50, 2), 300.0))
    assert assert_agree(flat.arguments(), relative=1e-6) is not None


def test_few_joints_and_full_scores():
    s = scene(4, noise=2)
    for count in range(6):
        scores = np.where(np.arange(21) % 5 < 1, 0.9, 0.05) * (np.arange(21) < 5 * count)
        ours = assert_agree(replace(s, scores=scores).arguments(), relative=1e-6)
        assert (ours is None) == (count < 4)
    scores = np.where(np.arange(21) % 2, 0.5, 1.0 + 9e-7)
    assert_same(
        by_core(replace(s, scores=scores).arguments()), by_core(replace(s, scores=scores.clip(0, 1)).arguments())
    )


def test_a_start_beyond_a_bound():
    """Outliers throw the start off, the rounds bring it back."""
    nearer = farther = 0
    for seed in range(60):
        s = scene(seed, noise=1, outliers=4).without_silhouette()
        if seed % 2:  # all in one place: a hand that looks smaller, thus farther away
            s.keypoints[::4] = s.keypoints.mean(axis=0)
        first, seen = s.joints.T, (s.keypoints - [CAMERA.cx, CAMERA.cy]).T
        start = starting_point(first, seen, s.scores, np.array([[CAMERA.fx], [CAMERA.fy]]), 1.0)[2]
        found = by_core(s.arguments()).translation[2]
        between = 0.5 * (start + found)
        bounds = (between, 5.0) if start < found else (0.05, between)
        if abs(start / found - 1.0) > 0.02 and start > 0.05 and assert_agree(s.arguments(), bounds=bounds) is not None:
            nearer, farther = nearer + (start < found), farther + (start > found)
    assert min(nearer, farther) > 0


def lists(s):
    return [a.tolist() if isinstance(a, np.ndarray) else a for a in s.arguments()], {}


def spoilt(which, change):
    def make(s):
        arguments = list(s.arguments())
        arguments[which] = change(arguments[which])
        return arguments, {}

    return make


NOT_OURS = {
    "lists": lists,
    "a list of vertices": spoilt(0, np.ndarray.tolist),
    "a list of joints": spoilt(1, np.ndarray.tolist),
    "single joints": spoilt(1, lambda a: a.astype(np.float32)),
    "single vertices": spoilt(0, lambda a: a.astype(np.float32)),
    "single scores": spoilt(3, lambda a: a.astype(np.float32)),
    "whole pixels": spoilt(4, lambda a: a.astype(np.int32)),
    "half a contour's precision": spoilt(4, lambda a: a.astype(np.float16)),
    "columns first": spoilt(0, np.asfortranarray),
    "every other vertex": spoilt(0, lambda a: a[::2]),
    "every other contour point": spoilt(4, lambda a: a[::2]),
    "bytes in another order": spoilt(2, lambda a: a.astype(a.dtype.newbyteorder())),
}


@pytest.mark.parametrize("case", NOT_OURS)
def test_other_arrays_are_left_to_numpy(case):
    arguments, _ = NOT_OURS[case](scene(5, noise=2))
    assert by_core(arguments) is None
    theirs = by_numpy(arguments).result
    assert np.array_equal(Registrar()(*arguments).translation, theirs.translation)


def test_many_joints_are_left_to_numpy():
    s = scene(5, noise=2)
    for count, ours in ((64, True), (65, False)):
        take = np.arange(count) % 21
        many = replace(s, joints=s.joints[take], keypoints=s.keypoints[take], scores=s.scores[take])
        assert (by_core(many.arguments()) is not None) == ours
        assert Registrar()(*many.arguments()).inliers.shape == (count,)


REFUSED = {
    "vertices on end": spoilt(0, lambda a: np.ascontiguousarray(a.T)),
    "joints in one row": spoilt(1, np.ravel),
    "joints in a stack": spoilt(1, lambda a: a[None]),
    "a joint too few": spoilt(1, lambda a: a[:-1]),
    "a keypoint too few": spoilt(2, lambda a: a[:-1]),
    "a score too few": spoilt(3, lambda a: a[:-1]),
    "scores in a column": spoilt(3, lambda a: a[:, None]),
    "a contour on end": spoilt(4, lambda a: np.ascontiguousarray(a.T)),
    "a contour of numbers": spoilt(4, np.ravel),
    "words": spoilt(2, lambda a: np.full(a.shape, "a")),
    "low scores": spoilt(3, lambda a: np.full_like(a, 0.05)),
    "joints in one place": spoilt(1, np.zeros_like),
    "marks too few": lambda s: (s.arguments(), {"cut": np.zeros(3, np.bool_)}),
    "marks that are numbers": lambda s: (s.arguments(), {"cut": np.zeros(len(s.silhouette))}),
    "marks of no contour": lambda s: (s.without_silhouette().arguments(), {"cut": np.zeros(3, np.bool_)}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_numpy_says_what_is_wrong(case):
    arguments, options = REFUSED[case](scene(5, noise=2))
    assert by_core(arguments, **options) is None
    with pytest.raises(InputError) as ours:
        Registrar()(*arguments, **options)
    assert str(ours.value) == str(by_numpy(arguments, **options).error)


def test_no_camera_is_no_camera():
    arguments = (*scene(0).arguments()[:5], CAMERA.matrix)
    assert by_core(arguments) is None
    with pytest.raises(CameraError):
        Registrar()(*arguments)


@pytest.mark.parametrize("blend", ["paper", "silhouette"])
def test_other_blends_are_numpys(blend, monkeypatch):
    monkeypatch.setattr("cmr_runtime.registration.registrar.register_in_core", pytest.fail)
    assert Registrar(blend=blend)(*scene(0).arguments()).usable


@pytest.mark.parametrize("bounds", [(0.05, 0.9), (0.05, 0.6), (1.1, 3.0), (1.4, 3.0)])
@pytest.mark.parametrize("noise", [0.0, 2.0, 6.0])
def test_a_bound_is_where_the_solver_finds_it(bounds, noise):
    """A bound that is near is met by another scale; one that is far by the last scale, too."""
    scales = set()
    for seed in range(10):
        s = scene(seed, noise=noise, outliers=seed % 3, silhouette_noise=noise / 2, distance=1.0)
        for each in (s, s.without_silhouette()):
            ours, theirs = by_core(each.arguments(), bounds=bounds), by_numpy(each.arguments(), bounds=bounds)
            assert theirs.bounded
            assert_same(ours, theirs.result, 1e-6)
            assert ours.bounds_active
            scales.add(round(abs(ours.scale - 1.0), 6))
    assert (0.24 in scales) == (bounds in [(0.05, 0.6), (1.4, 3.0)])


def test_an_outline_of_more_than_the_hand_meets_a_bound_only_on_the_way():
    met = 0
    for seed in range(20):
        s = scene(seed, noise=2)
        middle = s.silhouette.mean(axis=0)
        s = replace(s, silhouette=middle + 3.0 * (s.silhouette - middle))
        ours, theirs = by_core(s.arguments()), by_numpy(s.arguments())
        assert_same(ours, theirs.result, 1e-6)
        met += theirs.bounded and not theirs.result.bounds_active
    assert met > 0


def test_a_hand_length_sets_the_prior(monkeypatch):
    s = scene(6, noise=2)
    ours = Registrar(hand_length=0.2)(*s.arguments())
    wrong = s.joints.copy()
    wrong[9] = np.inf
    with pytest.raises(InputError, match="joints holds NaN"):
        Registrar(hand_length=0.2)(*replace(s, joints=wrong).arguments())
    with pytest.raises(InputError, match="21 joints"):
        Registrar(hand_length=0.2)(s.vertices, s.joints[:9], s.keypoints[:9], s.scores[:9], None, CAMERA)
    monkeypatch.setattr(in_core, "core", None)
    theirs = Registrar(hand_length=0.2)(*s.arguments())
    assert_same(ours, theirs)
    assert abs(theirs.scale - 1.0) > 1e-3


def test_inputs_stay_as_they_are():
    arguments = scene(7, noise=2).arguments()
    before = [a.copy() for a in arguments[:5]]
    for array in arguments[:5]:
        array.setflags(write=False)
    assert by_core(arguments) is not None
    assert all(np.array_equal(a, b) for a, b in zip(arguments, before, strict=False))


def test_threads_may_share_the_core():
    s = replace(scene(8, noise=2), vertices=np.repeat(scene(8).vertices, 20, axis=0))
    expected = by_core(s.arguments())
    found = []

    def work():
        found.extend(by_core(s.arguments()) for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 200
    assert all(np.array_equal(each.sigma, expected.sigma) and each.gap == expected.gap for each in found)


def test_wrong_use_is_an_error():
    arrays = (*scene(0).arguments()[:5], None)
    rest = ((500.0, 500.0, 320.0, 240.0), PRIOR, BOUNDS)
    outputs = (np.empty(3), np.empty(3), np.empty(21, np.bool_))
    register, constants = in_core.core.register, in_core.settings()
    assert register(constants, *arrays, *rest, *outputs) is not None
    frozen = np.empty(3)
    frozen.setflags(write=False)
    for bad in (
        (constants[:-1], *arrays, *rest, *outputs),
        (constants, *arrays, *rest, np.empty(2), *outputs[1:]),
        (constants, *arrays, *rest, *outputs[:2], np.empty(20, np.bool_)),
        (constants, *arrays, *rest, frozen, *outputs[1:]),
    ):
        with pytest.raises((ValueError, BufferError)):
            register(*bad)
    with pytest.raises(TypeError):
        register(constants, *arrays)


LEVEL = "terms.RAYLEIGH_MEDIAN robust.RAYLEIGH_MEDIAN extents.RAYLEIGH_MEDIAN"
CONSTANTS = {
    "checks.MAX_SPAN": 0.07,
    "checks.MAX_PIXEL": 300.0,
    "checks.MAX_SCORE": 0.9,
    "checks.MIN_SCORE": 0.6,
    "checks.MIN_JOINTS": 22,
    "checks.MIN_SPAN": 0.2,
    "constants.NEAR registrar.NEAR": 0.5,
    "constants.SPREADS registrar.SPREADS": 40.0,
    "constants.MIN_EXTENTS registrar.MIN_EXTENTS": 25,
    "constants.LITTLE registrar.LITTLE": 1e4 * np.eye(3),
    "constants.MESH_ERROR registrar.MESH_ERROR": 3.0,
    "constants.MESH_SHIFT registrar.MESH_SHIFT": 3.0,
    "constants.EDGE registrar.EDGE": 10.0,
    "constants.LEAST_HAND_PX registrar.LEAST_HAND_PX": 3000.0,
    "constants.ROUNDS_2D registrar.ROUNDS_2D": 1,
    "constants.ROUNDS_BOTH registrar.ROUNDS_BOTH": 4,
    "constants.SETTLED registrar.SETTLED": 1e9,
    "problem.LIFT": 0.1,
    "extents.CUT_TOLERANCE_PX": 30.0,
    "extents.SAMPLES": 7,
    "robust.INLIER_LIMIT": 1.5,
    LEVEL: 2.0,
    "blend.FLOOR": 1e4 * np.eye(3),
    "terms.LEAST_LEVEL": 0.1,
    "terms.EXPECTED_LEVEL": 0.1,
    "terms.TRUST": 10.0,
    "terms.LEAST_SQUARE": 10.0,
    "terms.LEVERS": np.array([0.5, 2.0, 3.0, 8.0, 100.0])[:, None],
    "terms.EXTENT_LIMIT": 0.5,
    "terms.EXTENTS_EACH": 2.0,
    "terms.DILATION": 0.1,
    "terms.LEVEL_DILATION": 3.0,
    "terms.JITTER_DILATION": 10.0,
    "terms.NORMAL_MEDIAN": 0.2,
    "terms.UNKNOWNS": 60.0,
    "terms.LITTLE": 1e5 * np.eye(3),
}


def marked_scenes():
    for seed in range(6):
        s = jagged(scene(seed, noise=3, outliers=2, distance=0.15 + 0.2 * seed), seed)
        scores = np.random.default_rng(seed).uniform(0.5, 1.0, 21)
        yield replace(s, scores=scores).arguments(), s.silhouette[:, 1] > np.quantile(s.silhouette[:, 1], 0.9)


@pytest.mark.parametrize("names", CONSTANTS)
def test_a_constant_stands_in_one_place(names, monkeypatch):
    """Another value of a constant of the Python modules changes both alike, and does change them."""
    before = [by_core(arguments, cut) for arguments, cut in marked_scenes()]
    for name in names.split():
        monkeypatch.setattr(f"cmr_runtime.registration.{name}", CONSTANTS[names])
    if names == "robust.INLIER_LIMIT":  # it is the default of an argument, too
        from cmr_runtime.registration import robust

        monkeypatch.setattr(robust.robust_weights, "__defaults__", (CONSTANTS[names],))
    changed = 0
    for (arguments, cut), old in zip(marked_scenes(), before, strict=True):
        ours = assert_agree(arguments, cut, relative=1e-8)
        if ours is None or old is None:
            changed += ours is not old
            continue
        pairs = [(np.asarray(getattr(ours, name)), np.asarray(getattr(old, name))) for name in (*NUMBERS, "inliers")]
        changed += ours.bounds_active != old.bounds_active
        changed += any(not np.allclose(a, b, rtol=1e-6, atol=0, equal_nan=True) for a, b in pairs)
    assert changed


def test_every_constant_is_covered():
    """As many as `settings` holds: those above, the levers' five and the 24 directions."""
    assert in_core.settings().size == len(CONSTANTS) - 1 + 5 + 48
