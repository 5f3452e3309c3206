"""Changes to a text that are known one by one: applied, counted by what they took out, and followed by offsets. Pure."""

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
    """What was taken out, as it is counted: `<b>`, `&amp;`, `U+200B`."""
    count: int = 1


def apply(text: str, edits: Sequence[Edit]) -> str:
    """The text with each edit (in order, without overlaps) made."""
    pieces, place = [], 0
    for edit in edits:
        pieces += [text[place : edit.start], edit.new]
        place = edit.end
    return "".join([*pieces, text[place:]])


class Offsets:
    """Where places of a text are after several rounds of edits; what stood inside an edit grows to the whole of its new text."""

    def __init__(self, rounds: Iterable[Sequence[Edit]]) -> None:
        self._rounds = [(edits, [edit.start for edit in edits], _shifts(edits)) for edits in rounds if edits]

    def start(self, offset: int) -> int:
        for edits, starts, shifts in self._rounds:
            place = bisect_right(starts, offset) - 1
            if place >= 0 and offset < edits[place].end:
                offset = edits[place].start + shifts[place]
            else:
                offset += shifts[place + 1]
        return offset

    def end(self, offset: int) -> int:
        for edits, starts, shifts in self._rounds:
            place = bisect_right(starts, offset - 1) - 1
            if place >= 0 and offset < edits[place].end:
                offset = edits[place].end
            offset += shifts[place + 1]
        return offset


def _shifts(edits: Sequence[Edit]) -> list[int]:
    """How far a place before the first edit, between two, or after the last has moved."""
    shifts = [0]
    for edit in edits:
        shifts.append(shifts[-1] + len(edit.new) - (edit.end - edit.start))
    return shifts


def code_point(character: str) -> str:
    """A character as it is counted: `U+200B`."""
    return f"U+{ord(character):04X}"


def white_space(text: str, start: int, end: int) -> list[Edit]:
    """Edits that take out text[start:end], which is white space: one for each run of equal characters."""
    edits = []
    for character, run in groupby(text[start:end]):
        count = len(list(run))
        edits.append(Edit(start, start + count, "", "white_space", code_point(character), count))
        start += count
    return edits
