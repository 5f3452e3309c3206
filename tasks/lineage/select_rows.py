"""Selects rows by id or by content."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow.compute as pc

from tasks.errors import DataError
from tasks.lineage.row_history import find_row
from tasks.records.parse import read_raw, to_rows
from tasks.records.row import ROW_SCHEMA
from tasks.runtime.bounded_regex import SLOW_FIX, compile_pattern, has_match, too_slow
from tasks.state.manifest import read_manifest

Test = Callable[[Mapping[str, Any]], bool]
_CONDITION = re.compile(r"(\w+)\s*(=|~)\s*(.*)", re.DOTALL)


def select_rows(ids: list[str], conditions: list[str]) -> list[str]:
    """The complete ids of the named rows, or of the rows in data/raw that satisfy all conditions.

    Raises:
        DataError: neither or both are given, a condition is invalid, or an id matches no row or several.
    """
    if bool(ids) == bool(conditions):
        raise DataError(
            "give ids of rows, or conditions, not both", where="strop rows", fix="For example: --where source=support"
        )
    if ids:
        return list(dict.fromkeys(find_row(text)[0] for text in ids))
    tests = [parse_condition(text) for text in conditions]
    selected: dict[str, None] = {}
    for batch in read_manifest():
        rows = to_rows(read_raw(batch, check=False), batch)
        for row in rows.filter(pc.equal(rows["problem"], "")).to_pylist():
            if all(test(row) for test in tests):
                selected[row["row_id"]] = None
    return list(selected)


def parse_condition(text: str) -> Test:
    """`family=qa`, or `input~Li\\s+Lei` (a regular expression, searched anywhere).

    Raises:
        DataError: it is neither, or has no field of a row.
    """
    match = _CONDITION.fullmatch(text)
    fix = f"Write FIELD=VALUE or FIELD~REGEX; fields: {', '.join(ROW_SCHEMA.names)}"
    if match is None or match[1] not in ROW_SCHEMA.names:
        raise DataError("is no condition on a row", where=f"--where {text!r}", fix=fix)
    name, sign, value = match.groups()
    if sign == "=":
        return lambda row: str(row[name]) == value
    try:
        pattern = compile_pattern(value)
    except ValueError as error:
        raise DataError(str(error), where=f"--where {text[:200]!r}", fix=fix) from error

    def matches(row: Mapping[str, Any]) -> bool:
        try:
            return has_match(pattern, str(row[name]))
        except TimeoutError as error:
            what = f"{too_slow(str(row[name]))} (row {row['row_id']})"
            raise DataError(what, where=f"--where {text!r}", fix=SLOW_FIX) from error

    return matches
