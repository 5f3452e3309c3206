"""JSON as the standard has it: a key once in an object, no NaN, no endless nesting. What breaks that is told, not guessed at.

Python's own parser takes the last of two equal keys and reads NaN; both mean that somebody's export is broken, and a value
may be lost.
"""

from __future__ import annotations

import json
import math
from typing import Any

from tasks.records.ordered_json import Number, read_float, read_int

DEEPEST = 200
"""Levels of nesting. Deeper values would meet the recursion limit of some later reader."""


class StrictDecoder:
    """Decodes values one after another; `fault` is what the last one broke."""

    def __init__(self) -> None:
        self.fault = ""
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_constant=self._constant,
            parse_float=self._float,
            parse_int=read_int,
        )

    def decode(self, text: str) -> tuple[Any, str]:
        """The value of a whole text, and what is wrong with it as "code: detail" ("" for nothing)."""
        self.fault = ""
        try:
            value = self._decoder.decode(text)
        except RecursionError:
            return None, too_deep()
        except ValueError as error:
            return None, f"not_json: {error}"
        return value, self.fault or fault_of_depth(value, text)

    def decode_at(self, text: str, start: int) -> tuple[Any, int]:
        """The value that begins at `start`, and where it ends; look at `fault` then.

        Raises:
            ValueError, RecursionError: as the json module does.
        """
        self.fault = ""
        return self._decoder.raw_decode(text, start)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            seen: set[str] = set()
            repeated = {name for name, _ in pairs if name in seen or seen.add(name)}  # type: ignore[func-returns-value]
            twice = next(name for name, _ in pairs if name in repeated)
            self.fault = self.fault or f"duplicate_keys: `{twice[:100]}` stands more than once in an object"
        return found

    def _float(self, digits: str) -> float | Number:
        number = read_float(digits)
        if isinstance(number, Number) and math.isinf(number.value):  # `1e999`
            self.fault = self.fault or f"not_finite: {digits[:40]} is larger than any number that is kept"
        return number

    def _constant(self, name: str) -> None:
        self.fault = self.fault or f"not_finite: {name} is no JSON number"


def too_deep() -> str:
    return f"nested_too_deeply: more than {DEEPEST} levels"


def fault_of_depth(value: Any, text: str) -> str:
    """What is wrong with the value's depth, "" for nothing.

    Args:
        text: what the value was read from; it tells cheaply that most values are shallow.
    """
    if text.count("[") + text.count("{") <= DEEPEST or _depth(value) <= DEEPEST:
        return ""
    return too_deep()


def _depth(value: Any) -> int:
    """Levels of nesting, without recursion."""
    deepest = 0
    waiting = [(value, 1)]
    while waiting:
        current, level = waiting.pop()
        if isinstance(current, (dict, list)):
            deepest = max(deepest, level)
            inner = current.values() if isinstance(current, dict) else current
            waiting += [(each, level + 1) for each in inner if isinstance(each, (dict, list))]
    return deepest
