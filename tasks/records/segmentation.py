"""One segmentation for all languages: NFKC, then Chinese, Japanese and Korean by character and all else by word.

Whitespace would make one token of a Chinese sentence. Deduplication and length bounds use this module.
"""

from __future__ import annotations

import unicodedata
from itertools import groupby

import numpy as np
import regex

_CJK = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}"
_TOKEN = regex.compile(rf"[{_CJK}]|[^\W{_CJK}_]+(?:['’][^\W{_CJK}_]+)*", regex.VERSION1)
_LETTER_OR_DIGIT = rf"[^\W{_CJK}_]"
SYMBOLS = r"\p{Sm}\p{Sc}\p{So}\p{Sk}\p{No}#%&*@/\\_"
"""Characters that are a token by themselves where symbols count: C++ is not C#, 2⁵ not 25, `<` not `>`, and no emoji another."""
_TOKEN_OR_SYMBOL = regex.compile(
    rf"{_TOKEN.pattern}|[{SYMBOLS}]|(?<!{_LETTER_OR_DIGIT})-(?=\p{{Nd}})|(?<![^\W\p{{Nd}}{_CJK}_])\.(?=\p{{Nd}})",
    regex.VERSION1,
)
_CJK_CHARACTER = regex.compile(rf"[{_CJK}]", regex.VERSION1)
_JAMO, _FIRST_CJK = 0x11, 0x2E80
"""No character of these scripts stands before U+2E80, but for Hangul's parts, from U+1100 to U+11FF."""
CHINESE_SHARE = 0.3
"""Of a text's letters: from here on it is Chinese, which often quotes English names."""
_LETTER = regex.compile(r"\p{L}")
_SPACE = regex.compile(r"\s+")
PLACE_BEFORE, PLACE_AFTER = 20, 60
"""Characters that are shown of a text before and after a place in it: a terminal shows the first 80."""
MOST_MARKS = 64
"""Combining marks in a row that are put in order without help; of Unicode's stream-safe texts, none has more than 30."""
_MARKS = regex.compile(rf"\p{{M}}{{{MOST_MARKS},}}")
_RAISED = regex.compile(r"([⁰¹²³⁴-⁹⁺-⁾ⁱⁿ₀-₉₊-₎ₐ-ₜᵢ-ᵥⱼ])")
"""Superscripts and subscripts, which NFKC would make ordinary: 2⁵ would be 25, and H₂ would be H2."""


def nfkc(text: str) -> str:
    """The text in Unicode's normal form NFKC, but for superscripts and subscripts, in time in proportion to it.

    The library puts combining marks in order by insertion: 75,000 of two kinds in turn take it half a minute. Sorted before, as
    the standard says, they cost nothing.
    """
    if text.isascii():
        return text
    if _MARKS.search(text):
        text = _MARKS.sub(lambda match: _in_order(match[0]), text)
    if _RAISED.search(text):
        return "".join(
            part if place % 2 else unicodedata.normalize("NFKC", part) for place, part in enumerate(_RAISED.split(text))
        )
    return unicodedata.normalize("NFKC", text)


def _in_order(marks: str) -> str:
    """Marks decomposed and in canonical order: sorted by class between those of class 0, which stay where they are."""
    decomposed = [part for mark in marks for part in unicodedata.normalize("NFKD", mark)]
    groups = groupby(decomposed, key=lambda part: unicodedata.combining(part) > 0)
    return "".join(
        "".join(sorted(group, key=unicodedata.combining) if is_moved else group) for is_moved, group in groups
    )


def segment(text: str) -> list[str]:
    """Lower-cased NFKC tokens: a CJK character each, or a run of letters and digits. Punctuation is left out."""
    found: list[str] = _TOKEN.findall(nfkc(text).lower())
    return found


def segment_with_symbols(text: str) -> list[str]:
    """The tokens of `segment` and, each by itself, the symbols (SYMBOLS), the sign of a number and its decimal point."""
    found: list[str] = _TOKEN_OR_SYMBOL.findall(nfkc(text).lower())
    return found


def normalise(text: str) -> str:
    """The text as deduplication and the split compare it: NFKC, case-folded, white space as single spaces."""
    return str(_SPACE.sub(" ", nfkc(text)).strip().casefold())


def cjk_share(text: str) -> float:
    """The share of letters that are Chinese, Japanese or Korean, from 0 to 1; 0 where there are no letters."""
    if text.isascii():  # most English text: no need to count
        return 0.0
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    if not ((codes >= _FIRST_CJK) | (codes >> 8 == _JAMO)).any():
        return 0.0
    others, counts = np.unique(codes[codes > 127], return_counts=True)  # each character is looked at once
    often = dict(zip(others.tobytes().decode("utf-32-le", "surrogatepass"), counts.tolist(), strict=True))
    told = "".join(often)
    letters = int(((codes | 32) - np.uint32(97) < 26).sum()) + sum(often[one] for one in _LETTER.findall(told))
    return sum(often[one] for one in _CJK_CHARACTER.findall(told)) / letters if letters else 0.0


def has_letters(text: str) -> bool:
    """Has the text a letter, of any script?"""
    return _LETTER.search(text) is not None


def language_of(text: str) -> str:
    """ "zh" where at least three in ten letters are CJK, else "en"."""
    return "zh" if cjk_share(text) >= CHINESE_SHARE else "en"


def around(text: str, start: int, end: int) -> str:
    """A place within a text, with what stands before and after it; `…` where more is left out."""
    first, last = max(0, start - PLACE_BEFORE), min(len(text), min(end, start + PLACE_AFTER) + PLACE_AFTER)
    return f"{'…' if first else ''}{text[first:last]}{'…' if last < len(text) else ''}"
