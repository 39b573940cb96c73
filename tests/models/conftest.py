# SPDX-License-Identifier: Apache-2.0
"""A few renderings and photos to train on, as a fixture."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folder of 12 renderings and file of 8 photos; only to be read."""
    from fake_data import write_photos, write_renderings  # here: PyTorch comes along, which many tests do without
    from small_net import SIZE

    folder = tmp_path_factory.mktemp("data")
    return write_renderings(folder / "synth", 12, SIZE), write_photos(folder / "real.npz", 8)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of six renderings of 96 pixels; only to be read."""
    from fake_data import write_renderings

    return write_renderings(tmp_path_factory.mktemp("synth"), 6, 96)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of twelve photos; only to be read."""
    from fake_data import write_photos

    return write_photos(tmp_path_factory.mktemp("photos") / "real.npz", 12)
