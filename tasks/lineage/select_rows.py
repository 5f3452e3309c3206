"""Rows by id, or by what stands in them."""

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


def chosen_rows(ids: list[str], conditions: list[str]) -> list[str]:
    """Whole ids of the rows that are named, or of those in data/raw for which all conditions hold.

    Raises:
        DataError: neither is given, a condition is none, or an id names no row, or several.
    """
    if bool(ids) == bool(conditions):
        raise DataError(
            "give ids of rows, or conditions, not both", where="strop rows", fix="For example: --where source=support"
        )
    if ids:
        return list(dict.fromkeys(find_row(each)[0] for each in ids))
    tests = [parse_condition(each) for each in conditions]
    found: dict[str, None] = {}
    for batch in read_manifest():
        rows = to_rows(read_raw(batch, check=False), batch)
        for row in rows.filter(pc.equal(rows["problem"], "")).to_pylist():
            if all(test(row) for test in tests):
                found[row["row_id"]] = None
    return list(found)


def parse_condition(text: str) -> Test:
    """`family=qa`, or `input~Li\\s+Lei` (a regular expression, found anywhere).

    Raises:
        DataError: it is neither, or names no field of a row.
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
