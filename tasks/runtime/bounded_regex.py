"""Regular expressions that somebody else wrote (a contract, a condition, a setting): in bounded time and memory. Pure.

`regex` writes counted repetitions out (`(?:a{999}){999}` is a million parts) and tries what fails in every way there is.
Both are bounded here, and this module alone runs such expressions.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

MOST_CHARACTERS = 4_000
MOST_PARTS = 20_000
"""What counted repetitions may come to, one within another multiplied."""
TIMEOUT_SECONDS = 2.0
"""For one text."""

_COUNT = re.compile(r"\{(\d*)(?:,\d*)?\}")
_CALL = re.compile(r"\(\?(?:R\)|[+-]?\d+\)|&|P>)")
"""A group within itself, or another one called: `(?R)` fills the memory at once."""
_ESCAPED = re.compile(r"\\.", re.DOTALL)


@cache
def compile_pattern(text: str) -> Any:
    """Reads a regular expression.

    Raises:
        ValueError: it is none, or one that would take too much memory; the text says which.
    """
    import regex  # settings are read by every command, and few need it

    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"a regular expression of {len(text):,} characters; at most {MOST_CHARACTERS:,} are read")
    if _parts(text) > MOST_PARTS:
        raise ValueError(f"its counted repetitions come to more than {MOST_PARTS:,}; write it with fewer")
    if _CALL.search(_ESCAPED.sub("x", text)):
        raise ValueError("it calls one of its groups, or itself; write it without")
    try:
        return regex.compile(text)
    except RecursionError:
        raise ValueError("not a regular expression: its groups are nested too deeply") from None
    except (regex.error, OverflowError) as error:
        raise ValueError(f"not a regular expression: {error}") from error


def is_found(pattern: Any, text: str) -> bool:
    """Does the text hold a match anywhere?

    Raises:
        TimeoutError: it takes more than TIMEOUT_SECONDS.
    """
    return pattern.search(text, timeout=TIMEOUT_SECONDS) is not None


def is_whole(pattern: Any, text: str) -> bool:
    """Does the pattern match the whole text?

    Raises:
        TimeoutError: it takes more than TIMEOUT_SECONDS.
    """
    return pattern.fullmatch(text, timeout=TIMEOUT_SECONDS) is not None


def too_slow(text: str) -> str:
    """What to report of a pattern that takes too long on a text."""
    return f"takes more than {TIMEOUT_SECONDS:g} s on a text of {len(text):,} characters"


SLOW_FIX = "Write the pattern without a repetition inside a repetition"


def _parts(text: str) -> int:
    """The most that nested counted repetitions come to. What stands in a character class may count, too."""
    text = _ESCAPED.sub("x", text)
    inner = [1]  # of each open group: the most that an element within it comes to
    last = most = 1
    place = 0
    while place < len(text):
        character = text[place]
        count = _COUNT.match(text, place) if character == "{" else None
        if count is not None:
            last *= max(int(count[1] or 0), 1)
            most = max(most, last)
            inner[-1] = max(inner[-1], last)
            if most > MOST_PARTS:
                return most
            place = count.end()
            continue
        if character == "(":
            inner.append(1)
            last = 1
        elif character == ")" and len(inner) > 1:
            last = inner.pop()
            inner[-1] = max(inner[-1], last)
        elif character not in "?+*":
            last = 1
        place += 1
    return most
