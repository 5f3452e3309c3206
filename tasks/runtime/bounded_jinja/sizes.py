"""How large what a template makes would be, measured before it is made."""

from __future__ import annotations

import re
from collections.abc import ItemsView, Sized, ValuesView
from typing import Any

from jinja2.exceptions import SecurityError

MOST_CHARACTERS = 64 * 1024 * 1024
"""Of one text, and of all that a rendering writes."""
MOST_ITEMS = 1_000_000
"""Of one list that is made of others."""
MOST_WIDTH = 1_000_000
_LISTS = (list, tuple, set, frozenset, ValuesView, ItemsView)
VALUES = (*_LISTS, dict)
_WIDTH_BY_VALUE = re.compile(r"\{[^{}]*\{")
_LONG_NUMBER = re.compile(r"[0-9]{3,7}")
WIDE_PERCENT = re.compile(r"%[^a-zA-Z%]*(?:[0-9]{7}|\*)")
_WIDE_FORMAT = re.compile(r"\{[^{}]*[0-9]{7}")
_PADDING = ("center", "expandtabs", "ljust", "rjust", "zfill")


def weigh(value: Any) -> tuple[int, int]:
    """The characters and the items that a value comes to when it is written, each part as often as it stands there.

    Raises:
        SecurityError: more than may be made at once.
    """
    characters = items = 0
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, (str, bytes)):
            characters += len(each)
        elif isinstance(each, _LISTS):
            items += len(each)
            require_size([], items)
            waiting.extend(each)
        elif isinstance(each, dict):
            items += len(each)
            require_size([], items)
            waiting.extend(each)
            waiting.extend(each.values())
        characters += 1
        require_size("", characters)
    return characters, items


def require_text(owner: str | bytes, name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Measures what a method of a text, or a filter, would make."""
    given = [*arguments, *named.values()]
    if name in _PADDING or name in ("indent", "wordwrap"):
        if not all(is_small(each, MOST_WIDTH) for each in given if isinstance(each, int)):
            raise SecurityError(f"a text of more than {MOST_WIDTH:,} characters by {name}")
        widest = max((abs(each) for each in given if isinstance(each, int)), default=8)
        if name == "expandtabs":
            require_size("", len(owner) * max(widest, 1))
        elif name == "indent":
            require_size("", len(owner) + str(owner).count("\n") * widest)
    elif name in ("format", "format_map"):
        is_wide = any(isinstance(each, int) and not is_small(each, MOST_WIDTH) for each in given)
        if is_wide or _WIDE_FORMAT.search(str(owner)) or WIDE_PERCENT.search(str(owner)):
            raise SecurityError(f"a text of more than {MOST_WIDTH:,} characters by {name}")
        require_filled(str(owner), [each for each in given if each is not owner])
    elif name == "tojson":
        if not all(is_small(each, 64) for each in given if isinstance(each, int)):
            raise SecurityError("an indentation of more than 64 characters by tojson")
    elif name == "translate":
        table = [each for mapping in given if isinstance(mapping, dict) for each in mapping.values()]
        require_size("", len(owner) * max((len(each) for each in table if isinstance(each, str)), default=1))
    elif name == "replace":
        texts = [each for each in given if isinstance(each, (str, bytes))]
        longest = max(map(len, texts), default=0)
        shortest = max(min(map(len, texts), default=1), 1)
        require_size("", len(owner) + (len(owner) // shortest + 1) * longest if longest > 64 else 0)


def require_filled(text: str, values: list[Any]) -> None:
    """Measures what a text with places for values comes to, at most."""
    is_number_a_width = _WIDTH_BY_VALUE.search(text) is not None
    widest = 0
    for value in values:
        if is_number_a_width and (isinstance(value, int) or (isinstance(value, str) and value.strip().isdecimal())):
            require_size("", len(str(value)) * MOST_WIDTH if len(str(value)) > 8 else abs(int(value)))
            widest = max(widest, abs(int(value)))
        widest = max(widest, weigh(value)[0])
    places = text.count("{") + text.count("%")
    require_size("", len(text) + places * widest + sum(map(int, _LONG_NUMBER.findall(text))))


def require_product(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > 4096:
            raise SecurityError("a product of large numbers")
        return
    for many, times in ((left, right), (right, left)):
        if isinstance(many, Sized) and isinstance(times, int):
            require_size(many, len(many) * max(times, 0))


def require_size(kind: Any, size: int) -> None:
    most, what = (MOST_CHARACTERS, "characters") if isinstance(kind, (str, bytes)) else (MOST_ITEMS, "items")
    if size > most:
        raise SecurityError(f"it makes more than {most:,} {what} at once")


def is_small(value: Any, most: int) -> bool:
    return isinstance(value, (int, float)) and abs(value) <= most
