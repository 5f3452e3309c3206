"""One segmentation for all languages: NFKC, then Chinese, Japanese and Korean by character and other scripts by word.

By white space, a Chinese sentence would be one token. Deduplication and length bounds use this module.
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
"""Characters that are a token each if symbols count: C++ is not C#, 2⁵ not 25, `<` not `>`, and emoji differ."""
_TOKEN_OR_SYMBOL = regex.compile(
    rf"{_TOKEN.pattern}|[{SYMBOLS}]|(?<!{_LETTER_OR_DIGIT})-(?=\p{{Nd}})|(?<![^\W\p{{Nd}}{_CJK}_])\.(?=\p{{Nd}})",
    regex.VERSION1,
)
_CJK_CHARACTER = regex.compile(rf"[{_CJK}]", regex.VERSION1)
_JAMO, _FIRST_CJK = 0x11, 0x2E80
"""All characters of these scripts are at or above U+2E80, except Hangul Jamo, U+1100 to U+11FF."""
CHINESE_SHARE = 0.3
"""The least share of Chinese letters in a Chinese text, which often quotes English names."""
_LETTER = regex.compile(r"\p{L}")
_SPACE = regex.compile(r"\s+")
SHOWN_BEFORE, SHOWN_AFTER = 20, 60
"""Characters of the text that are shown before and after a position: a terminal shows the first 80."""
MOST_MARKS = 64
"""Longest sequence of combining marks that the library sorts; Unicode's stream-safe texts have at most 30."""
_MARKS = regex.compile(rf"\p{{M}}{{{MOST_MARKS},}}")
_RAISED = regex.compile(r"([⁰¹²³⁴-⁹⁺-⁾ⁱⁿ₀-₉₊-₎ₐ-ₜᵢ-ᵥⱼ])")
"""Superscripts and subscripts, which NFKC would convert: 2⁵ would be 25, and H₂ would be H2."""


def nfkc(text: str) -> str:
    """The text in Unicode's normal form NFKC, except superscripts and subscripts, in linear time.

    The library sorts combining marks by insertion: 75,000 of two alternating kinds take half a minute. Sorted before, as in the
    standard, they cost nothing.
    """
    if text.isascii():
        return text
    if _MARKS.search(text):
        text = _MARKS.sub(lambda match: _in_order(match[0]), text)
    if _RAISED.search(text):
        return "".join(
            part if index % 2 else unicodedata.normalize("NFKC", part) for index, part in enumerate(_RAISED.split(text))
        )
    return unicodedata.normalize("NFKC", text)


def _in_order(marks: str) -> str:
    """Marks decomposed and in canonical order: sorted by class between those of class 0, which keep their positions."""
    decomposed = [part for mark in marks for part in unicodedata.normalize("NFKD", mark)]
    groups = groupby(decomposed, key=lambda part: unicodedata.combining(part) > 0)
    return "".join(
        "".join(sorted(group, key=unicodedata.combining) if is_moved else group) for is_moved, group in groups
    )


def segment(text: str) -> list[str]:
    """Lower-cased NFKC tokens: a CJK character each, or a run of letters and digits. Without punctuation."""
    tokens: list[str] = _TOKEN.findall(nfkc(text).lower())
    return tokens


def segment_with_symbols(text: str) -> list[str]:
    """The tokens of `segment`, with symbols (SYMBOLS), signs of numbers and decimal points as tokens."""
    tokens: list[str] = _TOKEN_OR_SYMBOL.findall(nfkc(text).lower())
    return tokens


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where the tokens of `segment_with_symbols` begin and end, in the text as it is."""
    return [match.span() for match in _TOKEN_OR_SYMBOL.finditer(text)]


def normalise(text: str) -> str:
    """The text for comparisons of deduplication and split: NFKC, case-folded, white space as single spaces."""
    return str(_SPACE.sub(" ", nfkc(text)).strip().casefold())


def cjk_share(text: str) -> float:
    """The share of letters that are Chinese, Japanese or Korean, from 0 to 1; 0 without letters."""
    if text.isascii():  # most English text: no need to count
        return 0.0
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    if not ((codes >= _FIRST_CJK) | (codes >> 8 == _JAMO)).any():
        return 0.0
    others, counts = np.unique(codes[codes > 127], return_counts=True)  # each character is tested once
    counts_of = dict(zip(others.tobytes().decode("utf-32-le", "surrogatepass"), counts.tolist(), strict=True))
    distinct = "".join(counts_of)
    letters = int(((codes | 32) - np.uint32(97) < 26).sum()) + sum(
        counts_of[letter] for letter in _LETTER.findall(distinct)
    )
    return sum(counts_of[letter] for letter in _CJK_CHARACTER.findall(distinct)) / letters if letters else 0.0


def has_letters(text: str) -> bool:
    """Whether the text has a letter, of any script."""
    return _LETTER.search(text) is not None


def language_of(text: str) -> str:
    """ "zh" if at least three in ten letters are CJK, else "en"."""
    return "zh" if cjk_share(text) >= CHINESE_SHARE else "en"


def around(text: str, start: int, end: int) -> str:
    """A part of a text with the characters before and after it; `…` for omitted text."""
    first, last = max(0, start - SHOWN_BEFORE), min(len(text), min(end, start + SHOWN_AFTER) + SHOWN_AFTER)
    return f"{'…' if first else ''}{text[first:last]}{'…' if last < len(text) else ''}"
