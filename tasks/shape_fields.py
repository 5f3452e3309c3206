"""What the shapes share: how a field is taken from a record, and how a record says that it is no row. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Columns = dict[str, str]
"""Our field → the record's, where its name differs."""
Fields = dict[str, str]
"""A row's fields, or some of them."""


@dataclass(frozen=True)
class Problem:
    """Why a record is no row."""

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
    if not isinstance(value, str):
        raise NoRow("wrong_type", column, value)
    return value


def optional_text(record: dict[str, Any], columns: Columns, field: str) -> str:
    return "" if record.get(columns.get(field, field)) is None else text_of(record, columns, field)
