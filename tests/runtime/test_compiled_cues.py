# SPDX-License-Identifier: Apache-2.0
"""The compiled core against NumPy and OpenCV: heat maps, outlines and their cut parts."""

import cv2
import numpy as np
import pytest
from both_ways import Untouchable, both

from cmr_runtime import heatmaps, roi, silhouette
from cmr_runtime.compiled import core
from cmr_runtime.roi import Roi

pytestmark = pytest.mark.skipif(core is None, reason="the compiled core was not built")

S = 160


def peaks(rng: np.random.Generator, rows: int, columns: int, sigma: float, count: int = 21) -> np.ndarray:
    """Maps with a Gaussian each, some of them cut by the border."""
    y, x = np.mgrid[:rows, :columns]
    cx, cy = rng.uniform(-0.5, columns - 0.5, (count, 1, 1)), rng.uniform(-0.5, rows - 0.5, (count, 1, 1))
    height = rng.uniform(0.1, 1.0, (count, 1, 1))
    return (height * np.exp(-0.5 * ((x - cx) ** 2 + (y - cy) ** 2) / sigma**2)).astype(np.float32)


def done(maps: np.ndarray) -> bool:
    """Whether the core decodes maps, rather than leave them to NumPy."""
    count = len(maps)
    return core.decode_heatmaps(maps, *maps.shape, S, 0.5, np.empty((count, 2)), np.empty(count))


@pytest.mark.parametrize("seed", range(40))
def test_peaks_are_numpys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(3, 70, 2)
    maps = peaks(rng, rows, columns, rng.uniform(0.8, 3.0))
    if seed % 2:
        maps += rng.normal(0, 0.02, maps.shape).astype(np.float32)
    assert done(maps)
    centre = rng.uniform(0, 1)
    (points, scores), (expected, heights) = both(heatmaps, lambda: heatmaps.decode(maps, S, centre))
    assert points.dtype == scores.dtype == np.float64
    np.testing.assert_allclose(points, expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(scores, heights)


def ties() -> np.ndarray:
    maps = np.zeros((6, 24, 24), np.float32)
    maps[0, [5, 5, 20], [7, 15, 1]] = 0.75  # the first counts
    maps[1, 10:12, 20:22] = 0.5
    maps[2] = 1.0
    maps[3, -1, -1] = maps[3, 0, 0] = 0.25
    maps[4, 23, 5:] = -1.0  # the largest cell is 0
    maps[5, 7, 3], maps[5, 2, 9] = 7.0, -3.0  # no probabilities
    return maps


@pytest.mark.parametrize(
    "maps",
    [
        ties(),
        *(np.full((2, rows, columns), 0.5, np.float32) for rows, columns in ((1, 1), (1, 9), (9, 1), (2, 2))),
        np.random.default_rng(0).random((21, 2, 33), np.float32),
        np.random.default_rng(1).normal(0, 5, (21, 40, 40)).astype(np.float32),
        np.float32(1e-30) * np.random.default_rng(2).random((4, 16, 16), np.float32),
        np.where(np.random.default_rng(3).random((21, 16, 16)) < 0.1, np.float32(0.5), np.float32(0.0)),
    ],
)
def test_peaks_of_odd_maps_are_numpys(maps: np.ndarray) -> None:
    assert done(maps)
    (points, scores), (expected, heights) = both(heatmaps, lambda: heatmaps.decode(maps, S))
    # So few cells tell of some of these peaks that rounding moves them a little.
    np.testing.assert_allclose(points, expected, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(scores, heights)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (7, 9), (15, 15)])
def test_cells_that_are_not_finite_are_left_to_numpy(value: float, place: tuple[int, int]) -> None:
    maps = peaks(np.random.default_rng(0), 16, 16, 1.5, 3)
    maps[1][place] = value
    assert not done(maps)
    with np.errstate(all="ignore"):
        (points, scores), (expected, heights) = both(heatmaps, lambda: heatmaps.decode(maps, S))
    np.testing.assert_array_equal(points, expected)
    np.testing.assert_array_equal(scores, heights)


def test_other_arrays_of_maps_are_left_to_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = peaks(np.random.default_rng(0), 16, 12, 1.5)
    expected = heatmaps.decode(maps, S)
    monkeypatch.setattr(heatmaps, "core", Untouchable())
    with pytest.raises(AssertionError, match="decode_heatmaps"):
        heatmaps.decode(maps, S)
    for other in (maps.astype(np.float64), np.asfortranarray(maps), maps.astype(">f4")):
        for found, wanted in zip(heatmaps.decode(other, S), expected, strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("shape", [(0, 8, 8), (2, 0, 8), (2, 8, 0)])
def test_no_cells_are_left_to_numpy(shape: tuple[int, int, int]) -> None:
    assert not done(np.empty(shape, np.float32))
    with pytest.raises(ValueError, match=r"empty|size 0"):
        heatmaps.decode(np.empty(shape, np.float32), S)


def region(rng: np.random.Generator, side: int) -> np.ndarray:
    """A map with a bumpy region or several, which may go over its border."""
    y, x = np.mgrid[:side, :side]
    far = np.full((side, side), -np.inf)
    for _ in range(rng.integers(1, 6)):
        cx, cy = rng.uniform(-0.1 * side, 1.1 * side, 2)
        far = np.maximum(far, rng.uniform(0.1, 0.4) * side - np.hypot(x - cx, y - cy))
    logits = far / rng.uniform(0.2, 3.0) + rng.normal(0, 0.3, far.shape)
    return (1.0 / (1.0 + np.exp(-np.clip(logits, -50, 50)))).astype(np.float32)


@pytest.mark.parametrize("seed", range(40))
def test_outlines_are_numpys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    side = int(rng.integers(6, 90))
    maps = region(rng, side)
    found, expected = both(silhouette, lambda: silhouette.contour(maps, S))
    assert (found is None) == (expected is None)
    if expected is not None:
        assert found.dtype == np.float32
        # Doubled maps differ in their last bit; where they are flat, a step along the gradient makes more of it.
        np.testing.assert_allclose(found, expected, rtol=0, atol=3e-3)
        assert np.median(abs(found - expected)) < 1e-5


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outlines_beside_cells_that_are_not_finite_are_numpys(value: float) -> None:
    maps = region(np.random.default_rng(0), 40)
    maps[::7, ::5] = value
    with np.errstate(all="ignore"):
        found, expected = both(silhouette, lambda: silhouette.contour(maps, S))
    assert not np.isfinite(expected).all()
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4)


def test_the_whole_map_and_a_map_of_one_cell() -> None:
    for maps, scale in ((np.ones((20, 20)), S), (np.ones((4, 4), np.float32), 8), (np.ones((1, 1)), S)):
        found, expected = both(silhouette, lambda maps=maps, scale=scale: silhouette.contour(maps, scale))
        assert (found is None) == (expected is None)
        if expected is not None:
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("seed", range(90))
def test_outlines_in_noise_are_opencvs(seed: int) -> None:
    """Many regions, within each other, with holes, and no wider than a cell or two."""
    rng = np.random.default_rng(seed)
    side, blur = int(rng.integers(3, 60)), (0.0, 0.7, 1.5)[seed % 3]
    noise = rng.normal(0, 1, (side, side)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), blur) if blur else noise
    maps = 0.3 * noise / noise.std() + np.float32(rng.uniform(0.2, 0.8))
    maps = (maps > 0.5).astype(np.float32) if seed % 2 else maps
    found, expected = both(silhouette, lambda: silhouette.contour(maps, S))
    assert (found is None) == (expected is None)
    if expected is not None:
        assert len(found) == len(expected)
        assert np.quantile(abs(found - expected), 0.99) < 1e-2  # see above
        assert np.median(abs(found - expected)) < 1e-5


def test_an_outline_of_very_many_points_is_left_to_opencv() -> None:
    maps = np.zeros((64, 64), np.float32)
    maps[::2], maps[:, 0] = 1.0, 1.0  # a comb
    assert core.outline(maps, 64, 0.5, 1.0, 8, 1.0, np.empty((100, 2), np.float32)) == -1
    found, expected = both(silhouette, lambda: silhouette.contour(maps, S))
    assert len(expected) > 16 * 128
    np.testing.assert_array_equal(found, expected)


def test_small_regions_have_no_outline() -> None:
    maps, outline = np.zeros((20, 20), np.float32), np.empty((200, 2), np.float32)
    maps[5:8, 5:9] = 1.0
    count = core.outline(maps, 20, 0.5, 1.0, 8, 10.0, outline)
    assert count > 8
    # Half a cell around the middles of 3 x 4 of them, in a crop as large as the doubled map: less its corners.
    x, y = outline[:count].astype(np.float64).T
    area = 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))
    assert area == pytest.approx(48, rel=0.06)
    assert core.outline(maps, 20, 0.5, 1.0, count + 1, 10.0, outline) == 0
    assert core.outline(maps, 20, 0.5, 1.0, 8, 49.0, outline) == 0
    assert core.outline(0 * maps, 20, 0.5, 1.0, 8, 0.0, outline) == 0


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("mirrored", [False, True])
def test_points_of_a_crop_are_taken_to_the_image_as_numpy_takes_them(kind: type, mirrored: bool) -> None:
    points = np.random.default_rng(0).uniform(-50, 300, (30, 2)).astype(kind)
    region = Roi(812.3, -45.1, 377.7, 2.4, mirrored)
    found, expected = both(roi, lambda: region.to_image(points, S))
    assert found.dtype == expected.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-9)
    for odd in (points[::2], points.tolist(), points[:0], points[0]):  # some of which NumPy does
        found, expected = both(roi, lambda odd=odd: region.to_image(odd, S))
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_marks_are_numpys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = (1, 2, 300)[seed % 3]
    spread = (1.0, 0.9, 1.1)[seed % 3]
    # Quarters of pixels, so that some points lie on the very limit.
    in_crop = np.rint(4 * rng.uniform(80 - 80 * spread, 80 + 80 * spread, (count, 2))).astype(np.float32) / 4
    in_image = np.rint(4 * rng.uniform(-10, (650, 490), (count, 2))).astype(np.float32) / 4
    found, expected = both(silhouette, lambda: silhouette.cut(in_crop, in_image, S, 640, 480))
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, expected)


def test_marks_tell_every_border() -> None:
    middle = np.full((9, 2), 80.0, np.float32)
    ends = middle.copy()
    for i, (axis, value) in enumerate([(0, 0.9), (0, 1.0), (1, 0.9), (1, 1.0), (0, 158.1), (0, 158.0), (1, 158.1)]):
        ends[i, axis] = value
    wanted = [True, False, True, False, True, False, True, False, False]
    for found in both(silhouette, lambda: silhouette.cut(ends, middle, S, 640, 480)):
        np.testing.assert_array_equal(found, wanted)
    for found in both(silhouette, lambda: silhouette.cut(middle, ends, 640, S, S)):
        np.testing.assert_array_equal(found, wanted)


def test_other_arrays_of_points_are_left_to_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).uniform(-2, S + 2, (50, 2)).astype(np.float32)
    expected = silhouette.cut(points, points, S, S, S)
    assert expected.any()
    assert not expected.all()
    monkeypatch.setattr(silhouette, "core", Untouchable())
    with pytest.raises(AssertionError, match="cut"):
        silhouette.cut(points, points, S, S, S)
    twice = np.repeat(points, 2, axis=0)[::2]
    for other in (points.astype(np.float64), np.asfortranarray(points), twice):
        np.testing.assert_array_equal(silhouette.cut(points, other, S, S, S), expected)
        np.testing.assert_array_equal(silhouette.cut(other, points, S, S, S), expected)


def test_buffers_of_the_wrong_size_are_refused() -> None:
    maps, points = np.zeros((2, 4, 4), np.float32), np.zeros((3, 2), np.float32)
    with pytest.raises(ValueError, match="needs 64 "):
        core.decode_heatmaps(maps, 4, 4, 4, S, 0.5, np.empty((4, 2)), np.empty(4))
    with pytest.raises(ValueError, match="needs 2 "):
        core.decode_heatmaps(maps, 2, 4, 4, S, 0.5, np.empty((2, 2)), np.empty(3))
    with pytest.raises(ValueError, match="needs 6 "):
        core.cut(points, points[:2], S, S, S, 1.5, np.zeros(3, np.bool_))
    with pytest.raises(ValueError, match="needs 25 "):
        core.outline(maps[0], 5, 0.5, 1.0, 8, 1.0, np.empty((9, 2), np.float32))
    for cells in (0, -1, 2**40):
        with pytest.raises(ValueError, match="cells"):
            core.outline(maps[0], cells, 0.5, 1.0, 8, 1.0, np.empty((9, 2), np.float32))
    with pytest.raises(ValueError, match="of f"):
        core.outline(maps[0], 4, 0.5, 1.0, 8, 1.0, np.empty((9, 2)))
    with pytest.raises(ValueError, match="needs 6 "):
        core.map_points(points[:2], (1, 0, 0, 1, 0, 0), np.empty((3, 2)))
    scores = np.empty(2)
    scores.setflags(write=False)
    with pytest.raises((ValueError, BufferError)):
        core.decode_heatmaps(maps, 2, 4, 4, S, 0.5, np.empty((2, 2)), scores)
