"""Answers that end in a loop, as those of a model that finds no end: `我有一个系统，我有一个系统，我有一个系统，我`. Pure.

What repeats is looked for as words in a row, up to the end of the answer; a last word may be cut off. People repeat themselves,
too: `no no no`, a refrain, a list of equal labels. So a run must be long (LEAST_WORDS), be most of the answer or come very often,
and be none that the target repeats. Of 96,600 texts of ten public sets four are loops by this rule, and nobody wrote them by hand.
"""

from __future__ import annotations

from collections.abc import Sequence

import regex

from tasks.scoring.answer_text import CJK, fold

LEAST_WORDS = 8
MOST_OF_IT = 0.5
"""Share of the answer's words that are in the run, from which on few turns are enough:"""
LEAST_TURNS, PHRASE_WORDS, LEAST_PHRASE_TURNS = 3.5, 4, 2.75
"""so many, and fewer of a phrase of several words."""
OFTEN_TURNS, OFTEN_WORDS = 6, 24
"""Behind a longer text: so many, of so many words together."""
LEAST_MARKS, MARKS_OF_TARGET = 10, 3
"""A mark of punctuation that often in a row, unless the target has it that often in a row."""
LONGEST_RULE = 100
"""Signs of a line that is a rule (`-----`), and closes a text."""
LEAST_GLUED, LONGEST_PART, LEAST_PARTS = 40, 12, 4
"""Characters of a last word that is a part of at most so many characters, at least so many times: `hahahaha…`, `0.0000…`."""

_WORD = regex.compile(
    rf"[二三四五六七八九]?十[一二三四五六七八九]|[二三四五六七八九]十|[{CJK}]|[^\W{CJK}]+(?:'[^\W{CJK}]+)*"
)
_ONES = ["", *"一二三四五六七八九"]
_DIGITS = {
    f"{tens}{ones}": 10 * ten + one
    for ten, tens in enumerate(["", "十", *(f"{digit}十" for digit in _ONES[2:])])
    for one, ones in enumerate(_ONES)
}
"""一 to 九十九, and "" for nothing."""
_COUNT = "#"
"""Stands for the numbers of a list that counts up; no word of a text."""
_RULE = regex.compile(rf"(?:\A|\n)[ \t]*([-=*_~#+])\1{{0,{LONGEST_RULE}}}+\Z")
_GLUED = regex.compile(
    rf"([^\s{CJK}]{{1,{LONGEST_PART}}}?)\1{{{LEAST_PARTS - 1},}}+(?P<rest>[^\s{CJK}]{{0,{LONGEST_PART}}})\Z"
)
_CUT = " \t\n\r\ufffd"
"""What may stand behind the last word: \ufffd is what is left of a character of which not every byte came."""


def ends_in_loop(answer: str, target: str) -> bool:
    """Does the answer repeat itself to its end, in a way that the target does not?"""
    text, expected = fold(answer).rstrip(_CUT), fold(target)
    if _ends_in_marks(text, expected) or _ends_in_parts(text, expected):
        return True
    words = _WORD.findall(text)
    if len(words) < LEAST_WORDS:
        return False
    of_target = _WORD.findall(expected)
    return _is_round(words, of_target) or _is_round(_uncounted(words), _uncounted(of_target), PHRASE_WORDS + 1)


def _is_round(words: Sequence[str], of_target: Sequence[str], least_words: int = 1) -> bool:
    """Do the words end in a phrase of so many words that is repeated often enough, and that the target does not repeat?"""
    unit = _unit(words)
    if unit is None and (unit := _unit(words[:-1])) is not None and not words[-1 - len(unit)].startswith(words[-1]):
        return False
    return unit is not None and len(unit) >= least_words and not _repeats(of_target, unit)


def _uncounted(words: Sequence[str]) -> list[str]:
    """The words, those numbers by one sign that count up to the last: `1. Turn it on. 2. Turn it on. 3. …`."""
    uncounted, following = list(words), 0
    for place in range(len(words) - 1, -1, -1):
        word = words[place]
        number = int(word) if word.isdecimal() and len(word) < LEAST_WORDS else _DIGITS.get(word, 0)
        if number and number in (following - 1, number if not following else 0):
            uncounted[place], following = _COUNT, number
    return uncounted


def _unit(words: Sequence[str]) -> Sequence[str] | None:
    """The shortest phrase that is repeated to the end often enough; one of numbers alone, as of a matrix, very often."""
    total = len(words)
    for length, more in enumerate(_matches(words[::-1])[1:], start=1):
        run = length + more
        turns = run / length
        least = LEAST_PHRASE_TURNS if length >= PHRASE_WORDS else LEAST_TURNS
        is_often = run >= OFTEN_WORDS and turns >= OFTEN_TURNS
        is_most = run >= max(LEAST_WORDS, MOST_OF_IT * total) and turns >= least
        if is_often or (is_most and not all(word.isdecimal() for word in words[total - length :])):
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
    return mark * MARKS_OF_TARGET not in target and _RULE.search(text) is None


def _ends_in_parts(text: str, target: str) -> bool:
    """Is the last word a short part again and again, which the target does not repeat?"""
    last = text[-LEAST_GLUED:]
    if len(last) < LEAST_GLUED or (glued := _GLUED.search(last)) is None:
        return False
    part, rest = glued[1], glued["rest"]
    return len(glued[0]) == LEAST_GLUED and part.startswith(rest) and part * MARKS_OF_TARGET not in target
