"""The strings of a text that is JSON, changed where they stand: all else stays as it was written. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from tasks.curate.cleaning import characters
from tasks.curate.cleaning.edits import Edit, apply

STRING = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_HALF_SURROGATE = re.compile("[\ud800-\udfff]")


def may_hold_escapes(text: str) -> bool:
    """May it be JSON in whose strings there are characters that nobody sees, as they are or escaped?"""
    return text.lstrip()[:1] in ("[", "{") and ("\\" in text or characters.may_hold(text))


def is_json(text: str) -> bool:
    """Is the text a JSON object or list, white space around it left aside?"""
    if text.lstrip(" \t\r\n")[:1] not in ("{", "["):
        return False
    stripped = text.strip(" \t\r\n")
    if stripped[:1] + stripped[-1:] not in ("{}", "[]"):
        return False
    try:
        json.loads(stripped, strict=False)
    except (ValueError, RecursionError):
        return False
    return True


def edit_strings(text: str, edits_of: Callable[[str], list[Edit]]) -> tuple[list[Edit], list[Edit]]:
    """What becomes of JSON when each of its strings (values and keys) is edited: edits of the whole, and those within strings."""
    outer: list[Edit] = []
    inner: list[Edit] = []
    for match in STRING.finditer(text):
        value = json.loads(match[0], strict=False)
        if edits := edits_of(value):
            inner += edits
            outer.append(Edit(*match.span(), written(apply(value, edits)), ""))
    return outer, inner


def written(value: str) -> str:
    """A string as JSON; half of a character, which no file of ours can hold, as an escape."""
    return json.dumps(value, ensure_ascii=bool(_HALF_SURROGATE.search(value)))
