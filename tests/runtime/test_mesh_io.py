# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import numpy as np
import pytest
import trimesh

from cmr_runtime import InputError, Topology
from cmr_runtime.mesh_io import JsonLines, write_ply


def test_ply_as_another_program_reads_it(tmp_path: Path, topology: Topology) -> None:
    write_ply(tmp_path / "a.ply", topology.template, topology.faces)
    mesh = trimesh.load(tmp_path / "a.ply", process=False)
    np.testing.assert_array_equal(mesh.vertices.astype(np.float32), topology.template)
    np.testing.assert_array_equal(mesh.faces, topology.faces)
    assert mesh.is_watertight
    assert mesh.volume > 0  # wound outwards


def test_bad_meshes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="shapes"):
        write_ply(tmp_path / "a.ply", np.zeros((4, 2)), np.zeros((1, 3), int))
    with pytest.raises(InputError, match="there are 4 vertices"):
        write_ply(tmp_path / "a.ply", np.zeros((4, 3)), np.array([[0, 1, 4]]))
    assert not (tmp_path / "a.ply").exists()


def test_lines_are_whole_before_the_file_is_closed(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "a.jsonl")
    lines.write({"a": [1, 2.5], "ü": None})
    with pytest.raises(ValueError, match="JSON"):
        lines.write({"a": float("nan")})
    lines.write({"b": 1})
    text = (tmp_path / "a.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line) for line in text.splitlines()] == [{"a": [1, 2.5], "ü": None}, {"b": 1}]
    lines.close()
    lines.close()
