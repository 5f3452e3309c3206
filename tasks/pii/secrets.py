"""Confirms candidates for secrets (patterns.py): random strings, not names or placeholders of a program. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter

_BITS_OF_A_TOKEN = 3.4
"""Shannon entropy per character: words and repeated characters are below it, 20 random characters above."""
_BITS_OF_A_MARKED_TOKEN = 2.5


def is_random(text: str, match: re.Match[str]) -> int:
    """Random letters and digits: neither words with numbers, nor a name that is called or indexed."""
    token = match["x"]
    if _bits(token) < _BITS_OF_A_TOKEN or not (re.search("[0-9]", token) and re.search("[A-Za-z]", token)):
        return 0
    if text[match.end("x") : match.end("x") + 1] in ("(", "[") or all(map(_WORD.fullmatch, _JOINT.split(token))):
        return 0
    return match.end("x")


_JOINT = re.compile(r"[._\-/+=]+")
_WORD = re.compile("(?:(?:[A-Z]?[a-z]{2,}|[A-Z]{1,4})+[0-9]{0,3}|[a-z]?[0-9]*[A-Za-z]{0,2})")
"""A part of a name: `getSecretKey2`, `v2`, `8b`, or empty."""


def is_varied(text: str, match: re.Match[str]) -> int:
    """A string with a token's prefix: it must only not be a repeated character."""
    return match.end("x") if _bits(match["x"]) >= _BITS_OF_A_MARKED_TOKEN else 0


def _bits(token: str) -> float:
    """Shannon entropy per character, in bits."""
    return -sum(count / len(token) * math.log2(count / len(token)) for count in Counter(token).values())


def is_password(text: str, match: re.Match[str]) -> int:
    """The password of a URL, `://user:password@`, unless it is a placeholder or a variable."""
    return 0 if match["x"].lower() in _NO_PASSWORDS or match["x"][0] in "$%{<*" else match.end("x")


_NO_PASSWORDS = frozenset("password passwd pass pass_word pwd pw secret token user xxx xxxx changeme 密码".split())  # noqa: SIM905
