"""Checks the size of a value before a template creates it."""

from __future__ import annotations

import re
from collections.abc import ItemsView, Sized, ValuesView
from typing import Any

from jinja2.exceptions import SecurityError

MAX_CHARACTERS = 64 * 1024 * 1024
"""The limit for one string, and for the rendered text."""
MAX_ITEMS = 1_000_000
"""The limit for one list made from others."""
MAX_WIDTH = 1_000_000
VALUES = (list, tuple, set, frozenset, ValuesView, ItemsView, dict)
_WIDTH_BY_VALUE = re.compile(r"\{[^{}]*\{")
_LONG_NUMBER = re.compile(r"[0-9]{3,7}")
WIDE_PERCENT = re.compile(r"%[^a-zA-Z%]*(?:[0-9]{7}|\*)")
_WIDE_FORMAT = re.compile(r"\{[^{}]*[0-9]{7}")
_PADDING = ("center", "expandtabs", "ljust", "rjust", "zfill")


def weigh(value: Any) -> tuple[int, int]:
    """The number of characters and of items of a value when it is written, including all nested values.

    Raises:
        SecurityError: the value exceeds a limit.
    """
    characters = items = 0
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, (str, bytes)):
            characters += len(part)
        elif isinstance(part, VALUES):
            items += len(part)
            require_size([], items)
            pending.extend(part)
            pending.extend(part.values() if isinstance(part, dict) else ())
        characters += 1
        require_size("", characters)
    return characters, items


def require_text(owner: str | bytes, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Checks the size of the result of a string method or a filter."""
    values = [*arguments, *options.values()]
    if name in _PADDING or name in ("indent", "wordwrap"):
        if not all(is_small(value, MAX_WIDTH) for value in values if isinstance(value, int)):
            raise SecurityError(f"a text of more than {MAX_WIDTH:,} characters by {name}")
        widest = max((abs(value) for value in values if isinstance(value, int)), default=8)
        if name == "expandtabs":
            require_size("", len(owner) * max(widest, 1))
        elif name == "indent":
            require_size("", len(owner) + str(owner).count("\n") * widest)
    elif name in ("format", "format_map"):
        is_wide = any(isinstance(value, int) and not is_small(value, MAX_WIDTH) for value in values)
        if is_wide or _WIDE_FORMAT.search(str(owner)) or WIDE_PERCENT.search(str(owner)):
            raise SecurityError(f"a text of more than {MAX_WIDTH:,} characters by {name}")
        require_formatted(str(owner), [value for value in values if value is not owner])
    elif name == "tojson":
        if not all(is_small(value, 64) for value in values if isinstance(value, int)):
            raise SecurityError("an indentation of more than 64 characters by tojson")
    elif name == "translate":
        table = [text for mapping in values if isinstance(mapping, dict) for text in mapping.values()]
        require_size("", len(owner) * max((len(text) for text in table if isinstance(text, str)), default=1))
    elif name == "replace":
        texts = [value for value in values if isinstance(value, (str, bytes))]
        longest = max(map(len, texts), default=0)
        shortest = max(min(map(len, texts), default=1), 1)
        require_size("", len(owner) + (len(owner) // shortest + 1) * longest if longest > 64 else 0)


def require_formatted(text: str, values: list[Any]) -> None:
    """Checks the maximum size of a format string with its values."""
    is_number_a_width = _WIDTH_BY_VALUE.search(text) is not None
    widest = 0
    for value in values:
        if is_number_a_width and (isinstance(value, int) or (isinstance(value, str) and value.strip().isdecimal())):
            require_size("", len(str(value)) * MAX_WIDTH if len(str(value)) > 8 else abs(int(value)))
            widest = max(widest, abs(int(value)))
        widest = max(widest, weigh(value)[0])
    placeholders = text.count("{") + text.count("%")
    require_size("", len(text) + placeholders * widest + sum(map(int, _LONG_NUMBER.findall(text))))


def require_product(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > 4096:
            raise SecurityError("a product of large numbers")
        return
    for many, times in ((left, right), (right, left)):
        if isinstance(many, Sized) and isinstance(times, int):
            require_size(many, len(many) * max(times, 0))


def require_size(kind: Any, size: int) -> None:
    most, what = (MAX_CHARACTERS, "characters") if isinstance(kind, (str, bytes)) else (MAX_ITEMS, "items")
    if size > most:
        raise SecurityError(f"it creates more than {most:,} {what} at once")


def is_small(value: Any, most: int) -> bool:
    return isinstance(value, (int, float)) and abs(value) <= most
