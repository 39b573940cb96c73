# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import pytest

from cmr_runtime import Camera, CameraError, InputError
from cmr_runtime.options import CameraOption, parse_box


def test_camera_options() -> None:
    assert CameraOption("500,510,320,240", None)(640, 480) == Camera(500, 510, 320, 240, 640, 480)
    assert CameraOption(None, 60.0)(640, 480) == Camera.from_fov(60, 640, 480)
    assert CameraOption(None, None)(640, 480) is None
    assert [CameraOption(*o).given for o in (("9,9,1,1", None), (None, 60.0), (None, None))] == [True, True, False]
    with pytest.raises(InputError, match="--camera"):
        CameraOption("500,500", None)
    for bad in (("0,500,1,1", None), (None, 190.0)):
        with pytest.raises(CameraError):
            CameraOption(*bad)


def test_a_camera_comes_from_a_json_file(tmp_path: Path) -> None:
    table = {"fx": 500, "fy": 510.5, "cx": 320, "cy": 240}
    for name, content in (("flat.json", table), ("nested.json", {"camera": table, "more": 1})):
        (tmp_path / name).write_text(json.dumps(content))
        assert CameraOption(str(tmp_path / name), None)(640, 480) == Camera(500, 510.5, 320, 240, 640, 480)
    (tmp_path / "short.json").write_text('{"fx": 500}')
    (tmp_path / "list.json").write_text("[1, 2]")
    for name in ("absent.json", "short.json", "list.json"):
        with pytest.raises(InputError, match=name):
            CameraOption(str(tmp_path / name), None)
    (tmp_path / "size.json").write_text(json.dumps({**table, "width": 0, "height": 480}))
    with pytest.raises(CameraError, match="width is 0"):
        CameraOption(str(tmp_path / "size.json"), None)


def test_a_camera_of_known_size_grows_with_the_image(tmp_path: Path) -> None:
    path = tmp_path / "camera.json"
    path.write_text(json.dumps({"fx": 500, "fy": 510, "cx": 319.5, "cy": 200, "width": 640, "height": 480}))
    option, small = CameraOption(str(path), None), Camera(500, 510, 319.5, 200, 640, 480)
    assert option(640, 480) == small
    large = option(1280, 960)
    assert large == small.resized(1280, 960)
    with pytest.raises(CameraError, match=r"640×480 pixels; this one has 640×640"):
        option(640, 640)


def test_a_box_is_a_corner_and_a_size() -> None:
    assert parse_box("10,-20.5, 30,40") == (10, -20.5, 40, 19.5)
    for text in ("1,2,3", "1,2,3,4,5", "a,2,3,4", "1,2,0,4", "1,2,3,-4", "nan,2,3,4", "1,2,inf,4", ""):
        with pytest.raises(InputError, match=r"--box is .* give x,y,width,height in pixels"):
            parse_box(text)
