# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest

from cmr_runtime import InputError
from cmr_runtime.image_io import read_image, write_image


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
    with pytest.raises(InputError, match="written"):
        write_image(tmp_path / "a.xyz", image)
    with pytest.raises(OSError, match=r"image .*a\.png cannot be written: No such file"):
        write_image(tmp_path / "nowhere" / "a.png", image)
