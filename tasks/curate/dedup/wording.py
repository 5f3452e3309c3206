"""Do two nearly equal texts differ in meaning, or in wording only? Pure.

Of two prompts with a long fixed part, only the difference counts: another name, number or symbol makes another question. Ignored
are punctuation, words of courtesy, spelling, and up to three plain words that only one of the texts has.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from difflib import SequenceMatcher
from functools import lru_cache

import regex

from tasks.records.segmentation import nfkc, segment_with_symbols

_ENGLISH = "a an the please kindly indeed so now then well also just simply could can would will you me your"
_CHINESE = "请您你吗呢吧啊呀哦嘛么的地得了"
FILLERS = frozenset([*_ENGLISH.split(), *_CHINESE])
"""Words of courtesy and particles."""
NEGATIONS = frozenset("no not never none nor neither cannot without except only non un unless false".split())  # noqa: SIM905
MOST_WORDS = 3
MOST_OTHER_TOKENS = 16
"""Texts with more unshared tokens are not compared further."""
LEAST_LETTERS = 5
SIMILAR_SPELLING = 0.8
_NAME = regex.compile(r"(?<!^|[.!?\n]\s*)\p{Lu}[\w'’]*")
"""A capitalised word that does not start a sentence."""


def have_the_same_words(first: str, second: str) -> bool:
    """Do the texts differ at most in punctuation, particles and words of courtesy?"""
    return _words(first) == _words(second)


def differ_in_wording_alone(first: str, second: str) -> bool:
    """Do the texts have the same meaning?"""
    tokens = _words(first), _words(second)
    if tokens[0] == tokens[1]:
        return True
    counts = Counter(tokens[0]), Counter(tokens[1])
    only = [list((counts[0] - counts[1]).elements()), list((counts[1] - counts[0]).elements())]
    if sum(map(len, only)) > MOST_OTHER_TOKENS or not all(map(_is_plain, [*only[0], *only[1]])):
        return False
    names = {name.lower() for text in (first, second) for name in _NAME.findall(nfkc(text))}
    if not names.isdisjoint([*only[0], *only[1]]):
        return False
    unmatched = [w for text in (0, 1) for w in only[text] if not any(_are_spellings(w, o) for o in only[1 - text])]
    if len(unmatched) > MOST_WORDS:
        return False
    added = []
    for kind, a, b, c, d in SequenceMatcher(None, tokens[0], tokens[1], autojunk=False).get_opcodes():
        if kind == "replace":
            if b - a != d - c or not all(map(_are_spellings, tokens[0][a:b], tokens[1][c:d])):
                return False
        elif kind != "equal":
            added += tokens[0][a:b] + tokens[1][c:d]
    return len(added) <= MOST_WORDS and NEGATIONS.isdisjoint(added)


@lru_cache(1024)
def _words(text: str) -> list[str]:
    return [token for token in segment_with_symbols(text.replace("请问", "请")) if token not in FILLERS]


def _is_plain(token: str) -> bool:
    """Is it an alphabetic word without digits? Only such a token may be missing; a Chinese character may not."""
    return token.replace("'", "").replace("’", "").isalpha() and all(map(_is_alphabetic, token))


def _is_alphabetic(letter: str) -> bool:
    return letter < "\u2e80" and not unicodedata.name(letter, "").startswith("HANGUL")


def _are_spellings(first: str, second: str) -> bool:
    """Are they spellings of one word?"""
    if min(len(first), len(second)) < LEAST_LETTERS or first[0] != second[0] or {first, second} & NEGATIONS:
        return False
    return SequenceMatcher(None, first, second).ratio() >= SIMILAR_SPELLING
