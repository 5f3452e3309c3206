"""Answers that end in a loop, as those of a model that finds no end: `我有一个系统，我有一个系统，我有一个系统，我`. Pure.

What repeats is looked for as words in a row, up to the end of the answer; a last word may be cut off. People repeat themselves,
too: `no no no`, a refrain, a list of equal labels. So a run must be long (LEAST_WORDS), be most of the answer or come very often,
and be none that the target repeats. Of 108,000 texts of 13 public sets one is a loop by this rule, and was written by a model.
"""

from __future__ import annotations

from collections.abc import Sequence

import regex

from tasks.answer_text import CJK, fold

LEAST_WORDS = 8
MOST_OF_IT = 0.5
"""Share of the answer's words that are in the run, from which on few turns are enough:"""
LEAST_TURNS, PHRASE_WORDS, LEAST_PHRASE_TURNS = 3.5, 4, 2.75
"""so many, and fewer of a phrase of several words."""
OFTEN_TURNS, OFTEN_WORDS = 6, 24
"""Behind a longer text: so many, of so many words together."""
LEAST_MARKS, MARKS_OF_TARGET = 10, 3
"""A mark of punctuation that often in a row, unless the target has it that often in a row."""

_WORD = regex.compile(rf"[{CJK}]|[^\W{CJK}]+(?:'[^\W{CJK}]+)*")
_CUT = " \t\n\r\ufffd"
"""What may stand behind the last word: \ufffd is what is left of a character of which not every byte came."""


def ends_in_loop(answer: str, target: str) -> bool:
    """Does the answer repeat itself to its end, in a way that the target does not?"""
    text, expected = fold(answer).rstrip(_CUT), fold(target)
    if _ends_in_marks(text, expected):
        return True
    words = _WORD.findall(text)
    if len(words) < LEAST_WORDS:
        return False
    unit = _unit(words)
    if unit is None and (unit := _unit(words[:-1])) is not None and not words[-1 - len(unit)].startswith(words[-1]):
        return False
    return unit is not None and not _repeats(_WORD.findall(expected), unit)


def _unit(words: Sequence[str]) -> Sequence[str] | None:
    """The shortest phrase that is repeated to the end often enough."""
    total = len(words)
    for length, more in enumerate(_matches(words[::-1])[1:], start=1):
        run = length + more
        turns = run / length
        least = LEAST_PHRASE_TURNS if length >= PHRASE_WORDS else LEAST_TURNS
        is_most = run >= max(LEAST_WORDS, MOST_OF_IT * total) and turns >= least
        if is_most or (run >= OFTEN_WORDS and turns >= OFTEN_TURNS):
            return words[total - length :]
    return None


def _matches(words: Sequence[str]) -> list[int]:
    """Z function: how many words from each place on are those of the beginning. In time in proportion to the words."""
    found = [0] * len(words)
    left = right = 0
    for place in range(1, len(words)):
        count = min(right - place, found[place - left]) if place < right else 0
        while place + count < len(words) and words[count] == words[place + count]:
            count += 1
        found[place] = count
        if place + count > right:
            left, right = place, place + count
    return found


def _repeats(words: Sequence[str], unit: Sequence[str]) -> bool:
    """Does a text have the phrase twice in a row, wherever the phrase begins?"""
    length, run = len(unit), 0
    turned = _spelled([*unit, *unit])
    for place in range(length, len(words)):
        run = run + 1 if words[place] == words[place - length] else 0
        if run == length and _spelled(words[place - length + 1 : place + 1]) in turned:
            return True
    return False


def _spelled(words: Sequence[str]) -> str:
    return f" {' '.join(words)} "


def _ends_in_marks(text: str, target: str) -> bool:
    mark = text[-1:]
    if not mark or mark.isalnum() or mark == "_" or len(text) - len(text.rstrip(mark)) < LEAST_MARKS:
        return False
    return mark * MARKS_OF_TARGET not in target
