# SPDX-License-Identifier: Apache-2.0
"""Samples of batches: labels move with the pixels, photos are drawn evenly, folders follow one another."""

import pickle
from dataclasses import replace

import cv2
import numpy as np
import pytest
from fake_data import DEPTH, FOCAL, centroid, draw_dot, pinhole, write_renderings

from cmr_models.batches import PHOTO_SIDE, Mix, Photos, Renderings, tracked
from cmr_models.hand import load_hand
from cmr_models.recut import recut, rotate_z, warp
from cmr_runtime import Camera
from cmr_runtime.roi import Roi

SIZE = 96  # of the fixture `folder`
PLAIN = Mix(tracked=0.0, zoomed=0.0, mirrored=0.0, softened=0.0)
ALWAYS = replace(PLAIN, zoomed=1.0)
TRACKED = replace(PLAIN, tracked=1.0)


def with_dot(folder, joint: int) -> Renderings:
    """Renderings whose only picture is an opaque dot at one joint."""
    renderings = Renderings(folder)
    black = np.zeros((SIZE, SIZE, 3), np.uint8)
    dots = [draw_dot(black, k[joint], peak=255) for k in renderings.folders[0].keypoints]
    dotted = np.stack([np.dstack([np.full_like(d, 255), d[..., :1]]) for d in dots])  # white, dot in alpha
    renderings.folders[0] = renderings.folders[0]._replace(rgba=dotted)
    return renderings


# Geometry


def test_warp_turns_about_the_point_and_moves_it_to_the_middle():
    matrix = warp(101, 0.0, 2.0, np.array([30.0, 40.0]), np.array([3.0, -4.0]))
    move = lambda p: matrix[:, :2] @ p + matrix[:, 2]  # noqa: E731
    np.testing.assert_allclose(move(np.array([30.0, 40.0])), [53, 46])
    np.testing.assert_allclose(move(np.array([31.0, 40.0])), [55, 46])
    quarter = warp(101, np.pi / 2, 1.0, np.array([30.0, 40.0]), np.zeros(2))
    np.testing.assert_allclose(quarter[:, :2] @ [31, 40] + quarter[:, 2], [50, 51])  # +x turns to +y, down


@pytest.mark.parametrize("angle", [-2.0, 0.3, 1.1])
def test_a_turn_about_the_optical_axis_turns_the_image(angle):
    points = np.random.default_rng(0).uniform(-0.1, 0.1, (30, 3))
    root = np.array([0.02, -0.01, DEPTH])
    matrix = warp(SIZE, angle, 1.0, np.full(2, (SIZE - 1) / 2), np.zeros(2))
    seen = pinhole(points, root, SIZE) @ matrix[:, :2].T + matrix[:, 2]
    turned = pinhole(rotate_z(points, angle), rotate_z(root[None], angle)[0], SIZE)
    np.testing.assert_allclose(turned, seen, atol=1e-9)


@pytest.mark.parametrize("angle", [-2.5, 0.0, 0.7])
def test_a_crop_as_the_tracker_cuts_it_has_the_hand_upright_in_its_middle(angle):
    points = np.random.default_rng(0).uniform(20, 60, (21, 2))
    points[[0, 9]] = [[40, 60], [40, 25]]  # from the wrist to the knuckle: up
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    mix = replace(TRACKED, lean=0.0, off=0.0, side=(1.5, 1.5))
    matrix = tracked(points @ turn.T, mix, SIZE, np.random.default_rng(1))
    moved = points @ turn.T @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(moved[9, 0], moved[0, 0])
    assert moved[9, 1] < moved[0, 1]
    np.testing.assert_allclose(np.ptp(moved, axis=0).max(), SIZE / 1.5)
    np.testing.assert_allclose((moved.min(0) + moved.max(0)) / 2, (SIZE - 1) / 2)


def test_a_tracked_hand_leans_and_lies_a_little_off(folder):
    points, random = Renderings(folder).folders[0].keypoints[0].astype(float), np.random.default_rng(0)
    moved = np.stack([points @ (m := tracked(points, TRACKED, SIZE, random))[:, :2].T + m[:, 2] for _ in range(400)])
    across, down = (moved[:, 9] - moved[:, 0]).T
    lean = np.arctan2(across, -down)
    assert lean.std() == pytest.approx(TRACKED.lean, rel=0.15)
    off = (moved.min(1) + moved.max(1) - (SIZE - 1)) / 2 / SIZE
    assert 0.8 * TRACKED.off < np.abs(off).max() <= TRACKED.off + 0.02  # the box of a leaning hand is another
    extent = SIZE / np.ptp(moved, axis=1).max(1)
    assert 1.1 < extent.min() < 1.45 < 1.6 < extent.max() < 2.0


@pytest.mark.parametrize("mix", [PLAIN, ALWAYS, TRACKED], ids=["still", "moved", "tracked"])
@pytest.mark.parametrize("joint", [0, 9, 12])
def test_a_dot_painted_at_a_rendered_joint_lands_on_its_keypoint(folder, mix, joint):
    renderings, background = with_dot(folder, joint), np.zeros((SIZE, SIZE, 3), np.uint8)
    seen = 0
    for seed in range(12):
        sample = renderings.sample(seed % 6, background, mix, np.random.default_rng(seed))
        at = sample.keypoints[joint]
        if at.min() < 8 or at.max() > SIZE - 9:
            continue
        seen += 1
        assert np.abs(centroid(sample.image[..., 0], at) - at).max() < 0.15
    assert seen >= 6


def test_another_size_of_input_scales_image_and_labels(folder):
    renderings, size = with_dot(folder, 9), 160
    sample = renderings.sample(0, np.zeros((size, size, 3), np.uint8), ALWAYS, np.random.default_rng(3))
    assert sample.image.shape == (size, size, 3)
    assert sample.silhouette.shape == (size, size)
    at = sample.keypoints[9]
    assert np.abs(centroid(sample.image[..., 0], at) - at).max() < 0.15


def test_another_size_of_input_moves_nothing_by_itself(folder):
    """What shall stay as it was baked is only resized: the same part of the picture, the same mesh."""
    renderings, size = Renderings(folder), 160
    blank = np.zeros((size, size, 3), np.uint8)
    still = renderings.sample(1, blank[:SIZE, :SIZE], PLAIN, np.random.default_rng(3))
    larger = renderings.sample(1, blank, PLAIN, np.random.default_rng(3))
    np.testing.assert_allclose((larger.keypoints + 0.5) / size, (still.keypoints + 0.5) / SIZE, atol=1e-5)
    np.testing.assert_allclose(larger.vertices, still.vertices, atol=1e-7)
    assert larger.focal / size == pytest.approx(still.focal / SIZE)


@pytest.mark.parametrize("mix", [ALWAYS, TRACKED], ids=["moved", "tracked"])
@pytest.mark.parametrize("seed", range(6))
def test_a_moved_rendering_has_the_mesh_that_the_runtime_turns_back(folder, seed, mix):
    """The crop's place in the old picture, found from the keypoints alone, takes the mesh back to the old camera."""
    renderings = Renderings(folder)
    sample = renderings.sample(seed, np.zeros((SIZE, SIZE, 3), np.uint8), mix, np.random.default_rng(seed))
    new, old = (np.asarray(p, np.float64) @ [1, 1j] for p in (sample.keypoints, renderings.folders[0].keypoints[seed]))
    (turn, shift), *_ = np.linalg.lstsq(np.stack([new, np.ones(21)], 1), old, rcond=None)
    middle = (SIZE - 1) / 2
    centre = turn * (middle + 1j * middle) + shift
    roi = Roi(centre.real, centre.imag, SIZE * abs(turn), float(np.angle(turn)))
    assert np.hypot(roi.cx - middle, roi.cy - middle) > 0.5
    camera = Camera(FOCAL * SIZE, FOCAL * SIZE, middle, middle, SIZE, SIZE)
    back = roi.to_camera(sample.vertices, camera)
    np.testing.assert_allclose(back, renderings.folders[0].vertices[seed].astype(np.float64), atol=2e-6)


@pytest.mark.parametrize("seed", range(1, 6))  # no crop of these cuts the hand
def test_a_moved_rendering_keeps_mesh_keypoints_and_outline_together(folder, seed):
    """The outline in the picture has the proportions of the turned mesh."""
    renderings = Renderings(folder)
    sample = renderings.sample(seed, np.zeros((SIZE, SIZE, 3), np.uint8), ALWAYS, np.random.default_rng(seed))
    still = renderings.folders[0].vertices[seed].astype(np.float32)
    assert np.abs(sample.vertices - still).max() > 1e-3
    hull = pinhole(sample.vertices, np.array([0, 0, DEPTH]), SIZE)
    x, y = np.nonzero(sample.silhouette.T > 127)
    inside = np.stack([x, y], 1).astype(float)
    assert inside.min() > 0  # the crop does not cut it
    assert inside.max() < SIZE - 1
    extent = lambda p: (p.max(0) - p.min(0)) / np.ptp(p, axis=0).max()  # noqa: E731
    np.testing.assert_allclose(extent(inside), extent(hull), atol=0.06)


@pytest.mark.parametrize("seed", range(4))
def test_a_crop_of_a_crop_is_a_crop(folder, seed):
    """Cut twice, labels go where the camera of the second crop sees them: the mesh projects onto the joints."""
    renderings, black = Renderings(folder), np.zeros((SIZE, SIZE, 3), np.uint8)
    sample = renderings.sample(seed, black, ALWAYS, np.random.default_rng(seed))
    matrix = tracked(sample.keypoints, TRACKED, 128, np.random.default_rng(seed))
    vertices, keypoints = recut(sample.vertices, sample.keypoints, sample.focal, SIZE, matrix, 128)
    focal, joints = sample.focal * np.hypot(*matrix[:, 0]), load_hand().joint_regressor @ vertices.astype(np.float64)
    # Where the root lies is not given: it is solved for, from x z = f X + (x - c) ..., linear in its position.
    c, rows, right = 63.5, [], []
    for (x, y), joint in zip(keypoints.astype(float) - c, joints, strict=True):
        rows += [[focal, 0, -x], [0, focal, -y]]
        right += [x * joint[2] - focal * joint[0], y * joint[2] - focal * joint[1]]
    root, *_ = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)
    seen = focal * (joints + root)[:, :2] / (joints + root)[:, 2:] + c
    np.testing.assert_allclose(seen, keypoints, atol=0.3)  # a crop is flat, a turned camera sees it a little aslant
    assert root[2] == pytest.approx(DEPTH, rel=0.15)  # seen from as far away, but for the turn to its middle


def test_background_shows_around_the_hand_and_through_nothing_else(folder):
    renderings = Renderings(folder)
    background = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    sample = renderings.sample(0, background, PLAIN, np.random.default_rng(0))
    alpha = renderings.folders[0].rgba[0, ..., 3]
    np.testing.assert_array_equal(sample.image[alpha == 0], background[alpha == 0])
    np.testing.assert_array_equal(sample.image[alpha == 255], renderings.folders[0].rgba[0][alpha == 255][:, :3])
    np.testing.assert_array_equal(sample.silhouette, renderings.folders[0].outline[0])


def test_only_finished_chunks_are_used(tmp_path):
    folder = write_renderings(tmp_path, 40, 32, chunk=32)  # the second chunk holds 8
    np.save(folder / "done.npy", np.uint8([0, 1]))
    assert Renderings(folder).index[:, 1].tolist() == list(range(32, 40))
    np.save(folder / "done.npy", np.uint8([1, 0]))
    assert Renderings(folder).index[:, 1].tolist() == list(range(32))
    np.save(folder / "done.npy", np.uint8([1, 1]))
    assert len(Renderings(folder)) == 40
    kept, rest = Renderings(folder, last=5).index[:, 1], Renderings(folder, first=5).index[:, 1]
    assert not set(kept.tolist()) & set(rest.tolist())
    assert len(kept) + len(rest) == 40


def test_renderings_go_to_another_process_without_their_files(folder):
    renderings = Renderings(folder, first=1)
    sent = pickle.dumps(renderings)
    assert len(sent) < renderings.folders[0].rgba.nbytes / 10
    there = pickle.loads(sent)
    background = np.full((SIZE, SIZE, 3), 128, np.uint8)
    here, other = (each.sample(0, background, ALWAYS, np.random.default_rng(3)) for each in (renderings, there))
    assert len(there) == len(renderings)
    assert np.array_equal(here.image, other.image)
    assert np.array_equal(here.vertices, other.vertices)


def test_softening_blurs_the_hand_and_not_what_is_behind(folder):
    background = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    renderings = Renderings(folder)
    soft = replace(PLAIN, softened=1.0, soft=(1.0, 1.0))
    sharp, blurred = (renderings.sample(0, background, mix, np.random.default_rng(0)) for mix in (PLAIN, soft))
    alpha = renderings.folders[0].rgba[0, ..., 3]
    far = cv2.dilate(alpha, np.ones((15, 15), np.uint8)) == 0
    np.testing.assert_array_equal(blurred.image[far], background[far])
    inside = cv2.erode(alpha, np.ones((15, 15), np.uint8)) == 255
    assert np.abs(blurred.image[inside].astype(int) - sharp.image[inside]).max() <= 1  # even colour inside
    assert (blurred.image != sharp.image).any()
    np.testing.assert_array_equal(blurred.silhouette, sharp.silhouette)


def test_several_folders_follow_one_another_and_each_keeps_its_first_rows_back(tmp_path):
    folders = [write_renderings(tmp_path / name, count, 32) for name, count in (("a", 5), ("b", 4))]
    np.save(folders[1] / "keypoints.npy", np.load(folders[1] / "keypoints.npy") + 3)
    both, parts = Renderings(*folders, first=2), [Renderings(folder, first=2) for folder in folders]
    assert [len(both), *map(len, parts)] == [5, 3, 2]
    background = np.zeros((32, 32, 3), np.uint8)
    seen = lambda renderings, k: renderings.sample(k, background, PLAIN, np.random.default_rng(0)).keypoints  # noqa: E731
    for k in range(5):
        part, row = (parts[0], k) if k < 3 else (parts[1], k - 3)
        np.testing.assert_array_equal(seen(both, k), seen(part, row))
    assert np.abs(seen(both, 0) - seen(both, 3)).min() > 1


@pytest.mark.parametrize("mix", [PLAIN, ALWAYS, TRACKED], ids=["still", "moved", "tracked"])
def test_a_second_hand_changes_the_picture_and_the_silhouette_where_it_hides_but_no_other_label(folder, mix):
    renderings, background = Renderings(folder), np.full((SIZE, SIZE, 3), 200, np.uint8)
    changed, hidden = 0, 0
    for seed in range(30):
        alone, both = (renderings.sample(2, background, mix, np.random.default_rng(seed), k) for k in (None, 4))
        np.testing.assert_array_equal(both.keypoints, alone.keypoints)
        np.testing.assert_array_equal(both.vertices, alone.vertices)
        assert both.focal == alone.focal
        assert (both.silhouette <= alone.silhouette).all()
        lost = alone.silhouette.astype(int) - both.silhouette
        assert lost.sum() <= alone.silhouette.sum() / 3 + alone.silhouette.size / 2  # but for rounding
        changed += (both.image != alone.image).any()
        hidden += lost.any()
    assert changed > 15
    assert 0 < hidden < changed


def beside(folder, moved: float) -> tuple[np.ndarray, np.ndarray]:
    """Show a hand, moved to the right by so many pixels and cut there, before white; and where its picture ends."""
    renderings, random = Renderings(folder), np.random.default_rng(4)
    whole = renderings.folders[0]
    move = np.float32([[1, 0, moved], [0, 1, 0]])
    rgba, outline = (
        np.stack([cv2.warpAffine(image, move, (SIZE, SIZE)) for image in images])
        for images in (whole.rgba, whole.outline)
    )
    keypoints = whole.keypoints + np.float32([moved, 0])
    renderings.folders[0] = whole._replace(rgba=rgba, outline=outline, keypoints=keypoints)
    mix = replace(TRACKED, lean=0.0, off=0.0, side=(2.5, 2.5))
    sample = renderings.sample(0, np.full((SIZE, SIZE, 3), 255, np.uint8), mix, random)
    matrix = tracked(keypoints[0], mix, SIZE, np.random.default_rng(0))
    inside = cv2.warpAffine(np.ones((SIZE, SIZE), np.float32), matrix, (SIZE, SIZE))
    return sample.image, inside


def test_beyond_a_picture_that_cuts_the_hand_all_is_black(folder):
    image, inside = beside(folder, 40.0)
    assert 0.1 < (inside == 0).mean() < 0.9
    assert image[inside == 0].max() == 0
    assert image[inside == 1].max() == 255


def test_beyond_a_picture_that_holds_the_whole_hand_the_background_goes_on(folder):
    image, inside = beside(folder, 0.0)
    assert 0.1 < (inside == 0).mean() < 0.9
    assert image[inside == 0].min() == 255


def test_a_picture_is_not_aliased_where_it_is_shrunk(folder):
    renderings = Renderings(folder)
    stripes = np.zeros((1, SIZE, SIZE, 4), np.uint8)
    stripes[..., 3], stripes[:, :, ::3, :3] = 255, 255
    renderings.folders[0] = renderings.folders[0]._replace(rgba=np.repeat(stripes, len(renderings), 0))
    far = replace(ALWAYS, zoom=(0.37, 0.37), turn=0.0, shift=0.0)
    image = renderings.sample(0, np.zeros((SIZE, SIZE, 3), np.uint8), far, np.random.default_rng(0)).image
    middle = image[SIZE // 2 - 10 : SIZE // 2 + 10, SIZE // 2 - 10 : SIZE // 2 + 10, 0].astype(float)
    np.testing.assert_allclose(middle, 85, atol=12)  # a third of 255; without a blur between 0 and 255


# Photos


def test_collections_are_drawn_by_the_root_of_their_size_whatever_their_groups(photos, tmp_path):
    with np.load(photos) as data:
        content = dict(data)
    content["val"][:] = False
    content["group"] = np.array(["lab_a"] * 3 + ["lab_b"] * 5 + ["digits"] * 2 + ["rooms_x", "rooms_y"])
    np.savez(tmp_path / "real.npz", **content)
    chance = Photos(tmp_path / "real.npz").chance
    shares = np.array([chance[:8].sum(), chance[8:10].sum(), chance[10:].sum()])
    np.testing.assert_allclose(shares / shares[1], [2.0, 1.0, 1.0])  # 8, 2 and 2 hands
    assert chance[:8].std() == pytest.approx(0)


def test_folders_of_photos_are_collections_whatever_their_names(photos, tmp_path):
    with np.load(photos) as data:
        content = dict(data)
    content["val"][:] = False
    content["group"] = np.array(["web_1"] * 8 + ["web_2"] * 2 + ["rooms_x", "rooms_y"])
    content["source"] = np.array(["web_1/0.jpg"] * 8 + ["web_2/0.jpg"] * 2 + ["rooms/0.jpg"] * 2)
    np.savez(tmp_path / "real.npz", **content)
    chance = Photos(tmp_path / "real.npz").chance
    shares = np.array([chance[:8].sum(), chance[8:10].sum(), chance[10:].sum()])
    np.testing.assert_allclose(shares / shares[1], [2.0, 1.0, 1.0])


@pytest.mark.parametrize("mix", [None, Mix()], ids=["plain", "augmented"])
def test_a_dot_in_a_photo_lands_on_its_keypoint_left_hand_or_right(photos, mix):
    source, seen = Photos(photos), {True: 0, False: 0}
    for number in range(len(source)):
        for seed in range(4):
            sample = source.sample(number, 128, mix, np.random.default_rng(seed))
            at = sample.keypoints[8]
            if at.min() < 16 or at.max() > 111:
                continue
            light = np.clip(sample.image[..., 0].astype(float) - 70, 0, None)
            assert np.abs(centroid(light, at, 16) - at).max() < 0.35
            seen[bool(source.right[source.index[number]])] += 1
    assert min(seen.values()) > 4


def test_a_left_photo_is_mirrored_in_the_plane_and_in_space(photos):
    source = Photos(photos)
    number = int(np.flatnonzero(~source.right[source.index])[0])
    k = source.index[number]
    sample = source.sample(number, 128, None, np.random.default_rng(0))
    np.testing.assert_allclose(sample.world, source.world[k] * [-1, 1, 1], rtol=1e-6)
    assert sample.right  # a right hand from here on
    order = np.argsort(source.keypoints[k][:, 0])
    assert (np.diff(sample.keypoints[order, 0]) < 0).all()
    assert sample.weight == pytest.approx(source.weight[k])


@pytest.mark.parametrize("edges", [(19.5, 79.5), (20.5, 78.5)])
def test_a_photos_border_lies_where_the_file_says_for_either_hand(photos, edges):
    """``valid`` holds edges, x0 = -0.5 being the image's own: outside of them an augmented photo is black."""
    source = Photos(photos)
    source.valid = np.tile(np.float32([edges[0], 9.5, edges[1], 95.5]), (len(source.valid), 1))
    source.keypoints = np.tile(np.linspace(24, 71.5, 21, dtype=np.float32)[None, :, None], (len(source.valid), 1, 2))
    still = replace(Mix(), tracked=0.0, turn=0.0, shift=0.0)
    checked = {True: 0, False: 0}
    for number in range(len(source)):
        right = bool(source.right[source.index[number]])
        x0, x1 = edges if right else (95 - edges[1], 95 - edges[0])
        for seed in range(8):
            random = np.random.default_rng(seed)
            sample = source.sample(number, 400, still, random)
            scale = np.ptp(sample.keypoints[:, 0]) / 47.5
            assert PHOTO_SIDE[0] < 400 / (scale * 47.5) < PHOTO_SIDE[1]
            middle = 47.75 if right else 95 - 47.75
            lit = np.flatnonzero(sample.image[200, :, 0] > 30)
            if lit[0] == 0 or lit[-1] == 399:
                continue  # the crop lies inside the photo
            found = (np.array([lit[0] - 0.5, lit[-1] + 0.5]) - 199.5) / scale + middle
            if np.allclose(found, [-0.5, 95.5], atol=0.3):
                continue  # kept its border
            np.testing.assert_allclose(found, [x0, x1], atol=0.3)
            checked[right] += 1
    assert min(checked.values()) > 3


def test_held_out_photos_are_kept_apart_and_rare_groups_are_drawn_more_often(photos):
    train, val = Photos(photos), Photos(photos, val=True)
    assert sorted([*train.index.tolist(), *val.index.tolist()]) == list(range(12))
    assert train.chance.sum() == pytest.approx(1)
    groups = (np.arange(12) // 2)[train.index]
    sizes = {g: int((groups == g).sum()) for g in set(groups.tolist())}
    assert set(sizes.values()) == {1, 2}
    share = {g: float(train.chance[groups == g].sum()) for g in sizes}
    big, small = (next(s for g, s in share.items() if sizes[g] == n) for n in (2, 1))
    assert big / small == pytest.approx(2**0.5)
