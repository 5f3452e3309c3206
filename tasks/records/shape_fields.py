"""Shared by the shapes: reading fields of a record, and the problem because of which it is not a row. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

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


def wrong_type(field: str, value: Any) -> NoRow:
    """The error for a value, or a sentence about it, that does not fit its field."""
    return NoRow("wrong_type", field, value)


def value_of(record: dict[str, Any], column: str) -> Any:
    """The value of a required column; raises NoRow if it is missing."""
    if (value := record.get(column)) is None:
        raise NoRow("missing_field", column, sorted(record))
    return value


def text_of(record: dict[str, Any], columns: Columns, field: str) -> str:
    column = columns.get(field, field)
    value = value_of(record, column)
    if isinstance(value, dict) and value.keys() == {"bytes"}:
        raise NoRow("encoding_damage", column, "bytes that are not UTF-8")
    if not isinstance(value, str):
        raise wrong_type(column, value)
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


def json_value(value: Any, field: str) -> Any:
    """The value, parsed if it is text: CSV and databases store lists as JSON."""
    return json_of(value, field) if isinstance(value, str) else value


def list_of(value: Any, field: str) -> list[Any]:
    """As `json_value`; raises NoRow if it is not a list."""
    value = json_value(value, field)
    if not isinstance(value, list):
        raise wrong_type(field, value)
    return value


class Turn(NamedTuple):
    """A turn. A record's turn with both a text and a call is two."""

    role: str
    text: str
    images: tuple[str, ...] = ()
    """Hashes; each is `<image>` in the text."""
    is_trained: bool = True
    thought: str = ""
    ids: tuple[str | None, ...] = ()
    """Of a `tool_call`: ids of its calls; of a `tool`: id of the call that it answers."""
    speaker: str = ""
    """Of a `tool`: its name, if the record has it; else `observation`, if that is its role in the record."""

    @property
    def is_plain(self) -> bool:
        return self[2:] == _PLAIN


_PLAIN = ((), True, "", (), "")
