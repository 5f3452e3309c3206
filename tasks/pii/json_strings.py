"""Edits the strings of a text that is JSON, in place: everything else is unchanged. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from tasks.pii.edits import Edit, apply

STRING = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_HALF_SURROGATE = re.compile("[\ud800-\udfff]")


def is_json(text: str) -> bool:
    """Is the text a JSON object or list, apart from surrounding white space?"""
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
    """Edits each string (value or key) of JSON: returns the edits of the whole text, and those within the strings."""
    outer: list[Edit] = []
    inner: list[Edit] = []
    for match in STRING.finditer(text):
        value = json.loads(match[0], strict=False)
        if edits := edits_of(value):
            inner += edits
            outer.append(Edit(*match.span(), as_json(apply(value, edits)), ""))
    return outer, inner


def as_json(value: str) -> str:
    """A string as JSON; a lone surrogate, which UTF-8 cannot encode, is escaped."""
    return json.dumps(value, ensure_ascii=bool(_HALF_SURROGATE.search(value)))
