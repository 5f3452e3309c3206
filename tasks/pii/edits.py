"""Edits of a text: applied, counted by the removed piece, and used to map offsets. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True, slots=True)
class Edit:
    """text[start:end] becomes `new`."""

    start: int
    end: int
    new: str
    reason: str
    """`control_characters`, `line_ends`, `markup`, `end_markers` or `white_space`; `pii_email`, ..."""
    piece: str = ""
    """The removed piece, as it is counted: `<b>`, `&amp;`, `U+200B`."""
    count: int = 1


def apply(text: str, edits: Sequence[Edit]) -> str:
    """The text with the edits (in order, without overlaps) applied."""
    pieces, position = [], 0
    for edit in edits:
        pieces += [text[position : edit.start], edit.new]
        position = edit.end
    return "".join([*pieces, text[position:]])


class Offsets:
    """Maps offsets of a text through several rounds of edits; an offset inside an edit extends to the whole replacement."""

    def __init__(self, rounds: Iterable[Sequence[Edit]]) -> None:
        self._rounds = [(edits, [edit.start for edit in edits], _shifts(edits)) for edits in rounds if edits]

    def start(self, offset: int) -> int:
        for edits, starts, shifts in self._rounds:
            number = bisect_right(starts, offset) - 1
            if number >= 0 and offset < edits[number].end:
                offset = edits[number].start + shifts[number]
            else:
                offset += shifts[number + 1]
        return offset

    def end(self, offset: int) -> int:
        for edits, starts, shifts in self._rounds:
            number = bisect_right(starts, offset - 1) - 1
            if number >= 0 and offset < edits[number].end:
                offset = edits[number].end
            offset += shifts[number + 1]
        return offset


def _shifts(edits: Sequence[Edit]) -> list[int]:
    """(edits + 1,) the shift of an offset before the first edit, between two, and after the last."""
    shifts = [0]
    for edit in edits:
        shifts.append(shifts[-1] + len(edit.new) - (edit.end - edit.start))
    return shifts


def code_point(character: str) -> str:
    """A character's code point, such as `U+200B`."""
    return f"U+{ord(character):04X}"


def white_space(text: str, start: int, end: int) -> list[Edit]:
    """Edits that remove text[start:end], which is white space: one per run of equal characters."""
    edits = []
    for character, run in groupby(text[start:end]):
        count = len(list(run))
        edits.append(Edit(start, start + count, "", "white_space", code_point(character), count))
        start += count
    return edits
