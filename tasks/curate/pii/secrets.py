"""Confirms what a pattern of `pii_patterns` takes for a secret: drawn at random, and no name or placeholder of a program. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter

_BITS_OF_A_TOKEN = 3.4
"""Shannon entropy a character: words and repeated characters are below it, 20 random ones above."""
_BITS_OF_A_MARKED_TOKEN = 2.5


def is_random(text: str, match: re.Match[str]) -> int:
    """Letters and digits as if drawn at random; neither words with numbers, nor a name that a program calls or indexes."""
    token = match["x"]
    if _bits(token) < _BITS_OF_A_TOKEN or not (re.search("[0-9]", token) and re.search("[A-Za-z]", token)):
        return 0
    if text[match.end("x") : match.end("x") + 1] in ("(", "[") or all(map(_WORD.fullmatch, _JOINT.split(token))):
        return 0
    return match.end("x")


_JOINT = re.compile(r"[._\-/+=]+")
_WORD = re.compile("(?:(?:[A-Z]?[a-z]{2,}|[A-Z]{1,4})+[0-9]{0,3}|[a-z]?[0-9]*[A-Za-z]{0,2})")
"""A part of a name: `getSecretKey2`, `v2`, `8b`, or nothing."""


def is_varied(text: str, match: re.Match[str]) -> int:
    """What carries a token's own mark needs no more than not to be one character written over and over."""
    return match.end("x") if _bits(match["x"]) >= _BITS_OF_A_MARKED_TOKEN else 0


def _bits(token: str) -> float:
    """Shannon entropy a character."""
    return -sum(count / len(token) * math.log2(count / len(token)) for count in Counter(token).values())


def is_password(text: str, match: re.Match[str]) -> int:
    """The password of an address, `://user:password@`; neither a placeholder nor a variable."""
    return 0 if match["x"].lower() in _NO_PASSWORDS or match["x"][0] in "$%{<*" else match.end("x")


_NO_PASSWORDS = {
    "password",
    "passwd",
    "pass",
    "pass_word",
    "pwd",
    "pw",
    "secret",
    "token",
    "user",
    "xxx",
    "xxxx",
    "changeme",
    "密码",
}
