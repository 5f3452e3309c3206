"""Strict JSON: no repeated keys, no NaN, bounded nesting. Violations are errors.

Python's parser takes the last of two equal keys and reads NaN; both mean that an export is broken, and a value may be lost.
"""

from __future__ import annotations

import json
import math
from typing import Any

from tasks.records.ordered_json import Number, read_float, read_int

DEEPEST = 200
"""Levels of nesting. Deeper values would exceed the recursion limit of a later reader."""
TOO_DEEP = f"nested_too_deeply: more than {DEEPEST} levels"


class StrictDecoder:
    """Decodes values one after another; `fault` is the violation of the last one."""

    def __init__(self) -> None:
        self.fault = ""
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_constant=self._constant,
            parse_float=self._float,
            parse_int=read_int,
        )

    def decode(self, text: str) -> tuple[Any, str]:
        """The value of a whole text, and its error as "code: detail", or ""."""
        self.fault = ""
        try:
            value = self._decoder.decode(text)
        except RecursionError:
            return None, TOO_DEEP
        except ValueError as error:
            return None, f"not_json: {error}"
        return value, self.fault or fault_of_depth(value, text)

    def decode_at(self, text: str, start: int) -> tuple[Any, int]:
        """The value that begins at `start`, and its end. The caller checks `fault`.

        Raises:
            ValueError, RecursionError: as the json module does.
        """
        self.fault = ""
        return self._decoder.raw_decode(text, start)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            seen: set[str] = set()
            repeated = {name for name, _ in pairs if name in seen or seen.add(name)}  # type: ignore[func-returns-value]
            twice = next(name for name, _ in pairs if name in repeated)
            self.fault = self.fault or f"duplicate_keys: `{twice[:100]}` stands more than once in an object"
        return members

    def _float(self, digits: str) -> float | Number:
        number = read_float(digits)
        if isinstance(number, Number) and math.isinf(number.value):  # `1e999`
            self.fault = self.fault or f"not_finite: {digits[:40]} is larger than any number that is kept"
        return number

    def _constant(self, name: str) -> None:
        self.fault = self.fault or f"not_finite: {name} is no JSON number"


def fault_of_depth(value: Any, text: str) -> str:
    """The error of the value's depth, or "".

    Args:
        text: of the value; its brackets show cheaply that most values are shallow.
    """
    if text.count("[") + text.count("{") <= DEEPEST or _depth(value) <= DEEPEST:
        return ""
    return TOO_DEEP


def _depth(value: Any) -> int:
    """Levels of nesting, without recursion."""
    deepest = 0
    pending = [(value, 1)]
    while pending:
        current, level = pending.pop()
        if isinstance(current, (dict, list)):
            deepest = max(deepest, level)
            inner = current.values() if isinstance(current, dict) else current
            pending += [(child, level + 1) for child in inner if isinstance(child, (dict, list))]
    return deepest
