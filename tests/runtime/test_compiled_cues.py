# SPDX-License-Identifier: Apache-2.0
"""The compiled core against NumPy and OpenCV: heat maps, outlines and their cut parts."""

import dataclasses

import cv2
import numpy as np
import pytest
from both_ways import Untouchable, both

from cmr_runtime import cues, heatmaps, roi
from cmr_runtime.compiled import core
from cmr_runtime.cues import Cues
from cmr_runtime.network import MeshOutput, PriorOutput
from cmr_runtime.roi import Roi
from cmr_runtime.view import View

pytestmark = pytest.mark.skipif(core is None, reason="the compiled core was not built")

S = 160
#: A crop as large as its region, whose pixels are the image's.
WHOLE = Roi(79.5, 79.5, 160.0)
MAPS = np.zeros((2, 4, 4), np.float32)


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


def looked(roi: Roi = WHOLE, size: int = S) -> View:
    """A look at a region that tells nothing."""
    return View(roi, PriorOutput(), size, 0.0, 0.0, 0.5)


def read(silhouette: np.ndarray, view: View, width: int = 640, height: int = 480) -> Cues:
    return cues.read_cues(MeshOutput(np.empty((0, 3)), MAPS, silhouette), view, 0.5, width, height)


def outlines(silhouette: np.ndarray, left: bool = False) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The core's outline and NumPy's of a silhouette, in a crop as it is; marks are alike. Is it `left` to NumPy?"""
    assert (cues._in_core(MAPS, silhouette, S, 0.5, WHOLE, 640, 480) is None) == left
    found, expected = both(cues, lambda: read(silhouette, looked()))
    assert (found.outline is None) == (expected.outline is None)
    if expected.outline is None:
        assert found.marks is expected.marks is None
    else:
        assert found.outline.dtype == np.float32
        assert found.outline.shape == expected.outline.shape
        np.testing.assert_array_equal(found.marks, expected.marks)
    return found.outline, expected.outline


@pytest.mark.parametrize("seed", range(40))
def test_outlines_are_numpys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found, expected = outlines(region(rng, int(rng.integers(6, 90))))
    if expected is not None:
        # Doubled maps differ in their last bit; where they are flat, a step along the gradient makes more of it.
        np.testing.assert_allclose(found, expected, rtol=0, atol=3e-3)
        assert np.median(abs(found - expected)) < 1e-5


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outlines_beside_cells_that_are_not_finite_are_opencvs(value: float) -> None:
    maps = region(np.random.default_rng(0), 40)
    maps[::7, ::5] = value
    with np.errstate(all="ignore"):
        found, expected = outlines(maps, left=True)
    assert not np.isfinite(expected).all()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("side", [1, 2, 4, 20])
def test_the_outline_of_a_whole_map(side: int) -> None:
    found, expected = outlines(np.ones((side, side), np.float32))
    assert (expected is None) == (side < 2)
    if expected is not None:
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(90))
def test_outlines_in_noise_are_opencvs(seed: int) -> None:
    """Many regions, within each other, with holes, and no wider than a cell or two."""
    rng = np.random.default_rng(seed)
    side, blur = int(rng.integers(3, 60)), (0.0, 0.7, 1.5)[seed % 3]
    noise = rng.normal(0, 1, (side, side)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), blur) if blur else noise
    maps = 0.3 * noise / noise.std() + np.float32(rng.uniform(0.2, 0.8))
    maps = (maps > 0.5).astype(np.float32) if seed % 2 else maps
    found, expected = outlines(maps, left=seed == 66)  # of which the outline is longest
    if expected is not None:
        assert np.quantile(abs(found - expected), 0.99) < 1e-2  # see above
        assert np.median(abs(found - expected)) < 1e-5


def test_an_outline_of_very_many_points_is_left_to_opencv() -> None:
    comb = np.zeros((64, 64), np.float32)
    comb[::2], comb[:, 0] = 1.0, 1.0
    found, expected = outlines(comb, left=True)
    assert len(expected) > 32 * 64
    np.testing.assert_array_equal(found, expected)


def test_a_border_that_passes_its_first_cell_twice_goes_on() -> None:
    """At the top two squares touch in a corner of the doubled map, where tracing begins."""
    maps = np.zeros((12, 12), np.float32)
    maps[2, 5:8], maps[3, 5:8] = (0.3, 0.6, 0.18), (0.7, 0.4, 0.82)
    maps[4:9, 2:6] = maps[4:9, 7:11] = 1.0
    found, expected = outlines(maps)
    assert len(found) == len(expected) == 73


def test_of_regions_as_large_opencvs_is_taken() -> None:
    for turned in (False, True):
        maps = np.zeros((20, 20), np.float32)
        maps[2:6, 2:8] = maps[10:16, 10:14] = 1.0
        found, expected = outlines(maps.T.copy() if turned else maps)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_a_cell_alone_has_an_outline_of_one_point() -> None:
    maps = np.zeros((9, 9), np.float32)
    maps[4, 4], maps[4, 5], maps[5, 4] = 0.8, 0.2, 0.2
    made = np.empty((2, 2)), np.empty(2), np.empty((9, 2), np.float32), np.empty(9, np.bool_)
    limits = (0.5, 1, 0.0, 1.5)
    assert core.cues(MAPS, 2, 4, 4, maps, 9, S, 0.5, WHOLE.affine(S), (640, 480), limits, *made) == 1


def test_the_outline_lies_around_the_region() -> None:
    maps = np.zeros((20, 20), np.float32)
    maps[5:8, 5:9] = 1.0
    outline = read(maps, looked(Roi(19.5, 19.5, 40.0), 40)).outline
    # Half a cell around the middles of 3 x 4 of them, in a crop as large as the doubled map: less its corners.
    x, y = outline.astype(np.float64).T
    assert 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) == pytest.approx(48, rel=0.06)
    assert (x.min(), x.max(), y.min(), y.max()) == pytest.approx((9.5, 17.5, 9.5, 15.5), abs=0.2)


def test_small_regions_and_none_have_no_outline() -> None:
    maps = np.zeros((40, 40), np.float32)
    assert outlines(maps) == (None, None)
    maps[20, 20] = 1.0  # 4 of 6,400 cells
    assert outlines(maps) == (None, None)
    maps[18:24, 18:24] = 1.0
    assert outlines(maps)[0] is not None


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


@pytest.mark.parametrize("seed", range(40))
def test_cues_in_the_image_are_numpys(seed: int) -> None:
    """With marks of what the borders of crop and image cut."""
    rng = np.random.default_rng(seed)
    side, maps = int(rng.integers(8, 60)), peaks(rng, 20, 20, 1.5)
    roi = Roi(*rng.uniform(0, 300, 2).tolist(), rng.uniform(20, 500), rng.uniform(-4, 4), bool(seed % 2))
    output, view = MeshOutput(np.empty((0, 3)), maps, region(rng, side)), looked(roi)
    found, expected = both(cues, lambda: cues.read_cues(output, view, 0.25, 320, 240))
    np.testing.assert_allclose(found.keypoints, expected.keypoints, rtol=0, atol=1e-6 * roi.size)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-12)
    if expected.outline is not None:
        assert np.median(abs(found.outline - expected.outline)) < 1e-6 * roi.size
        np.testing.assert_array_equal(found.marks, expected.marks)


def test_marks_tell_every_border() -> None:
    maps = np.zeros((40, 40), np.float32)
    maps[10:30, 10:30] = 1.0
    inside = Roi(320.0, 240.0, 100.0)
    for which in both(cues, lambda: read(maps, looked(inside))):
        assert not which.marks.any()
    # Of 160 points along the region's sides, those of one side: where the image's border lies beside them.
    for at in ({"cx": 24.5}, {"cx": 614.5}, {"cy": 24.5}, {"cy": 454.5}):
        for which in both(cues, lambda at=at: read(maps, looked(dataclasses.replace(inside, **at)))):
            assert 38 <= which.marks.sum() <= 44, at
    maps[:, 20:] = 1.0
    for which in both(cues, lambda: read(maps, looked(inside))):
        right = which.outline[:, 0] > 320 + 49
        assert which.marks[right].all()
        assert which.marks.sum() > right.sum() > 60  # and where the region goes on above and below


def test_other_arrays_are_left_to_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, silhouette = peaks(np.random.default_rng(0), 20, 20, 1.5), region(np.random.default_rng(1), 30)
    view = looked()

    def keypoints(maps: np.ndarray | None, silhouette: np.ndarray | None) -> np.ndarray:
        return cues.read_cues(MeshOutput(np.empty((0, 3)), maps, silhouette), view, 0.5, 640, 480).keypoints

    expected = keypoints(maps, silhouette)
    monkeypatch.setattr(cues, "core", Untouchable())
    with pytest.raises(AssertionError, match="cues"):
        keypoints(maps, silhouette)
    for other, outlined in (
        (maps.astype(np.float64), silhouette),
        (maps, silhouette.astype(np.float64)),
        (np.asfortranarray(maps), silhouette),
        (maps, np.repeat(silhouette, 2, axis=0)[::2]),
        (maps, None),
    ):
        np.testing.assert_allclose(keypoints(other, outlined), expected, rtol=0, atol=1e-6)
    assert keypoints(None, silhouette).shape == (0, 2)  # the look gives none


def test_buffers_of_the_wrong_size_are_refused() -> None:
    maps, points = np.zeros((2, 4, 4), np.float32), np.zeros((3, 2), np.float32)
    with pytest.raises(ValueError, match="needs 64 "):
        core.decode_heatmaps(maps, 4, 4, 4, S, 0.5, np.empty((4, 2)), np.empty(4))
    with pytest.raises(ValueError, match="needs 2 "):
        core.decode_heatmaps(maps, 2, 4, 4, S, 0.5, np.empty((2, 2)), np.empty(3))
    with pytest.raises(ValueError, match="needs 6 "):
        core.map_points(points[:2], (1, 0, 0, 1, 0, 0), np.empty((3, 2)))
    scores = np.empty(2)
    scores.setflags(write=False)
    with pytest.raises((ValueError, BufferError)):
        core.decode_heatmaps(maps, 2, 4, 4, S, 0.5, np.empty((2, 2)), scores)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 3}, "needs 48 "),
        ({"cells": 5}, "needs 25 "),
        ({"cells": 0}, "cells"),
        ({"cells": -1}, "cells"),
        ({"cells": 2**40}, "cells"),
        ({"keypoints": np.empty((3, 2))}, "needs 4 "),
        ({"scores": np.empty(3)}, "needs 2 "),
        ({"outline": np.empty((9, 2))}, "of f"),
        ({"outline": np.empty((8, 2), np.float32)}, "needs 18 "),
        ({"marks": np.empty(8, np.bool_)}, "needs 16 "),
        ({"marks": np.empty(9, np.uint8)}, r"of \?"),
    ],
)
def test_cues_into_other_buffers_are_refused(changes: dict, message: str) -> None:
    silhouette = np.zeros((4, 4), np.float32)
    given = {
        "maps": np.zeros((2, 4, 4), np.float32),
        "count": 2,
        "rows": 4,
        "columns": 4,
        "map": silhouette,
        "cells": 4,
    }
    given |= {
        "side": S,
        "cell_centre": 0.5,
        "affine": WHOLE.affine(S),
        "image": (640, 480),
        "limits": (0.5, 8, 0.0, 1.5),
    }
    given |= {"keypoints": np.empty((2, 2)), "scores": np.empty(2)}
    given |= {"outline": np.empty((9, 2), np.float32), "marks": np.empty(9, np.bool_)}
    assert core.cues(*given.values()) == 0
    with pytest.raises(ValueError, match=message):
        core.cues(*(given | changes).values())


def test_an_outline_needs_room_for_all_its_points() -> None:
    maps, silhouette = np.zeros((2, 4, 4), np.float32), np.ones((4, 4), np.float32)
    for most in (0, 1, 27, 28, 29):
        made = np.empty((2, 2)), np.empty(2), np.empty((most, 2), np.float32), np.empty(most, np.bool_)
        found = core.cues(maps, 2, 4, 4, silhouette, 4, 8, 0.5, WHOLE.affine(8), (640, 480), (0.5, 8, 0.0, 1.5), *made)
        assert found == (28 if most >= 28 else -1)
