# SPDX-License-Identifier: Apache-2.0
import dataclasses
import io
import zipfile

import numpy as np
import pytest

from cmr_runtime import BundleError, Topology


def test_round_trip_is_exact_and_repeatable(topology: Topology) -> None:
    data = topology.to_npz()
    again = Topology.from_npz(data)
    for field in dataclasses.fields(Topology):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(topology, field.name))
    assert again.to_npz() == data


def test_a_mesh_whose_maker_keeps_the_regressor(topology: Topology) -> None:
    lone = dataclasses.replace(topology, joint_regressor=None)
    again = Topology.from_npz(lone.to_npz())
    assert again.joint_regressor is None
    np.testing.assert_array_equal(again.template, topology.template)


@pytest.mark.parametrize("joints", [1, 17])
def test_the_parents_say_how_many_joints_there_are(topology: Topology, joints: int) -> None:
    assert topology.joints == 21
    parents = topology.joint_parents[:joints].copy()
    other = Topology(topology.template, topology.faces, topology.joint_regressor[:joints].copy(), parents)
    assert Topology.from_npz(other.to_npz()).joints == joints
    with pytest.raises(BundleError, match=f"joint_regressor is float32 .* float32 \\({joints}, 60\\)"):
        dataclasses.replace(topology, joint_parents=parents)
    with pytest.raises(BundleError, match="joint_parents"):
        dataclasses.replace(topology, joint_parents=parents[:0])


def test_reads_what_numpy_writes(topology: Topology) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{f.name: getattr(topology, f.name) for f in dataclasses.fields(Topology)})
    np.testing.assert_array_equal(Topology.from_npz(buffer.getvalue()).faces, topology.faces)


def _changed(topology: Topology, name: str, index: tuple, value: float) -> dict:
    arrays = {f.name: getattr(topology, f.name).copy() for f in dataclasses.fields(Topology)}
    arrays[name][index] = value
    return arrays


@pytest.mark.parametrize(
    ("name", "index", "value"),
    [
        ("template", (3, 1), np.nan),
        ("faces", (0, 0), 60),
        ("faces", (5, 2), -1),
        ("joint_regressor", (4, 7), 9.0),
        ("joint_parents", (0,), 3),
        ("joint_parents", (5,), 20),
        ("joint_parents", (5,), -1),
    ],
)
def test_impossible_values_are_named(topology: Topology, name: str, index: tuple, value: float) -> None:
    with pytest.raises(BundleError, match=name):
        Topology(**_changed(topology, name, index, value))


def test_other_types_and_shapes_are_refused(topology: Topology) -> None:
    with pytest.raises(BundleError, match="template is float64"):
        dataclasses.replace(topology, template=topology.template.astype(np.float64))
    with pytest.raises(BundleError, match="joint_regressor"):
        dataclasses.replace(topology, joint_regressor=topology.joint_regressor[:, :-1])


def test_pickles_and_bombs_are_refused(topology: Topology, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    arrays = {f.name: getattr(topology, f.name) for f in dataclasses.fields(Topology)}
    np.savez(buffer, **{**arrays, "template": np.array([{"evil": 1}], dtype=object)})
    with pytest.raises(BundleError, match="cannot be read"):
        Topology.from_npz(buffer.getvalue())
    monkeypatch.setattr("cmr_runtime.topology.MAX_BYTES", 100)
    with pytest.raises(BundleError, match="limit is 100"):
        Topology.from_npz(topology.to_npz())


def test_crafted_archives_are_refused(topology: Topology) -> None:
    whole = topology.to_npz()
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    huge = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(huge, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "template.npy":
                head = io.BytesIO()
                np.lib.format.write_array_header_1_0(
                    head, {"descr": "<f4", "fortran_order": False, "shape": (10**13, 3)}
                )
                content = head.getvalue()
            new.writestr(name, content)
    for data in (array.getvalue() + whole, packed.getvalue(), huge.getvalue()):
        with pytest.raises(BundleError, match=r"topology\.npz"):
            Topology.from_npz(data)


def test_the_callers_arrays_stay_as_they_are(topology: Topology) -> None:
    template = topology.template.copy()
    made = dataclasses.replace(topology, template=template)
    template += 1
    np.testing.assert_array_equal(made.template, topology.template)
    assert not made.template.flags.writeable


def test_missing_array_and_no_archive(topology: Topology) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, template=topology.template)
    with pytest.raises(BundleError, match="exactly"):
        Topology.from_npz(buffer.getvalue())
    with pytest.raises(BundleError, match="cannot be read"):
        Topology.from_npz(b"nothing")
