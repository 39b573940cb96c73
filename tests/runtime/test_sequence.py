# SPDX-License-Identifier: Apache-2.0
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from disc_bundle import draw_disc

from cmr_runtime import Bundle, Camera, Hand, HandMeshTracker, InputError
from cmr_runtime.sequence import HandSequence

CAMERA = Camera.from_fov(60, 400, 160)


@pytest.fixture(scope="module")
def hands(bundle: Bundle) -> list[Hand]:
    image = np.maximum(draw_disc(400, 160, 70, 80, 30), draw_disc(400, 160, 330, 80, 25, "left"))
    with HandMeshTracker(bundle, mode="image") as tracker:
        return tracker.track(image, CAMERA, rois=[(10, 20, 130, 140), (270, 20, 390, 140)])


def test_arrays_are_frames_by_hands(hands: list[Hand], tmp_path: Path) -> None:
    right, left = hands
    assert (right.handedness, left.handedness) == ("right", "left")
    sequence = HandSequence(vertices=True)
    sequence.add([left], "clip.mp4", 0, 0.0)
    sequence.add([], "clip.mp4", 1, 0.04)
    sequence.add([dataclasses.replace(right, track_id=7), left], "ä.png")
    sequence.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        arrays = dict(file)
    assert arrays["source"].tolist() == ["clip.mp4", "clip.mp4", "ä.png"]
    assert arrays["frame"].tolist() == [0, 1, -1]
    np.testing.assert_array_equal(arrays["timestamp"], [0, 0.04, np.nan])
    assert arrays["found"].tolist() == [[True, False], [False, False], [True, True]]
    assert arrays["handedness"].tolist() == [["left", ""], ["", ""], ["right", "left"]]
    assert arrays["track_id"].tolist() == [[-1, -1], [-1, -1], [7, -1]]
    assert arrays["metric"].tolist() == arrays["found"].tolist()
    for name in ("vertices", "joints", "keypoints", "keypoint_scores", "translation"):
        np.testing.assert_array_equal(arrays[name][2, 1], getattr(left, name).astype(np.float32))
        np.testing.assert_array_equal(arrays[name][0, 0], arrays[name][2, 1])
        assert np.isnan(arrays[name][1]).all()
        assert np.isnan(arrays[name][0, 1]).all()
    np.testing.assert_allclose(arrays["camera"][2, 0], [CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy], rtol=1e-6)
    np.testing.assert_array_equal(arrays["faces"], right.faces)  # though the first hand is a left one
    np.testing.assert_array_equal(arrays["joint_parents"], right.joint_parents)


def test_the_documentation_names_every_array(hands: list[Hand]) -> None:
    sequence = HandSequence(vertices=True)
    sequence.add(hands)
    documented = {line.split("``")[1] for line in HandSequence.__doc__.splitlines() if line.strip().startswith("``")}
    assert documented == sequence.arrays().keys()


def test_sequences_without_hands(tmp_path: Path, hands: list[Hand]) -> None:
    empty = HandSequence()
    assert empty.arrays()["found"].shape == (0, 0)
    empty.add([])
    empty.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert file["found"].shape == (1, 0)
        assert "joints" not in file
    lean = HandSequence()
    lean.add(hands)
    assert not {"vertices", "faces"} & lean.arrays().keys()


def test_hands_with_and_without_a_mesh_do_not_mix(hands: list[Hand]) -> None:
    whole, lean = hands[0], dataclasses.replace(hands[0], vertices=hands[0].vertices[:0], faces=hands[0].faces[:0])
    for first, second in ((whole, lean), (lean, whole)):
        sequence = HandSequence(vertices=True)
        with pytest.raises(InputError, match="vertices of a hand in this frame has shape"):
            sequence.add([first, second])
        sequence.add([])
        sequence.add([first])
        with pytest.raises(InputError, match=r"vertices of a hand in clip\.mp4 has shape .*joints_only"):
            sequence.add([second], "clip.mp4", 2)
        assert sequence.arrays()["found"].tolist() == [[False], [True]]  # nothing of what was refused
    both = HandSequence()
    both.add([whole, lean])
    assert both.arrays()["joints"].shape[:2] == (1, 2)
