"""Personal data and secrets in a text, English or Chinese: found, and masked with typed placeholders. Pure.

    mask("写信给 li@example.org", find("写信给 li@example.org"))  # "写信给 [EMAIL]"

A pattern proposes, and a check confirms where there is one: check digits by python-stdnum, international numbers by
phonenumbers, the rest by what surrounds them. Boundaries look at ASCII alone, since Chinese sets no spaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tasks.curate.pii_patterns import DETECTORS, GATES, KINDS, Kind


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


def find(text: str) -> list[Found]:
    """What the text holds, in order, without overlaps.

    The search goes on in the masked text until nothing more is found, so that masking once is enough: taking out a find
    may set another one free.
    """
    if not may_hold(text):
        return []
    text = _narrow(text)
    found: list[Found] = []
    while fresh := list(_scan(mask(text, found))):
        found = _without_overlaps([*found, *(_in_original(each, found) for each in fresh)])
    return found


def mask(text: str, found: Sequence[Found]) -> str:
    """The text with each find (in order, without overlaps) replaced by its placeholder, such as `[EMAIL]`."""
    pieces, place = [], 0
    for each in found:
        pieces += [text[place : each.start], _placeholder(each.kind)]
        place = each.end
    return "".join([*pieces, text[place:]])


def _placeholder(kind: Kind) -> str:
    return f"[{kind.upper()}]"


def _in_original(each: Found, masked: Sequence[Found]) -> Found:
    """A find in the masked text as its place in the text before masking."""

    def place(offset: int) -> int:
        grown = 0
        for one in masked:
            if offset <= one.start + grown:
                break
            grown += len(_placeholder(one.kind)) - (one.end - one.start)
        return offset - grown

    return Found(place(each.start), place(each.end), each.kind)


def _without_overlaps(found: Sequence[Found]) -> list[Found]:
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
