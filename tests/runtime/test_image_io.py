# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import numpy as np
import pytest

from cmr_runtime import Camera, CameraError, InputError
from cmr_runtime.image_io import parse_box, parse_camera, read_image, write_image


def test_round_trip_keeps_the_channel_order(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    write_image(tmp_path / "ä.png", image)
    np.testing.assert_array_equal(read_image(tmp_path / "ä.png"), image)


def test_unreadable_and_unwritable(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("a.png", "empty.png", "none.png"):
        with pytest.raises(InputError, match=name):
            read_image(tmp_path / name)
    image = np.zeros((4, 4, 3), np.uint8)
    for path in (tmp_path / "a.xyz", tmp_path / "nowhere" / "a.png"):
        with pytest.raises(InputError, match="written"):
            write_image(path, image)


def test_camera_options() -> None:
    assert parse_camera("500,510,320,240", None, 640, 480) == Camera(500, 510, 320, 240, 640, 480)
    assert parse_camera(None, 60.0, 640, 480) == Camera.from_fov(60, 640, 480)
    assert parse_camera(None, None, 640, 480) is None
    with pytest.raises(InputError, match="--camera"):
        parse_camera("500,500", None, 640, 480)
    with pytest.raises(CameraError):
        parse_camera("0,500,1,1", None, 640, 480)


def test_a_camera_comes_from_a_json_file(tmp_path):
    table = {"fx": 500, "fy": 510.5, "cx": 320, "cy": 240}
    for name, content in (("flat.json", table), ("nested.json", {"camera": table, "more": 1})):
        (tmp_path / name).write_text(json.dumps(content))
        assert parse_camera(str(tmp_path / name), None, 640, 480) == Camera(500, 510.5, 320, 240, 640, 480)
    (tmp_path / "short.json").write_text('{"fx": 500}')
    (tmp_path / "list.json").write_text("[1, 2]")
    for name in ("absent.json", "short.json", "list.json"):
        with pytest.raises(InputError, match=name):
            parse_camera(str(tmp_path / name), None, 640, 480)


def test_a_box_is_a_corner_and_a_size() -> None:
    assert parse_box("10,-20.5, 30,40") == (10, -20.5, 40, 19.5)
    for text in ("1,2,3", "1,2,3,4,5", "a,2,3,4", "1,2,0,4", "1,2,3,-4", "nan,2,3,4", "1,2,inf,4", ""):
        with pytest.raises(InputError, match=r"--box is .* give x,y,width,height in pixels"):
            parse_box(text)
