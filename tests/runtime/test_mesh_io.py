# SPDX-License-Identifier: Apache-2.0
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh

from cmr_runtime import InputError, Topology
from cmr_runtime.mesh_io import MESH_FORMATS, JsonLines, write_mesh


@pytest.mark.parametrize("form", MESH_FORMATS)
def test_meshes_as_another_program_reads_them(tmp_path: Path, topology: Topology, form: str) -> None:
    moved = topology.template + np.float32([0.012345678, -0.02, 0.456789])
    write_mesh(tmp_path / f"a.{form}", moved, topology.faces)
    mesh = trimesh.load(tmp_path / f"a.{form}", process=False, force="mesh")
    # In glTF y points up and z towards the viewer; the others keep the axes of the camera.
    expected = moved * np.float32([1, -1, -1]) if form == "glb" else moved
    np.testing.assert_array_equal(mesh.vertices.astype(np.float32), expected)
    np.testing.assert_array_equal(mesh.faces, topology.faces)
    assert mesh.is_watertight
    assert mesh.volume > 0  # wound outwards


def test_bad_meshes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="shapes"):
        write_mesh(tmp_path / "a.ply", np.zeros((4, 2)), np.zeros((1, 3), int))
    with pytest.raises(InputError, match="there are 4 vertices"):
        write_mesh(tmp_path / "a.ply", np.zeros((4, 3)), np.array([[0, 1, 4]]))
    with pytest.raises(InputError, match="there are 4 vertices"):
        write_mesh(tmp_path / "a.ply", np.zeros((4, 3)), np.array([[0, 1, 2**32]]))
    with pytest.raises(InputError, match="faces are float64; give whole numbers"):
        write_mesh(tmp_path / "a.ply", np.zeros((4, 3)), np.array([[0, 1.5, 2]]))
    with pytest.raises(InputError, match="not finite"):
        write_mesh(tmp_path / "a.obj", np.full((4, 3), np.nan), np.array([[0, 1, 2]]))
    with pytest.raises(InputError, match="no vertices"):
        write_mesh(tmp_path / "a.ply", np.zeros((0, 3)), np.array([[0, 1, 2]]))
    with pytest.raises(OSError, match=r"mesh .*a\.obj cannot be written"):
        write_mesh(tmp_path / "none" / "a.obj", np.zeros((4, 3)), np.array([[0, 1, 2]]))
    assert not list(tmp_path.iterdir())


def test_glb_without_trimesh_names_the_mend(
    tmp_path: Path, topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trimesh", None)
    with pytest.raises(InputError, match=r"pip install 'cmr-runtime\[mesh\]'"):
        write_mesh(tmp_path / "a.glb", topology.template, topology.faces)
    write_mesh(tmp_path / "a.obj", topology.template, topology.faces)


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


def test_lines_on_a_full_disk_are_one_clear_error() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    with JsonLines("/dev/full") as lines, pytest.raises(OSError, match=r"^JSON lines /dev/full cannot be written: No"):
        lines.write({"a": 1})


def test_a_line_written_in_part_leaves_no_trace(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with JsonLines(tmp_path / "a.jsonl") as lines:
        lines.write({"a": 1})
        room = (tmp_path / "a.jsonl").stat().st_size + 3
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))  # fails after three bytes, as a full disk does
        try:
            with pytest.raises(OSError, match="cannot be written: File too large"):
                lines.write({"b": 2})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        lines.write({"c": 3})
    assert (tmp_path / "a.jsonl").read_bytes() == b'{"a":1}\n{"c":3}\n'
