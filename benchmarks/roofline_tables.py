# SPDX-License-Identifier: Apache-2.0
"""The report of `roofline` as text: paragraphs and tables, aligned for a terminal or in Markdown for the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cmr_runtime.errors import CmrError
from cmr_runtime.files import write_whole

__all__ = ["BEGIN", "END", "columns", "markdown", "update"]

BEGIN, END = "<!-- roofline:begin -->", "<!-- roofline:end -->"


class _Table(NamedTuple):
    title: str
    head: list[str]
    rows: list[list[str]]


def columns(report: Mapping[str, Any]) -> str:
    """Tables with aligned columns, for a terminal."""
    return _render(report, _aligned)


def markdown(report: Mapping[str, Any]) -> str:
    """Tables in Markdown, as the page holds them."""
    return _render(report, _piped)


def update(page: Path, text: str) -> None:
    """Put a text between the marks of a page.

    Raises
    ------
    CmrError
        The page cannot be read or written, or does not hold each mark once, in their order.
    """
    try:
        old = page.read_text("utf-8")
    except OSError as error:
        raise CmrError(f"{page} cannot be read: {error.strerror or error}") from error
    before, begun, rest = old.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (begun and ended) or old.count(BEGIN) + old.count(END) != 2:
        raise CmrError(f"{page} must hold the line {BEGIN} once and below it {END} once; put them where the tables go")
    write_whole(page, f"{before}{BEGIN}\n\n{text}\n\n{END}{after}".encode(), "page")


def _render(report: Mapping[str, Any], render: Callable[[_Table], str]) -> str:
    tables = [f"{table.title}:\n\n{render(table)}" for table in _tables(report)]
    return "\n\n".join([_setting(report), *tables])


def _setting(report: Mapping[str, Any]) -> str:
    machine, settings = report["machine"], report["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    added = [f"the profiler adds {1e6 * report['profiler_s']:.1f} µs to an operator"] if report["profiler_s"] else []
    if report["plans"]["graphs"]:
        added.append(f"a call up to {1e6 * report['call_s']:.1f} µs to a layer ({report['plans']['kernels']})")
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, load average {machine['load']} at the "
        f"start; {report['date']}; {versions}.\n"
        f"Bundle `{report['model']}` ({report['precision']}, {report['input_size']} px), threads: "
        f"{settings['threads']}, {settings['runs']} runs, {settings['frames']} frames; "
        f"{', '.join(added)}, which are taken off."
    )


def _tables(report: Mapping[str, Any]) -> Iterator[_Table]:
    yield _limits(report["limits"])
    for name, stage in report["stages"].items():
        unit = "layer" if name in report["plans"]["graphs"] else "operator"
        yield _stage(name, stage, unit)
        yield _slowest(name, stage, unit)
    frame = report["frame_ms"]
    yield _Table("A followed frame", ["stage", "ms"], [[name, f"{ms:.3f}"] for name, ms in frame.items()])


def _limits(limits: Mapping[str, Any]) -> _Table:
    m, k, n = limits["layer_shape"]
    rows = [
        ["large matrix product", f"{1e-9 * limits['product']:.1f} Gmac/s"],
        [f"matrix product of a layer's shape, {m} × {k} × {n}", f"{1e-9 * limits['layer']:.1f} Gmac/s"],
    ]
    for key, what in (("l2", "half the L2 cache"), ("weights", "all weights"), ("memory", "far more than the caches")):
        size = f"{1e-6 * limits[f'{key}_bytes']:.1f} MB"
        rows.append([f"sum of arrays as large as {what}, {size}", f"{1e-9 * limits[key]:.1f} GB/s"])
    return _Table("What the processor can do", ["limit", "best of all tries"], rows)


def _stage(name: str, stage: Mapping[str, Any], unit: str) -> _Table:
    head = ["group", f"{unit}s", "Mmac", "weights, kB", "activations, kB", "ms", "Gmac/s", "GB/s", "bound, ms", "by",
            "share of bound"]  # fmt: skip
    rows = []
    for group in (*stage["groups"], stage["sum"]):
        rows.append([
            group["group"], str(group["operators"]), f"{1e-6 * group['multiply_adds']:.2f}",
            f"{1e-3 * group['weight_bytes']:.0f}", f"{1e-3 * group['activation_bytes']:.0f}", f"{group['ms']:.3f}",
            f"{group['gmac_s']:.1f}", f"{group['gb_s']:.1f}", f"{group['bound_ms']:.3f}", group.get("bound_by", ""),
            f"{group['share']:.0%}",
        ])  # fmt: skip
    blank = [""] * 5
    rows.append([f"outside {unit}s", "", "", "", "", f"{stage['outside_ms']:.3f}", *blank])
    rows.append(["measured", "", "", "", "", f"{stage['measured_ms']:.3f}", *blank])
    return _Table(f"Graph `{name}`{' by its plan' if unit == 'layer' else ''}", head, rows)


def _slowest(name: str, stage: Mapping[str, Any], unit: str) -> _Table:
    rows = []
    for each in stage["slowest"]:
        inputs, outputs = (", ".join("×".join(map(str, s)) or "1" for s in each[key]) for key in ("inputs", "outputs"))
        rows.append([f"`{each['name']}`", each["kind"], f"{inputs} → {outputs}", f"{1e3 * each['seconds']:.3f}"])
    return _Table(f"{unit.title()}s of `{name}` that take longest", [unit, "type", "shapes", "ms"], rows)


def _aligned(table: _Table) -> str:
    lines = [table.head, *table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.head))]
    return "\n".join(
        "  " + "  ".join(f"{cell:{'<' if i == 0 else '>'}{widths[i]}}" for i, cell in enumerate(line)).rstrip()
        for line in lines
    )


def _piped(table: _Table) -> str:
    lines = [table.head, ["---", *["---:"] * (len(table.head) - 1)], *table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
