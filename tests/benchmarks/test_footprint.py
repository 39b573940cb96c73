# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import footprint
from cmr_runtime import CmrError


def _distribution(site: Path, name: str, version: str, files: dict[str, int]) -> None:
    """A distribution with files of so many bytes, and a record of them and of itself, as pip leaves it."""
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    for path, size in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_bytes(bytes(size))
    listed = [*files, f"{info.name}/METADATA", f"{info.name}/RECORD", "gone/since.py"]
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in listed))


def _own(site: Path, folder: str) -> int:
    return sum(path.stat().st_size for path in (site / folder).iterdir())


def test_sizes_are_those_of_the_recorded_files_and_largest_first(tmp_path: Path) -> None:
    _distribution(tmp_path, "small", "1.0", {"small/__init__.py": 10, "small/deep/data.bin": 300})
    _distribution(tmp_path, "large", "2.5", {"large.so": 70_000})
    (tmp_path / "large" / "not_recorded").mkdir(parents=True)
    (tmp_path / "large" / "not_recorded" / "cache.bin").write_bytes(bytes(10**6))
    large, small = footprint.installed(tmp_path)
    assert (large.name, large.version) == ("large", "2.5")
    assert large.bytes == 70_000 + _own(tmp_path, "large-2.5.dist-info")
    assert (small.name, small.bytes) == ("small", 310 + _own(tmp_path, "small-1.0.dist-info"))


def test_a_distribution_without_a_record_is_refused(tmp_path: Path) -> None:
    _distribution(tmp_path, "odd", "1.0", {"odd.py": 1})
    (tmp_path / "odd-1.0.dist-info" / "RECORD").unlink()
    with pytest.raises(CmrError, match=r"odd in .* has no record of its files; install it again"):
        footprint.installed(tmp_path)


def test_import_times_are_summed_by_package() -> None:
    text = """import time: self [us] | cumulative | imported package
import time:       100 |        100 |   json.decoder
import time:       250 |        350 | json
import time:      2000 |       2000 |     numpy._core
import time:      1000 |       3000 |   numpy
import time:        50 |       3050 | cmr_runtime.camera
"""
    assert footprint.import_shares(text) == {
        "numpy": pytest.approx(3e-3),
        "the standard library": pytest.approx(350e-6),
        "cmr_runtime": pytest.approx(50e-6),
    }


def test_promises_are_held_against_the_whole_start_and_the_highest_peak() -> None:
    report = {
        "import_s": {"import cmr_runtime": 0.01, footprint.TRACKER: 0.31},
        "cold_start_s": {"import": 0.7, "first frame": 0.51},
        "peak_bytes": {"1 frame": 249e6, "300 frames": 250e6},
    }
    loaded, cold, peak = footprint.bars(report)
    assert (loaded["met"], cold["met"], peak["met"]) == (False, False, True)
    assert "1.210 s" in cold["seen"]
    report["cold_start_s"]["first frame"], report["peak_bytes"]["300 frames"] = 0.49, 251e6
    assert [bar["met"] for bar in footprint.bars(report)] == [False, True, False]


def test_the_probe_reports_every_part_of_a_start() -> None:
    import json
    import time

    command = [sys.executable, footprint.PROBE, repr(time.monotonic()), footprint.SAMPLE]
    command += [footprint.SAMPLE.with_suffix(".json"), 2]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
    seen = json.loads(done.stdout)
    assert seen["hands"] == 1
    assert set(seen["seconds"]) >= {"import", "making the tracker", "first frame"}
    assert min(seen["seconds"].values()) > 0
    peaks = list(seen["peak_bytes"].values())
    assert peaks == sorted(peaks)
    assert peaks[0] > 10**6  # bytes, not KiB


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import cmr_runtime", ("numpy", "onnxruntime", "cv2", "scipy")),
        ("from cmr_runtime import Camera, CameraError", ("onnxruntime", "cv2", "scipy")),
        ("from cmr_runtime import *", ("scipy", "osqp", "torch", "cmr_models")),
    ],
)
def test_the_package_loads_no_more_than_is_asked_for(statement: str, absent: tuple[str, ...]) -> None:
    code = f"{statement}\nimport sys\nprint([m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_comes_from_the_module_that_defines_it() -> None:
    code = """
import cmr_runtime
assert set(cmr_runtime.__all__) <= set(dir(cmr_runtime))
for name in set(cmr_runtime.__all__) - {"__version__"}:
    value = getattr(cmr_runtime, name)
    assert value.__name__ == name and value.__module__.startswith("cmr_runtime."), name
    assert vars(cmr_runtime)[name] is value, name
try:
    cmr_runtime.Nonsense
except AttributeError as error:
    assert "Nonsense" in str(error)
else:
    raise AssertionError
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_too_few_processes_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        footprint.main(["--processes", "1"])
    assert "--processes is 1; give a whole number from 2" in capsys.readouterr().err
