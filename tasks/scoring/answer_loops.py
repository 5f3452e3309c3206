"""Answers that end in a loop, as those of a model that does not stop: `我有一个系统，我有一个系统，我有一个系统，我`. Pure.

A loop is a phrase that is repeated up to the end of the answer; its last word may be cut off. People repeat themselves, too:
`no no no`, a refrain, a list of equal labels. So the repetitions must have many words (LEAST_WORDS), be most of the answer or be
very many, and not be in the target. Of 96,600 texts of ten public sets four are loops by this rule; no person wrote one of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import regex

from tasks.scoring.answer_text import CJK, fold

LEAST_WORDS = 8
MOST_OF_IT = 0.5
"""Share of the answer's words in the loop, from which on few repetitions are enough:"""
LEAST_REPETITIONS, PHRASE_WORDS, LEAST_PHRASE_REPETITIONS = 3.5, 4, 2.75
"""this many, and fewer of a phrase of several words."""
MANY_REPETITIONS, MANY_WORDS = 6, 24
"""After a longer text: this many repetitions, with this many words in all."""
LEAST_MARKS, MARKS_OF_TARGET = 10, 3
"""Equal punctuation marks in a row that are a loop; equal marks in a row in the target that permit it."""
LONGEST_RULE = 100
"""Maximum length of a horizontal rule (`-----`) that ends a text."""
LEAST_LAST_WORD, LONGEST_PART, LEAST_PARTS = 40, 12, 4
"""Characters of a last word that repeats a part of at most this many characters at least this many times: `hahahaha…`, `0.000…`."""

_WORD = regex.compile(
    rf"[二三四五六七八九]?十[一二三四五六七八九]|[二三四五六七八九]十|[{CJK}]|[^\W{CJK}]+(?:'[^\W{CJK}]+)*"
)
_ONES = ["", *"一二三四五六七八九"]
_DIGITS = {
    f"{tens}{ones}": 10 * ten + one
    for ten, tens in enumerate(["", "十", *(f"{digit}十" for digit in _ONES[2:])])
    for one, ones in enumerate(_ONES)
}
"""一 to 九十九, and "" for 0."""
_COUNT = "#"
"""Replaces the numbers of a numbered list; it is not a word of any text."""
_RULE = regex.compile(rf"(?:\A|\n)[ \t]*([-=*_~#+])\1{{0,{LONGEST_RULE}}}+\Z")
_REPEATED_PART = regex.compile(
    rf"([^\s{CJK}]{{1,{LONGEST_PART}}}?)\1{{{LEAST_PARTS - 1},}}+(?P<rest>[^\s{CJK}]{{0,{LONGEST_PART}}})\Z"
)
_CUT = " \t\n\r\ufffd"
"""Characters after the last word; \ufffd replaces an incomplete character."""


def ends_in_loop(answer: str, target: str) -> bool:
    """Whether the answer repeats itself up to its end, and the target does not repeat the same."""
    text, expected = fold(answer).rstrip(_CUT), fold(target)
    if _ends_in_marks(text, expected) or _ends_in_parts(text, expected):
        return True
    words = _WORD.findall(text)
    if len(words) < LEAST_WORDS:
        return False
    target_words = _WORD.findall(expected)
    return _ends_in_phrase(words, target_words) or _ends_in_phrase(
        _without_counters(words), _without_counters(target_words), PHRASE_WORDS + 1
    )


def _ends_in_phrase(words: Sequence[str], target_words: Sequence[str], least_words: int = 1) -> bool:
    """Whether the words end in repetitions of a phrase of at least `least_words` that the target does not repeat."""
    phrase = _repeated_phrase(words)
    if phrase is None:  # the last word may be cut off
        phrase = _repeated_phrase(words[:-1])
        if phrase is not None and not words[-1 - len(phrase)].startswith(words[-1]):
            return False
    return phrase is not None and len(phrase) >= least_words and not _repeats(target_words, phrase)


def _without_counters(words: Sequence[str]) -> list[str]:
    """The words, with the numbers of a numbered list as one symbol: `1. Turn it on. 2. Turn it on. 3. …`."""
    replaced, following = list(words), 0
    for index in range(len(words) - 1, -1, -1):
        word = words[index]
        number = int(word) if word.isdecimal() and len(word) < LEAST_WORDS else _DIGITS.get(word, 0)
        if number and number in (following - 1, number if not following else 0):
            replaced[index], following = _COUNT, number
    return replaced


def _repeated_phrase(words: Sequence[str]) -> Sequence[str] | None:
    """The shortest phrase with enough repetitions at the end; a phrase of numbers, as in a matrix, needs very many."""
    total = len(words)
    for length, more in enumerate(_matches(words[::-1])[1:], start=1):
        run = length + more
        repetitions = run / length
        least = LEAST_PHRASE_REPETITIONS if length >= PHRASE_WORDS else LEAST_REPETITIONS
        is_long = run >= MANY_WORDS and repetitions >= MANY_REPETITIONS
        is_most = run >= max(LEAST_WORDS, MOST_OF_IT * total) and repetitions >= least
        if is_long or (is_most and not all(word.isdecimal() for word in words[total - length :])):
            return words[total - length :]
    return None


def _matches(words: Sequence[str]) -> list[int]:
    """Z function: the number of words from each index on that equal those at the beginning. In linear time."""
    lengths = [0] * len(words)
    left = right = 0
    for index in range(1, len(words)):
        count = min(right - index, lengths[index - left]) if index < right else 0
        while index + count < len(words) and words[count] == words[index + count]:
            count += 1
        lengths[index] = count
        if index + count > right:
            left, right = index, index + count
    return lengths


def _repeats(words: Sequence[str], phrase: Sequence[str]) -> bool:
    """Whether a text has the phrase, or a rotation of it, twice in a row."""
    length, run = len(phrase), 0
    rotations = _joined([*phrase, *phrase])
    for index in range(length, len(words)):
        run = run + 1 if words[index] == words[index - length] else 0
        if run == length and _joined(words[index - length + 1 : index + 1]) in rotations:
            return True
    return False


def _joined(words: Sequence[str]) -> str:
    return f" {' '.join(words)} "


def _ends_in_marks(text: str, target: str) -> bool:
    mark = text[-1:]
    if not mark or mark.isalnum() or mark == "_" or len(text) - len(text.rstrip(mark)) < LEAST_MARKS:
        return False
    return mark * MARKS_OF_TARGET not in target and _RULE.search(text) is None


def _ends_in_parts(text: str, target: str) -> bool:
    """Whether the last word repeats a short part that the target does not repeat."""
    last = text[-LEAST_LAST_WORD:]
    if len(last) < LEAST_LAST_WORD or (match := _REPEATED_PART.search(last)) is None:
        return False
    part, rest = match[1], match["rest"]
    return len(match[0]) == LEAST_LAST_WORD and part.startswith(rest) and part * MARKS_OF_TARGET not in target
