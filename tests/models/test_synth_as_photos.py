# SPDX-License-Identifier: Apache-2.0
import json
import re
from pathlib import Path

import numpy as np
import pytest

from cmr_models.synth.as_photos import main, write_photos
from cmr_models.synth.bake import bake, prepare
from cmr_runtime import Camera
from cmr_runtime.evaluate import main as cmr_eval
from cmr_runtime.image_io import read_image
from cmr_runtime.samples import read_samples

SIZE = 96


@pytest.fixture(scope="module")
def baked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("baked")
    bake(folder, 6, SIZE, 5, workers=1)
    return folder


def test_joints_project_onto_the_hand_and_left_ones_are_mirrored(baked, tmp_path):
    assert write_photos(baked, tmp_path, 4) == 4
    samples, keypoints = read_samples(tmp_path), np.load(baked / "keypoints.npy")
    assert [sample.handedness for sample in samples] == ["right", "left", "right", "left"]
    for k, sample in enumerate(samples):
        image, outline = read_image(sample.path), np.load(baked / "rgba.npy")[k, ..., 3] == 255
        seen = Camera.from_matrix(sample.matrix, SIZE, SIZE).project(sample.joints)
        if sample.handedness == "left":
            image, seen = image[:, ::-1], seen * [-1, 1] + [SIZE - 1, 0]
        assert seen == pytest.approx(keypoints[k], abs=1e-2)
        assert np.array_equal(image[outline], np.load(baked / "rgba.npy")[k][outline][:, :3])


def test_figures_can_be_made_of_them(baked, tmp_path, capsys):
    main([str(baked), str(tmp_path)])
    assert re.fullmatch(r"6 photos in \S+: \S+ has no more\n", capsys.readouterr().out)
    assert cmr_eval(["joints3d", str(tmp_path), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["images"] == 6
    assert figures["found"] > 0.5
    assert figures["pa_mpjpe_mm"] < 25


def test_photos_are_not_written_over_and_wrong_calls_say_why(baked, tmp_path, capsys):
    write_photos(baked, tmp_path, 1)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    for call, text in (
        ([str(baked), str(tmp_path)], "holds photos already"),
        ([str(tmp_path), str(tmp_path / "other")], "about.json"),
        ([str(baked), str(tmp_path), "--count", "0"], "give at least 1 and 0"),
        ([str(baked), str(tmp_path), "--seed", "-1"], "give at least 1 and 0"),
    ):
        with pytest.raises(SystemExit):
            main(call)
        assert text in capsys.readouterr().err
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_folder_in_which_nothing_is_baked_yet_leaves_nothing_behind(tmp_path, capsys):
    prepare(tmp_path / "baked", 40, 32, 1)
    with pytest.raises(SystemExit):
        main([str(tmp_path / "baked"), str(tmp_path / "out")])
    assert "no hand" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
