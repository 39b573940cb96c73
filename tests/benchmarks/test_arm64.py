# SPDX-License-Identifier: Apache-2.0
import json
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks import arm64, arm64_probe, arm64_wheels
from benchmarks.arm64_root import COMPILER, Root
from benchmarks.arm64_wheels import build, cross_build, download, oldest_glibc
from cmr_runtime import CmrError
from cmr_runtime.compiled import core
from cmr_runtime.plan.session import kernels

TESTS = """
import pytest
def test_good(): pass
def test_other(): pass
def test_bad(): assert 0
def test_odd(nothing): pass
@pytest.mark.skip(reason="no such thing here")
def test_left(): pass
"""
MMDEBSTRAP = """
shift $(($# - 2))
echo "$2" >> "$(dirname "$1")/mirrors"
case "$2" in *gone*) echo "Could not connect" >&2; mkdir "$1"; exit 25;; esac
mkdir "$1"
"""
#: Runs the last word of its command line.
PROOT = 'for word; do :; done; eval "$word"'


def _wheel(folder: Path, name: str, version: str, tag: str) -> None:
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of a package index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Shell scripts in place of mmdebstrap, PRoot, QEMU and the compiler."""
    folder = tmp_path / "tools"
    folder.mkdir()
    qemu = "echo 'qemu version 0 (x)'"
    for name, text in (("mmdebstrap", MMDEBSTRAP), ("proot", PROOT), ("qemu-aarch64", qemu), (COMPILER, "exit 1")):
        (folder / name).write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_wheels_are_the_newest_that_the_root_can_run(index: Path, tmp_path: Path) -> None:
    for version, tag in (
        ("1.0", "cp311-cp311-manylinux2014_aarch64"),
        ("1.1", "cp311-abi3-manylinux_2_36_aarch64"),
        ("1.2", "cp311-cp311-manylinux_2_37_aarch64"),
        ("1.3", "cp312-cp312-manylinux_2_28_aarch64"),
        ("1.4", "cp311-cp311-manylinux_2_28_x86_64"),
    ):
        _wheel(index, "thing", version, tag)
    _wheel(index, "other", "2.0", "cp311-cp311-manylinux2014_aarch64")
    _wheel(index, "ours", "3.0", "cp311-abi3-linux_aarch64")
    _wheel(index, "ours", "3.1", "cp311-abi3-linux_x86_64")
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "stale-1-py3-none-any.whl").touch()
    found = [wheel.name.split("-cp")[0] for wheel in download(["thing", "other", "ours"], tmp_path / "wheels")]
    assert sorted(found) == ["other-2.0", "ours-3.0", "thing-1.1"]


def test_what_has_no_wheel_is_named(index: Path, tmp_path: Path) -> None:
    _wheel(index, "thing", "1.0", "cp311-cp311-manylinux2014_x86_64")
    with pytest.raises(CmrError, match=r"does not resolve to aarch64 wheels.*needs a package index.*for thing"):
        download(["thing"], tmp_path / "wheels")


@pytest.mark.parametrize(
    ("names", "glibc"),
    [
        ([], "2.17"),
        (["any-1-py3-none-any.whl", "old-1-cp311-cp311-manylinux2014_aarch64.whl"], "2.17"),
        (["two-1-cp311-cp311-manylinux_2_24_aarch64.manylinux_2_28_aarch64.whl"], "2.24"),
        (["a-1-cp311-cp311-manylinux_2_28_aarch64.whl", "b-1-cp39-abi3-manylinux_2_31_aarch64.whl"], "2.31"),
        (["a-1-cp311-cp311-manylinux_2_28_aarch64.whl", "ours-1-cp311-abi3-linux_aarch64.whl"], "2.28"),
        (["c-1-cp311-cp311-manylinux2014_aarch64.manylinux_2_17_aarch64.manylinux_2_28_aarch64.whl"], "2.17"),
    ],
)
def test_the_oldest_glibc_is_that_of_the_most_demanding_wheel(names: list[str], glibc: str) -> None:
    assert oldest_glibc(names) == glibc


#: In place of `python -m build`: a wheel with what the environment says, and with the compiled core if it says so.
BUILD = """
import os, sys, zipfile
folder = sys.argv[sys.argv.index("--outdir") + 1]
os.makedirs(folder)
with zipfile.ZipFile(f"{folder}/ours-1-cp311-abi3-linux.whl", "w") as archive:
    for name in ("CC", "LDSHARED", "CFLAGS", "_PYTHON_HOST_PLATFORM"):
        archive.writestr(name, os.environ.get(name, ""))
    if "CORE" in os.environ:
        archive.writestr(os.environ["CORE"], "")
print("cc -c core.c")
print("core.c:9:12: fatal error: math.h: No such file")
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`BUILD` in place of what builds the wheels."""
    (tmp_path / "build.py").write_text(BUILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name in ("CC", "LDSHARED", "CFLAGS", "_PYTHON_HOST_PLATFORM"):
        monkeypatch.delenv(name, raising=False)


def test_the_wheel_of_the_root_is_compiled_for_it(checkout: None, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CORE", arm64_wheels._CORE)
    with zipfile.ZipFile(build(tmp_path / "here")) as archive:
        assert not archive.read("CC")
        assert not archive.read("_PYTHON_HOST_PLATFORM")
    with zipfile.ZipFile(cross_build(tmp_path / "there")) as archive:
        assert archive.read("CC") == b"aarch64-linux-gnu-gcc"
        assert archive.read("LDSHARED") == b"aarch64-linux-gnu-gcc -shared"
        assert archive.read("_PYTHON_HOST_PLATFORM") == b"linux-aarch64"
        (headers,) = (Path(word[2:]) for word in archive.read("CFLAGS").decode().split() if word.startswith("-I"))
    (config,) = headers.glob("aarch64-linux-gnu/python3.*/pyconfig.h")
    assert config.read_text().endswith('pyconfig.h"\n')


def test_a_wheel_without_the_core_is_refused_with_the_mend(checkout: None, tmp_path: Path) -> None:
    for make, mend in ((build, "gcc python3-dev"), (cross_build, "gcc-aarch64-linux-gnu libc6-dev-arm64-cross")):
        with pytest.raises(CmrError, match=rf"no compiled core \(.*math.h: No such file\); .*apt-get install {mend}`"):
            make(tmp_path / "wheel")


@pytest.mark.slow
def test_the_core_compiles_for_aarch64(tmp_path: Path) -> None:
    if shutil.which(COMPILER) is None:
        pytest.skip(f"{COMPILER} not found")
    wheel = cross_build(tmp_path / "wheel")
    assert wheel.name.endswith("-cp311-abi3-linux_aarch64.whl")
    with zipfile.ZipFile(wheel) as archive:
        library = archive.read(arm64_wheels._CORE)
    assert library.startswith(b"\x7fELF")
    assert int.from_bytes(library[18:20], "little") == 183  # EM_AARCH64


def test_a_root_is_made_once_and_again_when_asked_or_left_half_made(tools: Path, tmp_path: Path) -> None:
    cache = tmp_path / "new" / "cache"
    with pytest.raises(CmrError, match=r"Could not connect; it needs http://gone, or name another .*--debian-mirror"):
        Root(cache, "http://gone")
    for _ in range(2):
        assert Root(cache, "http://a").emulator == "qemu version 0, cortex-a76"
    Root(cache, "http://b", again=True)
    assert (cache / "mirrors").read_text().split() == ["http://gone", "http://a", "http://b"]
    (tools / "mmdebstrap").unlink()
    Root(cache)
    with pytest.raises(CmrError, match="mmdebstrap not found; install with `apt-get install mmdebstrap`"):
        Root(cache, again=True)


def test_nothing_else_is_replaced(tools: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "root").write_text("the only copy")
    with pytest.raises(CmrError, match=r"holds something else.*--cache"):
        Root(tmp_path / "thesis", again=True)
    assert (tmp_path / "thesis" / "root").read_text() == "the only copy"


def test_a_command_of_the_root_fails_or_hangs_with_its_name(tools: Path, tmp_path: Path) -> None:
    root = Root(tmp_path / "cache")
    assert root.output(["echo", "echo $QEMU_CPU"]) == "cortex-a76\n"
    with pytest.raises(CmrError, match=r"run under emulation.* ended with 3: no such hand"):
        root.output(["echo no such hand >&2; exit 3"])
    # What the command has started ends with it.
    beat = tmp_path / "beat"
    with pytest.raises(CmrError, match=r"did not end in 0 s"):
        root.output([f"(while :; do date > {beat}; sleep 0.05; done) & sleep 60"], limit=0.4)
    beat.unlink()
    time.sleep(0.3)
    assert not beat.exists()


def test_the_same_wheels_are_installed_once(tools: Path, tmp_path: Path) -> None:
    (tools / "proot").write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n')
    wheels = [tmp_path / name for name in ("ours-1-py3-none-any.whl", "b-1-py3-none-any.whl", "a-1-py3-none-any.whl")]
    root = Root(tmp_path / "cache")
    root.install(wheels, wheels[0])
    root.install(wheels[::-1], wheels[0])
    calls = (tmp_path / "calls").read_text()
    assert calls.count("/wheels/a-1-py3-none-any.whl /wheels/b-1-py3-none-any.whl") == 1
    assert calls.count("--force-reinstall /wheels/ours-1-py3-none-any.whl") == 2
    Root(tmp_path / "cache").install(wheels[:2], wheels[0])
    assert (tmp_path / "calls").read_text().count("-m venv") == 2


def test_what_is_lacking_is_named_with_its_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert arm64.main(["--cache", str(tmp_path / "cache")]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"error: {COMPILER}, mmdebstrap, proot, qemu-aarch64-static or qemu-aarch64 not found; install"
    )
    assert "apt-get install gcc-aarch64-linux-gnu mmdebstrap proot qemu-user-static" in line
    assert not (tmp_path / "cache").exists()


def test_outcomes_are_those_of_a_real_run(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    junit = tmp_path / "results.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={junit}", "test_some.py"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 1
    seen = arm64.outcomes(junit)
    assert (seen["passed"], seen["failed"], seen["skipped"]) == (2, 2, 1)
    assert seen["failures"] == ["test_some::test_bad", "test_some::test_odd"]
    assert seen["skips"] == ["no such thing here"]
    junit.write_text(junit.read_text()[:-30])
    for path in (junit, tmp_path / "none.xml"):
        with pytest.raises(CmrError, match=rf"ended from outside before they wrote {path.name}; run them again"):
            arm64.outcomes(path)


def _rows(key: str, there: np.ndarray) -> dict[str, dict]:
    same = dict.fromkeys(arm64.TOLERANCES, np.full((2, 3), 0.25))
    return dict(zip(arm64.TOLERANCES, arm64.compare(same, same | {key: there}), strict=True))


@pytest.mark.parametrize(
    ("key", "off", "largest", "met"),
    [
        ("hands vertices", 0.0015, 1.5, True),
        ("hands vertices", -0.0025, 2.5, False),
        ("hands keypoints", 4.5, 4.5, False),
        ("int8 heatmaps", 9e-6, 9e-6, True),
        ("hands right", 1, 1, False),
        ("image", np.nan, None, False),
    ],
)
def test_a_difference_is_held_against_its_limit(key: str, off: float, largest: float | None, met: bool) -> None:
    there = np.full((2, 3), 0.25)
    there[1, 2] += off
    rows = _rows(key, there)
    assert rows[key]["met"] is met
    assert rows[key]["largest"] == (None if largest is None else pytest.approx(largest))
    assert all(row["met"] and row["largest"] == 0 for other, row in rows.items() if other != key)


@pytest.mark.parametrize("shape", [(1, 3), (2, 3, 1), (0, 3)])
def test_another_number_of_hands_is_not_the_same(shape: tuple[int, ...]) -> None:
    row = _rows("hands vertices", np.full(shape, 0.25))["hands vertices"]
    assert row["largest"] is None
    assert not row["met"]


def test_the_probe_sees_the_same_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = [str(arm64.ROOT / name) for name in arm64.SAMPLE]
    for name in ("a.npz", "b.npz"):
        arm64_probe.main([*sample, str(tmp_path / name)])
    told = json.loads(capsys.readouterr().out.splitlines()[0])
    assert told["versions"]["numpy"] == np.__version__
    assert told["compiled"] is (core is not None)
    with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "b.npz") as b:
        eight = {key for key in arm64.TOLERANCES if key.startswith(arm64_probe.BY_THE_CORE)}
        assert set(a) == set(arm64.TOLERANCES) - (set() if kernels(8) else eight)
        assert [row["largest"] for row in arm64.compare(a, b)] == [0.0] * len(a.files)
        floats = {key: a[key] for key in a.files if key not in eight}
        assert len(arm64.compare(floats, floats)) == len(floats)
        assert a["hands vertices"].shape == (1, *a["fp32 vertices"].shape)
        root = np.array(json.loads(Path(sample[1]).read_text())["joints_camera_m"])[9]
        assert np.linalg.norm(a["hands translation"][0] - root) < 0.2 * np.linalg.norm(root)


def _report(passed: bool) -> dict:
    told = {"machine": "aarch64", "python": "3.11.2", "libc": "glibc 2.36", "compiled": passed}
    told |= {"versions": {"numpy": "2.0"}}
    return {
        "date": "today", "emulator": "qemu 0, core", "root": "Debian", "there": told,
        "here": told | {"machine": "x86_64", "compiled": True, "versions": {"numpy": "1.0"}},
        "base": [{"file": "numpy-2.0.whl", "bytes": 16_000_000}, {"file": "scipy-1.whl", "bytes": 33_100_000}],
        "oldest_glibc": "2.28",
        "tests": {
            "folders": ["tests/runtime"], "passed": 5, "failed": int(not passed), "skipped": 1,
            "failures": [] if passed else ["test_some::test_bad"], "skips": ["no such thing here"],
            "again": ["test_other.py: exit status 120"],
        },
        "differences": [
            {"what": "sample: keypoints", "unit": "px", "largest": 3.02, "limit": 4.0, "met": True},
            {"what": "sample: vertices", "unit": "mm", "largest": None, "limit": 2.0, "met": passed},
        ],
        "passed": passed,
    }  # fmt: skip


def test_a_core_that_is_not_in_use_is_no_pass() -> None:
    report = _report(passed=True)
    assert arm64.holds(report)
    for side in ("here", "there"):
        assert not arm64.holds(report | {side: report[side] | {"compiled": False}})
    for tests in ({"passed": 0}, {"failed": 1}):
        assert not arm64.holds(report | {"tests": report["tests"] | tests})
    assert not arm64.holds(report | {"differences": _report(passed=False)["differences"]})


def test_the_command_says_all_of_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(arm64, "measure", lambda *_: _report(passed=False))
    assert arm64.main([]) == 1
    text = capsys.readouterr().out
    for words in (
        "emulation says nothing of speed", "from glibc 2.28", "49.1 MB", "5 passed, 1 failed, 1 skipped",
        "failed: test_some::test_bad", "begun again: test_other.py: exit status 120",
        "3 px, at most 4\n", "not comparable, at most 2  EXCEEDED",
        "with numpy 2.0; here numpy 1.0", "compiled core: in use on x86_64, NOT IN USE on aarch64",
    ):  # fmt: skip
        assert words in text
    assert text.endswith("NOT PASSED\n")
    asked: list[object] = []
    monkeypatch.setattr(arm64, "measure", lambda *given: asked.extend(given) or _report(passed=True))
    assert arm64.main(["--json", "--limit", "900"]) == 0
    assert asked[-1] == 900
    assert json.loads(capsys.readouterr().out) == _report(passed=True)


class Fitful:
    """A root whose programs end without a word, now and then."""

    def __init__(self, suite: Path, silent: int, failing: int = 0) -> None:
        self.suite, self.silent, self.failing, self.calls = suite, silent, failing, 0
        self.limits: set[float] = set()

    def output(self, command: list[str], *_: object) -> str:
        self.calls += 1
        return "" if self.calls <= self.silent else '{"machine": "aarch64"}'

    def run(self, command: list[str], binds: object, cwd: str, limit: float, **streams: object) -> int:
        self.calls += 1
        self.limits.add(limit)
        if self.calls <= self.silent:
            if self.calls % 3 == 0:
                raise CmrError("`it` did not end in 300 s")
            return (0, 120)[self.calls % 2]
        failed = self.calls <= self.failing
        case = f"<testcase classname='a' name='b'>{'<failure/>' * failed}</testcase>"
        (self.suite / "results.xml").write_text(f"<testsuite>{case}</testsuite>")
        return int(failed)


@pytest.mark.parametrize("silent", [0, 1, arm64.ATTEMPTS - 1])
def test_what_ends_without_a_word_is_begun_again(tmp_path: Path, silent: int) -> None:
    (tmp_path / "results.xml").write_text("<testsuite/>")  # of a run before, and not of this one
    files = ("test_some.py", "test_other.py", "helper.py")
    (tmp_path / "tests" / "runtime").mkdir(parents=True)
    for name in files:
        (tmp_path / "tests" / "runtime" / name).touch()
    assert arm64._probe_there(Fitful(tmp_path, silent), tmp_path) == {"machine": "aarch64"}
    root = Fitful(tmp_path, silent)
    seen = arm64._tests(root, tmp_path, ["tests/runtime"], 77.0)
    assert (seen["passed"], seen["failed"], root.calls) == (2, 0, silent + 2)
    assert root.limits == {77.0}
    assert len(seen["again"]) == silent
    assert all(reason.startswith("tests/runtime/test_other.py: ") for reason in seen["again"])


def test_a_test_that_fails_each_time_has_failed(tmp_path: Path) -> None:
    root = Fitful(tmp_path, 0, failing=arm64.ATTEMPTS)
    seen = arm64._tests(root, tmp_path, ["tests/runtime/test_some.py"])
    assert (seen["passed"], seen["failures"], root.calls) == (0, ["a::b"], arm64.ATTEMPTS)
    root = Fitful(tmp_path, 0, failing=1)
    seen = arm64._tests(root, tmp_path, ["tests/runtime/test_some.py"])
    assert (seen["passed"], seen["failures"], seen["again"]) == (1, [], ["tests/runtime/test_some.py: a::b"])


def test_what_always_ends_without_a_word_is_said(tmp_path: Path) -> None:
    root = Fitful(tmp_path, arm64.ATTEMPTS)
    with pytest.raises(CmrError, match="PRoot ended without a word"):
        arm64._probe_there(root, tmp_path)
    with pytest.raises(CmrError, match="ended from outside"):
        arm64._tests(Fitful(tmp_path, arm64.ATTEMPTS), tmp_path, ["tests/runtime/test_some.py"])
    assert root.calls == arm64.ATTEMPTS


def test_other_tests_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for path in ("tests/models", "tests/runtime/test_nothing.py"):
        with pytest.raises(SystemExit):
            arm64.main(["--tests", path])
        assert f"--tests {path} is no path of tests/runtime or tests/registration" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_root_and_what_it_starts_are_aarch64(tmp_path: Path) -> None:
    try:
        root = Root(tmp_path / "cache")
    except CmrError as error:
        pytest.skip(str(error))
    code = "import os, subprocess, sys; print(os.uname().machine, flush=True)"
    again = f"{code}; subprocess.run([sys.executable, '-c', {code!r}], check=True)"
    assert root.output(["/usr/bin/python3", "-c", again]).split() == ["aarch64", "aarch64"]
