"""Swaps the words of a list in a text, so that grammar agrees: `he saw her` and `she saw him`, an article, 他 and 她. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import regex

from tasks.evaluate.probes.word_lists import NEXT_TO_OBJECTS, NOT_AFTER_HE, NOT_BEFORE_HE, OTHER_CHINESE, WORD_LISTS
from tasks.scoring.answer_text import normalise_answer

_PRONOUNS = {"him": "his", "hers": "her"}
"""Pronouns that are not a word of their own in the other gender."""
_NEXT_WORD = regex.compile(r"\s+([A-Za-z]+)")


@dataclass(frozen=True)
class Swapped:
    text: str
    to_second: int
    """Words of the first group, now of the second."""
    to_first: int
    keeps_length: bool
    """Each word is as long as before."""

    @property
    def count(self) -> int:
        return self.to_second + self.to_first


@dataclass(frozen=True)
class _Words:
    pattern: regex.Pattern[str]
    other: dict[str, str]
    first: frozenset[str]


def swap(text: str, list_name: str) -> Swapped:
    """The text with each word of the list replaced by its counterpart."""
    words = _words(list_name)
    counts = {True: 0, False: 0}
    keeps_length = True

    def replace(match: regex.Match[str]) -> str:
        nonlocal keeps_length
        word = match["word"]
        if word is None:
            return str(match[0])
        other = words.other.get(word) or _pronoun(word, text[match.end() :])
        counts[word in words.first or word.lower() in ("him", "his")] += 1
        article = _article(match["article"] or "", other)
        keeps_length &= len(other) == len(word) and article == (match["article"] or "")
        return f"{article}{match['space'] or ''}{other}"

    swapped = words.pattern.sub(replace, text)
    return Swapped(swapped, counts[True], counts[False], keeps_length)


def is_same_swapped(answer: str, other: str, list_name: str) -> bool:
    """Whether an answer to the swapped prompt is the answer to the original one, with the words of the list swapped back."""
    back = swap(_canonical(other), list_name).text if list_name == "gender" else swap(other, list_name).text
    if list_name == "gender":
        answer, back = _canonical(answer), _canonical(back)
    return normalise_answer(answer) == normalise_answer(back)


def _canonical(text: str) -> str:
    """The text with `him` as `his` and `hers` as `her`: swapped back, these cannot be distinguished."""
    return str(regex.sub(r"\b(?:him|hers)\b", lambda match: _PRONOUNS[match[0].lower()], text, flags=regex.IGNORECASE))


def _pronoun(word: str, after: str) -> str:
    """The counterpart of him, his, her or hers, by the word after it."""
    following = _NEXT_WORD.match(after)
    has_noun = following is not None and following[1].lower() not in NEXT_TO_OBJECTS
    other = {"him": "her", "hers": "his", "his": "her" if has_noun else "hers", "her": "his" if has_noun else "him"}
    return _in_case_of(word, other[word.lower()])


def _article(article: str, word: str) -> str:
    """`a` or `an` as the word needs it."""
    if not article:
        return ""
    return _in_case_of(article[0], "an" if word[0].lower() in "aeio" and not word.startswith("Eu") else "a")


def _in_case_of(word: str, other: str) -> str:
    if word.isupper() and len(word) > 1:
        return other.upper()
    return other[0].upper() + other[1:] if word[0].isupper() else other


@lru_cache(maxsize=16)
def _words(list_name: str) -> _Words:
    english, chinese = (WORD_LISTS[list_name][language] for language in ("en", "zh"))
    other: dict[str, str] = {}
    first: set[str] = set()
    for one, two in english:
        for change in (str, lambda word: word[0].upper() + word[1:], str.upper):
            other |= {change(one): change(two), change(two): change(one)}
            first.add(change(one))
    words = [*other]
    if list_name == "gender":
        words += [change(word) for word in ("him", "his", "her", "hers") for change in (str, str.capitalize, str.upper)]
    of_chinese = {word: counterpart for one, two in chinese for word, counterpart in ((one, two), (two, one))}
    pattern = regex.compile(
        rf"{_any_of(OTHER_CHINESE)}|"
        + (
            rf"(?<![\w'’-])(?:(?P<article>[Aa]n?)(?P<space>\s+))?(?P<word>{_any_of(words)})(?![\w-])"
            rf"|(?P<word>(?<![{NOT_BEFORE_HE}])他(?![{NOT_AFTER_HE}])|{_any_of([word for word in of_chinese if word != '他'])})"
            if list_name == "gender"
            else rf"(?<![\w'’-])(?:(?P<article>[Aa]n?)(?P<space>\s+))?(?P<word>{_any_of(words)})(?![\w-])"
            rf"|(?P<word>{_any_of(of_chinese)})"
        )
    )
    return _Words(pattern, other | of_chinese, frozenset(first | {one for one, _ in chinese}))


def _any_of(words: list[str] | dict[str, str]) -> str:
    return "|".join(regex.escape(word) for word in sorted(words, key=lambda word: (-len(word), word)))
