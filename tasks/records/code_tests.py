"""The tests of a programming task, as one Python text that runs after the answer. Pure.

The columns of several data sets become one form: MBPP has a list of statements and code before them, HumanEval a function `check`
and the name of the function to pass to it.
"""

from __future__ import annotations

import re
from typing import Any

from tasks.records.shape_fields import Columns, Fields, NoRow, json_of

TEST_COLUMNS = ("tests", "tests_setup", "entry_point")
"""Fields that a source has only if its `columns` names them: a column `tests` of other sources may be anything."""

_DEFINES_CHECK = re.compile(r"^def check\b", re.MULTILINE)
_CALLS_CHECK = re.compile(r"^check\(", re.MULTILINE)


def tests_of(record: dict[str, Any], columns: Columns) -> Fields:
    """The field `tests`; empty without a column for it, or without a value there."""
    if "tests" not in columns:
        return {}
    tests = _statements(record, columns, "tests")
    if not tests:
        return {}
    if setup := _statements(record, columns, "tests_setup"):
        tests = f"{setup}\n\n{tests}"
    if name := _statements(record, columns, "entry_point"):
        if not name.isidentifier():
            raise NoRow("wrong_type", columns["entry_point"], name)
        if _DEFINES_CHECK.search(tests) and not _CALLS_CHECK.search(tests):
            tests = f"{tests}\n\ncheck({name})"
    return {"tests": tests}


def _statements(record: dict[str, Any], columns: Columns, field: str) -> str:
    """A text, or a list of texts as lines; CSV and databases store a list as JSON."""
    column = columns.get(field)
    value = None if column is None else record.get(column)
    if isinstance(value, str) and value.lstrip().startswith('["'):
        value = json_of(value, field)
    texts = value if isinstance(value, list) else [value or ""]
    if not all(isinstance(text, str) for text in texts):
        raise NoRow("wrong_type", column or field, value)
    return "\n".join(text.replace("\r\n", "\n").strip("\n") for text in texts).strip("\n")
