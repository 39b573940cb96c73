# SPDX-License-Identifier: Apache-2.0
"""A report back from its file, checked against the types of `report`: what comes from outside is data."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
import unicodedata
from pathlib import Path
from typing import Any, TypeVar

from ..errors import InputError
from .report import COLD_PARTS, KIND, SCHEMA, Report
from .tables import KINDS

__all__ = ["read_report"]

_MOST_BYTES = 64 * 2**20
#: Categories of characters that no text of one line has, and that a terminal may obey.
_CONTROL = ("Cc", "Cs", "Zl", "Zp")
_T = TypeVar("_T")


def read_report(path: Path) -> Report:
    """Read a file that ``cmr-bench --json`` printed.

    Raises
    ------
    InputError
        It cannot be read, is too large, or is no such file; the message says where it departs from one.
    """
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise InputError(f"{path} has {size} bytes; results have at most {_MOST_BYTES}")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON file ({error}); give one that `cmr-bench --json` printed") from None
    if not isinstance(value, dict) or value.get("kind") != KIND:
        raise InputError(f'{path} holds no results of cmr-bench (its "kind" is not "{KIND}")')
    if value.get("schema") != SCHEMA:
        raise InputError(f"{path} has schema {value.get('schema')!r}; this version reads {SCHEMA}")
    try:
        report: Report = _read(Report, value, "")
        _check(report)
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}; take the file anew") from None
    return report


def _check(report: Report) -> None:
    """Refuse what the types allow and a table cannot show."""
    for entry in report.entries:
        lengths = {len(entry.samples.ms), len(entry.samples.hands), len(entry.samples.detecting)}
        if lengths != {report.settings.frames * report.settings.plan.passes}:
            raise ValueError(f"samples of {entry.name} are not as many as frames were shown")
        if min(entry.samples.ms, default=0.0) <= 0.0:
            raise ValueError(f"samples of {entry.name} hold a time that is not positive")
        if "all" not in entry.frames:
            raise ValueError(f"{entry.name} has no figures of all frames")
        if set(entry.cold_start_ms) != {*COLD_PARTS, "total"}:
            raise ValueError(f"cold start of {entry.name} is not told by {', '.join(COLD_PARTS)} and total")
    names = {entry.name for entry in report.entries}
    for name in (name for pair in report.compared for name in (pair.ours, pair.peer)):
        if name not in names:
            raise ValueError(f"{name} is compared but took no part")
    for kind in (kind for pair in report.compared for kind in pair.ratios):
        if kind not in KINDS:
            raise ValueError(f"a ratio is of {kind!r}, no kind of frame ({', '.join(KINDS)})")
    if not report.entries:
        raise ValueError("nobody took part")


def _read(form: Any, value: Any, where: str) -> Any:
    """Return the value as a type of the classes above; ValueError says where it is of another form."""
    origin, parts = typing.get_origin(form), typing.get_args(form)
    if origin is types.UnionType:  # only `… | None`
        return None if value is None else _read(parts[0], value, where)
    if dataclasses.is_dataclass(form):
        fields = _expect(dict, value, where)
        hints = typing.get_type_hints(form)
        if fields.keys() != hints.keys():
            odd = ", ".join(sorted(map(str, fields.keys() ^ hints.keys())))
            raise ValueError(f"{where or 'the top'} lacks or has too many of: {odd[:200]}")
        return form(**{name: _read(hint, fields[name], f"{where}.{name}".strip(".")) for name, hint in hints.items()})  # type: ignore[operator]
    if origin is list:
        return [_read(parts[0], item, f"{where}[{k}]") for k, item in enumerate(_expect(list, value, where))]
    if origin is dict:
        items = _expect(dict, value, where).items()
        return {_read(str, key, where): _read(parts[1], item, f"{where}.{key}") for key, item in items}
    if form is float and type(value) is int:
        value = float(value)
    value = _expect(form, value, where)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}, no number")
    if isinstance(value, str) and (len(value) > 500 or any(unicodedata.category(c) in _CONTROL for c in value)):
        raise ValueError(f"{where} is no short plain text")
    return value


def _expect(form: type[_T], value: object, where: str) -> _T:
    if type(value) is not form:
        raise ValueError(f"{where or 'the top'} is {str(value)[:40]!r}, not of type {form.__name__}")
    return value
