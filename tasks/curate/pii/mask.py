"""Personal data and secrets in a text, English or Chinese: found, and masked with typed placeholders. Pure.

    mask("写信给 li@example.org", find("写信给 li@example.org"))  # "写信给 [EMAIL]"

A pattern proposes, and a check confirms where there is one: check digits by python-stdnum, international numbers by
phonenumbers, the rest by what surrounds them. Boundaries look at ASCII alone, since Chinese sets no spaces.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tasks.curate.pii.patterns import DETECTORS, GATES, KINDS, Kind


@dataclass(frozen=True, order=True)
class Found:
    start: int
    end: int
    """The place after the last character."""
    kind: Kind


def may_hold(text: str) -> bool:
    """A cheap first look: False means that `find` would find nothing; True, that it is worth asking."""
    text = _narrow(text)
    return any(gate.is_open(text) for gate in GATES)


MOST_PASSES = 8
"""Looks at a whole text: ordinary texts need two or three. What is still set free then is followed from place to place."""
NEAR = 512
"""Characters behind a find in which the next one is looked for; more where it goes on."""


def find(text: str) -> list[Found]:
    """What the text holds, in order, without overlaps.

    The search goes on in the masked text until nothing more is found, so that masking once is enough: taking out a find
    may set another one free. It takes time in proportion to the text, also where each find frees the next.
    """
    if not may_hold(text):
        return []
    text = _narrow(text)
    found, is_done = _looked_through(text, [])
    if not is_done:
        chained = _freed(text, found)
        found, _ = _looked_through(text, without_overlaps([*found, *chained]))
    return found


def _looked_through(text: str, found: list[Found]) -> tuple[list[Found], bool]:
    """More finds, by looks at the whole text; and whether the last look found nothing."""
    for _ in range(MOST_PASSES):
        fresh = list(_scan(mask(text, found)))
        if not fresh:
            return found, True
        found = without_overlaps([*found, *_in_original(fresh, found)])
    return found, False


def _freed(text: str, found: Sequence[Found]) -> list[Found]:
    """What begins right behind a find once that is masked, and what begins right behind this, and so on."""
    freed: list[Found] = []
    seen: set[int] = set()
    for one in found:
        last: Found | None = one
        while last is not None and last.end not in seen:
            seen.add(last.end)
            last = _found_at(text, last.end)
            if last is not None:
                freed.append(last)
    return freed


def _found_at(text: str, place: int, near: int = NEAR) -> Found | None:
    """What begins at a place, as if a placeholder stood before it."""
    rest = "]" + text[place : place + near]
    for detector in DETECTORS:
        match = detector.pattern.match(rest, 1)
        if match is None or match.start("x") != 1 or not (until := detector.check(rest, match)):
            continue
        if until == len(rest) and place + near < len(text):
            return _found_at(text, place, 4 * near)
        return Found(place, place + until - 1, detector.kind)
    return None


def mask(text: str, found: Sequence[Found]) -> str:
    """The text with each find (in order, without overlaps) replaced by its placeholder, such as `[EMAIL]`."""
    pieces, place = [], 0
    for each in found:
        pieces += [text[place : each.start], placeholder(each.kind)]
        place = each.end
    return "".join([*pieces, text[place:]])


def placeholder(kind: Kind) -> str:
    """What stands in the place of personal data of a kind."""
    return f"[{kind.upper()}]"


def _in_original(fresh: Sequence[Found], masked: Sequence[Found]) -> list[Found]:
    """Finds in the masked text at their places in the text before masking."""
    starts, grown = [], [0]
    for one in masked:
        starts.append(one.start + grown[-1])
        grown.append(grown[-1] + len(placeholder(one.kind)) - (one.end - one.start))

    def place(offset: int) -> int:
        return offset - grown[bisect_left(starts, offset)]

    return [Found(place(each.start), place(each.end), each.kind) for each in fresh]


def without_overlaps(found: Sequence[Found]) -> list[Found]:
    """The finds in order, those that overlap as one."""
    kept: list[Found] = []
    for each in sorted(found):
        if kept and each.start < kept[-1].end:
            last = kept.pop()
            # both are covered: the rest of an e-mail address whose half was a phone number is still personal
            each = Found(last.start, max(last.end, each.end), min(last.kind, each.kind, key=KINDS.index))
        kept.append(each)
    return kept


_BEHIND = {gate: [detector for detector in DETECTORS if detector.gate is gate] for gate in GATES}
_WIDE = re.compile("[０-９Ａ-Ｚａ-ｚ＠．＋－]")
_NARROWED = {code: code - 0xFEE0 for code in (*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))}
_NARROWED |= {ord(wide): ord(narrow) for wide, narrow in zip("＠．＋－", "@.+-", strict=True)}


def _narrow(text: str) -> str:
    """Full-width letters and digits as ASCII, at the same places."""
    return text if text.isascii() or not _WIDE.search(text) else text.translate(_NARROWED)


def _scan(text: str) -> Iterator[Found]:
    for gate in GATES:
        if not gate.is_open(text):
            continue
        for start, end in gate.windows(text):
            for detector in _BEHIND[gate]:
                for match in detector.pattern.finditer(text, start, end):
                    if until := detector.check(text, match):
                        yield Found(match.start("x"), until, detector.kind)
