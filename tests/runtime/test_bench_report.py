# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import pytest
from bench_report import make_report

from cmr_runtime import InputError
from cmr_runtime.bench.cli import main
from cmr_runtime.bench.figures import summarise
from cmr_runtime.bench.plot import draw
from cmr_runtime.bench.reading import read_report
from cmr_runtime.bench.report import Ratio, to_json
from cmr_runtime.bench.tables import each_frame, markdown, table


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "results.json"
    path.write_text(to_json(make_report()), "utf-8")
    return path


def test_a_report_comes_back_from_its_file(path: Path) -> None:
    assert read_report(path) == make_report()


def test_names_of_clips_may_have_any_spaces(path: Path) -> None:
    report = json.loads(path.read_text("utf-8"))
    report["settings"]["clip"] = "Screen Recording 3.45\u202fPM \U0001f44b\u200d.mov"  # a narrow space, as macOS has it
    path.write_text(json.dumps(report), "utf-8")
    assert read_report(path).settings.clip == report["settings"]["clip"]


def _set(value: Any, *keys: Any) -> Any:
    def change(report: dict) -> None:
        *way, last = keys
        for key in way:
            report = report[key]
        if value is None:
            del report[last]
        else:
            report[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set("cmr-track", "kind"), "holds no results of cmr-bench"),
        (_set(2, "schema"), "has schema 2; this version reads 1"),
        (_set(None, "machine", "governor"), "machine lacks or has too many of: governor"),
        (_set("yes", "extra"), "the top lacks or has too many of: extra"),
        (
            _set("fast", "entries", 0, "frames", "all", "p50_ms"),
            r"entries\[0\].frames.all.p50_ms is 'fast', not",
        ),
        (_set(float("nan"), "entries", 0, "cpu_share"), r"entries\[0\].cpu_share is nan, no number"),
        (_set(True, "settings", "frames"), "settings.frames is 'True', not of type int"),
        (_set("\x1b[2J", "machine", "processor"), "machine.processor is no short plain text"),
        (_set([1.0], "entries", 0, "samples", "ms"), "samples of hand fp32, 1 thread are not as many"),
        (_set(-1.0, "entries", 0, "samples", "ms", 0), "hold a time that is not positive"),
        (_set([], "entries", 0), r"entries\[0\] is '\[\]', not of type dict"),
        (_set("nobody", "compared", 0, "peer"), "nobody is compared but took no part"),
        (
            _set(dataclasses.asdict(Ratio(1, 1, 0.5, 0.5, 0.5, 0.5)), "compared", 0, "ratios", "foo"),
            r"a ratio is of 'foo', no kind of frame \(all, tracked, detecting\)",
        ),
        (_set(None, "entries", 1, "frames", "all"), "full has no figures of all frames"),
        (_set(None, "entries", 0, "cold_start_ms", "load"), "cold start of hand fp32, 1 thread"),
    ],
)
def test_a_foreign_or_damaged_file_is_refused_in_one_sentence(path: Path, change: Any, words: str) -> None:
    report = json.loads(path.read_text("utf-8"))
    change(report)
    path.write_text(json.dumps(report), "utf-8")
    with pytest.raises(InputError, match=words) as error:
        read_report(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"PK\x03\x04\xff", b"[" * 100_000, b'"text"'])
def test_what_is_no_result_at_all_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.json (is no JSON|holds no results)"):
        read_report(tmp_path / "a.json")


def test_a_file_that_is_too_large_is_so_called(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmr_runtime.bench.reading._MOST_BYTES", 10)
    with pytest.raises(InputError, match=r"^\S+results\.json has \d+ bytes; results have at most 10$"):
        read_report(path)


def test_the_table_says_machine_date_figures_and_ratio() -> None:
    text = table(make_report())
    for words in ("Some CPU, 4 cores, governor not told", "2026-11-22T12:00Z", "mediapipe 0.10.14", "not measured"):
        assert words in text
    (row,) = [line for line in text.splitlines() if line.startswith("  hand") and " all " in line]
    assert row.split()[-7:] == ["4", "4.50", "4.50", "5.00", "5.00", "5.00", "222.2"]
    assert "tracked frames    0.50 (quartiles 0.50 to 0.50), P95 0.50, faster in 3 of 3" in text


def test_the_markdown_table_is_one() -> None:
    lines = markdown(make_report()).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 4
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1
    assert "tracked frames: **0.50**" in "\n".join(lines)
    assert "100 %" in rows[2]
    assert "Some CPU" in lines[-1]


def test_frames_a_second_are_of_all_frames() -> None:
    report = make_report()
    entry = report.entries[0]
    entry.frames["tracked"], entry.frames["detecting"] = summarise([1.0]), summarise([40.0, 60.0])
    header, _, row, _ = [line.split(" | ") for line in markdown(report).splitlines() if line.startswith("|")]
    assert row[header.index("frames/s")] == f"{entry.frames['all'].fps:.0f}" == "222"
    assert row[header.index("detecting frame, ms: median (frames)")] == "50.0 (2)"


def test_each_frame_has_its_line() -> None:
    lines = list(each_frame(make_report()))
    assert len(lines) == 1 + 4
    assert [line.split() for line in lines[1:3]] == [
        ["0", "0", "4.00d", "8.00d", "0.50"],
        ["0", "1", "5.00", "10.00", "0.50"],
    ]


def test_the_command_shows_a_file_again(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--read", str(path)]) == 0
    assert capsys.readouterr().out.rstrip("\n") == table(make_report())
    assert main(["--read", str(path), "--json"]) == 0
    assert capsys.readouterr().out == path.read_text("utf-8")
    assert main(["--read", str(path), "--markdown", "--each"]) == 0
    assert main(["--read", str(tmp_path / "none.json")]) == 2
    assert "none.json cannot be read" in capsys.readouterr().err


def test_a_picture_is_drawn(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert main(["--read", str(path), "--plot", str(tmp_path / "a.png")]) == 0
    assert cv2.imread(str(tmp_path / "a.png")) is not None
    assert main(["--read", str(path), "--plot", str(tmp_path / "a.xyz")]) == 2
    assert "ends in one of" in capsys.readouterr().err


def test_without_matplotlib_the_mend_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r"pip install 'cmr-runtime\[bench\]'"):
        draw(make_report(), tmp_path / "a.png")
