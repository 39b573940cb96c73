# SPDX-License-Identifier: Apache-2.0
"""The bundle of `disc_bundle` as fixtures, and a hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from disc_bundle import make_content, make_topology
from followed_world import hand_in_front

from cmr_runtime import Bundle, Hand, Topology, write_bundle


@pytest.fixture(scope="session")
def topology() -> Topology:
    return make_topology()


@pytest.fixture(scope="session")
def content(topology: Topology) -> dict:
    """Keyword arguments of `write_bundle`."""
    return make_content(topology=topology)


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory, content: dict) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "hand.cmr"
    write_bundle(path, **content)
    return path


@pytest.fixture(scope="session")
def bundle(bundle_path: Path) -> Bundle:
    return Bundle.open(bundle_path)


@pytest.fixture(scope="session")
def model(bundle: Bundle) -> Hand:
    return hand_in_front(bundle)
