"""Counts letters by Unicode script."""

from __future__ import annotations

from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import regex

from tasks.expression.measure import Mask, characters_of, is_ascii, truths

_LETTER = regex.compile(r"\p{L}")
COMMON_HAN = "[\u4e00-\u9fff]"
"""Letters of the script Han only, and nearly all that are in use."""


@cache
def _letters_of(script: str) -> Any:
    return regex.compile(rf"[\p{{L}}&&\p{{Script={script}}}]", regex.VERSION1)


def letters_in(text: str, script: str) -> tuple[int, int]:
    """How many letters the text has, and how many of them are in the script."""
    return len(_LETTER.findall(text)), len(_letters_of(script).findall(text))


def is_surely_in(texts: pa.Array, script: str, min_share: float) -> Mask:
    """Is at least that share of the letters in the script, and is there a letter? A cheap bound: false may be true."""
    if script == "Latin":
        return is_ascii(texts) & truths(pc.match_substring_regex(texts, "[A-Za-z]"))
    if script == "Han":
        rest = pc.replace_substring_regex(texts, f"{COMMON_HAN}+", "")
        inside = characters_of(texts) - characters_of(rest)
        return (inside > 0) & (inside >= min_share * characters_of(texts))
    return truths(pa.array([False] * len(texts), pa.bool_()))
