# SPDX-License-Identifier: Apache-2.0
"""A report for people: a text table, a Markdown table, and the frames one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .report import COLD_PARTS, Entry, Figures, Machine, Ratio, Report

__all__ = ["KINDS", "each_frame", "markdown", "table"]

_COLUMNS = ("n", "mean", "P50", "P90", "P95", "P99")
_KIND_WIDE = 14
#: Kinds of frames, and what tables call them.
KINDS = {"all": "all frames", "tracked": "tracked frames", "detecting": "detecting frames"}


def table(report: Report) -> str:
    """Return all figures as text."""
    wide = max(len(entry.name) for entry in report.entries) + 2
    lines = [*_about(report), "", *_heading("cold start, ms", wide + _KIND_WIDE + 2, (*COLD_PARTS, "total"))]
    for entry in report.entries:
        cold = (f"{entry.cold_start_ms[part]:9.1f}" for part in (*COLD_PARTS, "total"))
        lines.append(f"  {entry.name:{wide + _KIND_WIDE}}{''.join(cold)}")
    lines += ["", *_heading("whole frame, ms", wide + _KIND_WIDE + 2, (*_COLUMNS, "FPS"))]
    for entry in report.entries:
        for kind, figures in {"warm-up": entry.warm_up, **entry.frames}.items():
            lines.append(f"  {entry.name:{wide}}{kind:{_KIND_WIDE}}{_row(figures)}{figures.fps:9.1f}")
    for kind in ("tracked", "detecting"):
        told = [entry for entry in report.entries if entry.stages.get(kind)]
        if told:
            lines += ["", *_heading(f"stages of {KINDS[kind]}, ms", wide + _KIND_WIDE + 2)]
        for entry in told:
            rows = entry.stages[kind].items()
            lines += [f"  {entry.name:{wide}}{stage:{_KIND_WIDE}}{_row(figures)}" for stage, figures in rows]
    lines += ["", *_heading("processor and memory", wide + _KIND_WIDE + 2, ("cores", "MiB".rjust(14), "no hand"))]
    for entry in report.entries:
        lines.append(
            f"  {entry.name:{wide + _KIND_WIDE}}{entry.cpu_share:9.2f}{_memory(entry):>14}{entry.without_hand:9d}"
        )
    for pair in report.compared:
        lines += ["", f"{pair.ours} / {pair.peer}, ratio frame by frame"]
        for kind, ratio in pair.ratios.items():
            lines.append(f"  {KINDS[kind]:18}{ratio.median:.2f} {_spread(ratio)}")
    return "\n".join(lines)


def markdown(report: Report) -> str:
    """Return what a README shows: a table, the ratios, and machine, versions and date."""
    columns = (
        "hand found",
        "tracked frame, ms: median",
        "P95",
        "P99",
        "detecting frame, ms: median (frames)",
        "frames/s",
    )
    lines = [f"| | {' | '.join((*columns, 'cores', 'MiB', 'cold start, ms'))} |", "|---" * (len(columns) + 4) + "|"]
    for entry in report.entries:
        tracked, detecting = entry.frames.get("tracked"), entry.frames.get("detecting")
        cells = [f"{100 * (1 - entry.without_hand / entry.frames['all'].n):.0f} %"]
        times = None if tracked is None else (tracked.p50_ms, tracked.p95_ms, tracked.p99_ms)
        cells += ["–"] * 3 if times is None else [f"{ms:.2f}" for ms in times]
        cells += ["–" if detecting is None else f"{detecting.p50_ms:.1f} ({detecting.n})"]
        cells += [f"{entry.frames['all'].fps:.0f}", f"{entry.cpu_share:.2f}", _memory(entry)]
        lines.append(f"| {_cell(entry.name)} | {' | '.join(cells)} | {entry.cold_start_ms['total']:.0f} |")
    lines.append("")
    for pair in report.compared:
        both = pair.ratios.get("tracked")
        told = "no frame is tracked by both" if both is None else f"**{both.median:.2f}** {_spread(both)}"
        lines.append(f"- {_cell(pair.ours)} / {_cell(pair.peer)}, tracked frames: {told}")
    return "\n".join([*lines, *([""] if report.compared else []), "; ".join(map(_cell, _about(report))) + "."])


def each_frame(report: Report) -> Iterator[str]:
    """Give a line for each frame: the times of all, d where it was searched for hands, and the ratios."""
    entries = {entry.name: entry for entry in report.entries}
    yield "  ".join(["pass", "frame", *entries, *(f"{pair.ours} / {pair.peer}" for pair in report.compared)])
    for k in range(report.settings.frames * report.settings.plan.passes):
        turn, frame = divmod(k, report.settings.frames)
        cells = [f"{turn:4}", f"{frame:5}"]
        for name, entry in entries.items():
            mark = "d" if entry.samples.detecting[k] else " "
            cells.append(f"{entry.samples.ms[k]:.2f}{mark}".rjust(len(name)))
        for pair in report.compared:
            ratio = entries[pair.ours].samples.ms[k] / entries[pair.peer].samples.ms[k]
            cells.append(f"{ratio:.2f}".rjust(len(f"{pair.ours} / {pair.peer}")))
        yield "  ".join(cells)


def _about(report: Report) -> list[str]:
    """Machine, versions and date, and what was shown."""
    s = report.settings
    versions = dict(report.versions)
    for entry in report.entries:
        if "mediapipe" in entry.versions:
            versions["mediapipe"] = entry.versions["mediapipe"]
        if "torch" in entry.versions:
            versions["torch"] = entry.versions["torch"]
    shown = "an image, shown as a video" if s.still else "a video"
    passes = f"{s.plan.passes} pass{'es' * (s.plan.passes > 1)}"
    return [
        _machine(report.machine),
        f"{report.date}; {', '.join(f'{name} {version}' for name, version in versions.items())}",
        f"{s.clip}, {shown}: {s.frames} frames of {s.width}×{s.height}, {passes} in turns of "
        f"{s.plan.block} frames; at most {s.num_hands} hand{'s' * (s.num_hands > 1)}",
    ]


def _machine(machine: Machine) -> str:
    load = "not told" if machine.load is None else f"{machine.load:.2f}"
    governor = machine.governor or "not told"
    return f"{machine.processor}, {machine.cores} cores, governor {governor}, {machine.system}, load {load}"


def _heading(what: str, wide: int, columns: Sequence[str] = _COLUMNS) -> list[str]:
    return [f"{what:{wide}}{''.join(f'{column:>9}' for column in columns)}"]


def _row(f: Figures) -> str:
    times = (f.mean_ms, f.p50_ms, f.p90_ms, f.p95_ms, f.p99_ms)
    return f"{f.n:9d}{''.join(f'{ms:9.2f}' for ms in times)}"


def _spread(ratio: Ratio) -> str:
    share = f"faster in {ratio.faster} of {ratio.n} frames"
    return f"(quartiles {ratio.q1:.2f} to {ratio.q3:.2f}), P95 {ratio.p95:.2f}, {share}"


def _memory(entry: Entry) -> str:
    return "not measured" if entry.peak_memory_mb is None else f"{entry.peak_memory_mb:.0f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
