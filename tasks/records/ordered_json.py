"""JSON that preserves the order of keys and the spelling of numbers. Pure.

`1e3` and `1000.0` are one value and two texts, and a model is trained on texts. A number that Python would write differently is
parsed as a `Number`, which keeps its digits.
"""

from __future__ import annotations

import json
import re
import secrets
from typing import Any

_MARK = f"@{secrets.token_hex(8)}:"
"""Prefix of a string that represents a number; random, so that no text contains it."""
EXACT = 2**53
"""Whole numbers below it are exact as floating-point numbers."""
_MARKED = re.compile(f'"?{_MARK}(-?[0-9.eE+-]+)@"?')


class Number:
    """A JSON number that Python would write differently: `1e3`, `1.50`, `-0`."""

    __slots__ = ("digits",)

    def __init__(self, digits: str) -> None:
        self.digits = digits

    @property
    def value(self) -> float | int:
        return int(self.digits) if self.digits.lstrip("-").isdigit() else float(self.digits)

    def __repr__(self) -> str:
        return self.digits

    def __eq__(self, other: object) -> bool:
        return self.value == (other.value if isinstance(other, Number) else other)

    def __hash__(self) -> int:
        return hash(self.value)


def read_float(digits: str) -> float | Number:
    number = float(digits)
    return number if float.__repr__(number) == digits else Number(digits)


def read_int(digits: str) -> int | Number:
    return Number(digits) if digits == "-0" else int(digits)


def _value(number: Any) -> Any:
    if isinstance(number, Number):
        return number.value
    raise TypeError(f"{type(number).__name__} is not a JSON value")


def _marked(number: Any) -> str:
    if isinstance(number, Number):
        return f"{_MARK}{number.digits}@"
    raise TypeError(f"{type(number).__name__} is not a JSON value")


_DECODER = json.JSONDecoder(parse_float=read_float, parse_int=read_int)
_FOR_TEMPLATES = json.JSONDecoder(
    parse_float=lambda digits: _for_templates(read_float(digits)),
    parse_int=lambda digits: _for_templates(read_int(digits)),
)
_COMPARABLE = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_value)
_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_marked)
_ASCII = json.JSONEncoder(separators=(",", ":"), default=_marked)


def loads(text: str) -> Any:
    """The value, its numbers as written. Raises ValueError or RecursionError as `json.loads` does."""
    return _DECODER.decode(text)


def dumps(value: Any, ensure_ascii: bool = False) -> str:
    """The value as JSON without spaces, keys in their order, numbers as written."""
    return as_written((_ASCII if ensure_ascii else _COMPACT).encode(value))


def comparable(value: Any) -> str:
    """One spelling of equal values: sorted keys, `1e3` as 1000.0."""
    return _COMPARABLE.encode(value)


def with_whole_numbers(value: Any) -> Any:
    """The value with 1.0 as 1: a column of Arrow has one type, so an integer among fractions becomes a fraction."""
    if isinstance(value, dict):
        return {key: with_whole_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_whole_numbers(inner) for inner in value]
    number = value.value if isinstance(value, Number) else value
    return int(number) if isinstance(number, float) and abs(number) < EXACT and number.is_integer() else value


def without_nulls(value: Any) -> Any:
    """The value without null values of objects: Arrow writes those for every key that another row has."""
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def for_templates(text: str) -> Any:
    """The value for a Jinja template, whose `tojson` does not support `Number`: marked strings, which `as_written` replaces."""
    return _FOR_TEMPLATES.decode(text)


def _for_templates(number: float | Number) -> float | str:
    return _marked(number) if isinstance(number, Number) else number


def as_written(text: str) -> str:
    """The text with numbers in place of the marked strings."""
    return _MARKED.sub(r"\1", text) if _MARK in text else text
