"""Shared by the shapes: reading fields of a record, and the problem because of which it is not a row. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks.records.strict_json import StrictDecoder

Columns = dict[str, str]
"""Our field → column of the record, if its name differs."""
Fields = dict[str, str]
"""A row's fields, or some of them."""


@dataclass(frozen=True)
class Problem:
    """Why a record is not a row."""

    code: str
    """One of the first rules in `rules.py`."""
    field: str = ""
    value: Any = None


class NoRow(Exception):
    """Raised by the shapes, and caught by `to_fields`."""

    def __init__(self, code: str, field: str = "", value: Any = None) -> None:
        super().__init__(code)
        self.problem = Problem(code, field, value)


def text_of(record: dict[str, Any], columns: Columns, field: str) -> str:
    column = columns.get(field, field)
    value = record.get(column)
    if value is None:
        raise NoRow("missing_field", column, sorted(record))
    if isinstance(value, dict) and value.keys() == {"bytes"}:
        raise NoRow("encoding_damage", column, "bytes that are not UTF-8")
    if not isinstance(value, str):
        raise NoRow("wrong_type", column, value)
    return value


def optional_text(record: dict[str, Any], columns: Columns, field: str) -> str:
    return "" if record.get(columns.get(field, field)) is None else text_of(record, columns, field)


def json_of(text: str, field: str) -> Any:
    """A JSON value within a record's text.

    Raises:
        NoRow: `wrong_type` if it is not JSON; else the code of its error, such as `duplicate_keys` or `not_finite`.
    """
    value, error = StrictDecoder().decode(text)
    code = error.partition(":")[0]
    if error:
        is_not_json = code == "not_json" or "is no JSON number" in error
        raise NoRow("wrong_type" if is_not_json else code, field, text)
    return value


def list_of(value: Any, field: str) -> Any:
    """The value, parsed if it is text: CSV and databases store lists as JSON."""
    return json_of(value, field) if isinstance(value, str) else value
