"""Regular expressions from users (a contract, a condition, a setting), in bounded time and memory. Pure.

`regex` expands counted repetitions (`(?:a{999}){999}` has a million nodes), and backtracking may take exponential time.
Both are bounded here; no other module runs such expressions.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

MAX_CHARACTERS = 4_000
MAX_PARTS = 20_000
"""The limit on expanded counted repetitions; nested ones multiply."""
TIMEOUT_SECONDS = 2.0
"""Per text."""

_COUNT = re.compile(r"\{(\d*)(?:,\d*)?\}")
_CALL = re.compile(r"\(\?(?:R\)|[+-]?\d+\)|&|P>)")
"""A recursive group or a call of another group: `(?R)` fills the memory."""
_ESCAPED = re.compile(r"\\.", re.DOTALL)


@cache
def compile_pattern(text: str) -> Any:
    """Compiles a regular expression.

    Raises:
        ValueError: the expression is invalid or needs too much memory; the message says which.
    """
    import regex  # imported here: every command reads settings, and few need it

    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"a regular expression of {len(text):,} characters; at most {MAX_CHARACTERS:,} are read")
    if _parts(text) > MAX_PARTS:
        raise ValueError(f"its counted repetitions expand to more than {MAX_PARTS:,}; use fewer")
    if _CALL.search(_ESCAPED.sub("x", text)):
        raise ValueError("recursion and group calls are not supported")
    try:
        return regex.compile(text)
    except RecursionError:
        raise ValueError("not a regular expression: its groups are nested too deeply") from None
    except (regex.error, OverflowError) as error:
        raise ValueError(f"not a regular expression: {error}") from error


def has_match(pattern: Any, text: str) -> bool:
    """Whether the pattern matches anywhere in the text.

    Raises:
        TimeoutError: it takes more than TIMEOUT_SECONDS.
    """
    return pattern.search(text, timeout=TIMEOUT_SECONDS) is not None


def matches_all(pattern: Any, text: str) -> bool:
    """Whether the pattern matches the whole text.

    Raises:
        TimeoutError: it takes more than TIMEOUT_SECONDS.
    """
    return pattern.fullmatch(text, timeout=TIMEOUT_SECONDS) is not None


def too_slow(text: str) -> str:
    """The message for a pattern that takes too long on a text."""
    return f"takes more than {TIMEOUT_SECONDS:g} s on a text of {len(text):,} characters"


SLOW_FIX = "Write the pattern without a repetition inside a repetition"


def _parts(text: str) -> int:
    """An upper bound of the expanded size of nested counted repetitions; may count characters in classes too."""
    text = _ESCAPED.sub("x", text)
    inner = [1]  # per open group: the largest expanded size of an element in it
    last = most = 1
    position = 0
    while position < len(text):
        character = text[position]
        count = _COUNT.match(text, position) if character == "{" else None
        if count is not None:
            last *= max(int(count[1] or 0), 1)
            most = max(most, last)
            inner[-1] = max(inner[-1], last)
            if most > MAX_PARTS:
                return most
            position = count.end()
            continue
        if character == "(":
            inner.append(1)
            last = 1
        elif character == ")" and len(inner) > 1:
            last = inner.pop()
            inner[-1] = max(inner[-1], last)
        elif character not in "?+*":
            last = 1
        position += 1
    return most
