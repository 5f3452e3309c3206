"""Detects personal data and secrets in a text, English or Chinese, and masks them with typed placeholders. Pure.

    mask("写信给 li@example.org", find("写信给 li@example.org"))  # "写信给 [EMAIL]"

A pattern proposes, and a check confirms where there is one: check digits by python-stdnum, international numbers by phonenumbers,
others by their context. Boundaries consider ASCII only, since Chinese has no spaces.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tasks.pii.patterns import DETECTORS, GATES, KINDS, Kind


@dataclass(frozen=True, order=True)
class PiiSpan:
    start: int
    end: int
    """Exclusive."""
    kind: Kind


def may_hold(text: str) -> bool:
    """A cheap check: False means that `find` would return nothing."""
    text = _narrow(text)
    return any(gate.is_open(text) for gate in GATES)


MAX_PASSES = 8
"""Scans of a whole text: ordinary texts need two or three. Further adjacent spans are then followed one by one."""
NEAR = 512
"""Characters after a span in which the next one is searched; more where that reaches their end."""


def find(text: str) -> list[PiiSpan]:
    """The spans of personal data, in order, without overlaps.

    The masked text is scanned again until nothing more is detected, since masking one span may expose another: so masking is
    idempotent. The time is linear in the text, also where each span exposes the next.
    """
    if not may_hold(text):
        return []
    text = _narrow(text)
    spans, is_complete = _search(text, [])
    if not is_complete:
        adjacent = _adjacent(text, spans)
        spans, _ = _search(text, without_overlaps([*spans, *adjacent]))
    return spans


def kinds_in(text: str, *known: str) -> list[Kind]:
    """The kinds of personal data in a text, sorted, without values that one of the `known` texts has."""
    text = _narrow(text)
    spans = [span for span in find(text) if not any(text[span.start : span.end] in _narrow(other) for other in known)]
    return sorted({span.kind for span in spans})


def _search(text: str, spans: list[PiiSpan]) -> tuple[list[PiiSpan], bool]:
    """The spans with further ones, by scans of the whole masked text; and whether the last scan detected nothing."""
    for _ in range(MAX_PASSES):
        new_spans = list(_scan(mask(text, spans)))
        if not new_spans:
            return spans, True
        spans = without_overlaps([*spans, *_unmask_offsets(new_spans, spans)])
    return spans, False


def _adjacent(text: str, spans: Sequence[PiiSpan]) -> list[PiiSpan]:
    """The spans that start right after a masked span, those right after these, and so on."""
    adjacent: list[PiiSpan] = []
    seen: set[int] = set()
    for span in spans:
        last: PiiSpan | None = span
        while last is not None and last.end not in seen:
            seen.add(last.end)
            last = _span_at(text, last.end)
            if last is not None:
                adjacent.append(last)
    return adjacent


def _span_at(text: str, position: int, near: int = NEAR) -> PiiSpan | None:
    """The span that starts at a position, as if a placeholder preceded it."""
    rest = "]" + text[position : position + near]
    for detector in DETECTORS:
        match = detector.pattern.match(rest, 1)
        if match is None or match.start("x") != 1 or not (end := detector.check(rest, match)):
            continue
        if end == len(rest) and position + near < len(text):
            return _span_at(text, position, 4 * near)
        return PiiSpan(position, position + end - 1, detector.kind)
    return None


def mask(text: str, spans: Sequence[PiiSpan]) -> str:
    """The text with each span (in order, without overlaps) replaced by its placeholder, such as `[EMAIL]`."""
    pieces, position = [], 0
    for span in spans:
        pieces += [text[position : span.start], placeholder(span.kind)]
        position = span.end
    return "".join([*pieces, text[position:]])


def placeholder(kind: Kind) -> str:
    """The placeholder for personal data of a kind."""
    return f"[{kind.upper()}]"


def _unmask_offsets(new_spans: Sequence[PiiSpan], masked: Sequence[PiiSpan]) -> list[PiiSpan]:
    """Spans of the masked text with their offsets in the text before masking."""
    starts, growth = [], [0]
    for span in masked:
        starts.append(span.start + growth[-1])
        growth.append(growth[-1] + len(placeholder(span.kind)) - (span.end - span.start))

    def to_original(offset: int) -> int:
        return offset - growth[bisect_left(starts, offset)]

    return [PiiSpan(to_original(span.start), to_original(span.end), span.kind) for span in new_spans]


def without_overlaps(spans: Sequence[PiiSpan]) -> list[PiiSpan]:
    """The spans in order; overlapping ones are merged."""
    merged: list[PiiSpan] = []
    for span in sorted(spans):
        if merged and span.start < merged[-1].end:
            last = merged.pop()
            # the union: the rest of an e-mail address, half of which was taken for a phone number, is still personal
            span = PiiSpan(last.start, max(last.end, span.end), min(last.kind, span.kind, key=KINDS.index))
        merged.append(span)
    return merged


_DETECTORS_OF = {gate: [detector for detector in DETECTORS if detector.gate is gate] for gate in GATES}
_WIDE = re.compile("[０-９Ａ-Ｚａ-ｚ＠．＋－]")
_NARROWED = {code: code - 0xFEE0 for code in (*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))}
_NARROWED |= {ord(wide): ord(narrow) for wide, narrow in zip("＠．＋－", "@.+-", strict=True)}


def _narrow(text: str) -> str:
    """Full-width letters and digits as ASCII, with the same offsets."""
    return text if text.isascii() or not _WIDE.search(text) else text.translate(_NARROWED)


def _scan(text: str) -> Iterator[PiiSpan]:
    for gate in GATES:
        if not gate.is_open(text):
            continue
        for start, end in gate.windows(text):
            for detector in _DETECTORS_OF[gate]:
                for match in detector.pattern.finditer(text, start, end):
                    if value_end := detector.check(text, match):
                        yield PiiSpan(match.start("x"), value_end, detector.kind)
