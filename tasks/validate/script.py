"""Counts letters by Unicode script."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import regex

_ASCII_LETTER = re.compile("[A-Za-z]")
_LETTER = regex.compile(r"\p{L}")


@cache
def _letters_of(script: str) -> Any:
    return regex.compile(rf"[\p{{L}}&&\p{{Script={script}}}]", regex.VERSION1)


def is_wholly_in(text: str, script: str) -> bool:
    """Is it plain, without counting, that all letters of the text, and there are some, are in the script?"""
    return script == "Latin" and text.isascii() and _ASCII_LETTER.search(text) is not None


def letters_in(text: str, script: str) -> tuple[int, int]:
    """How many letters the text has, and how many of them are in the script."""
    return len(_LETTER.findall(text)), len(_letters_of(script).findall(text))
