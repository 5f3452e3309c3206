"""Personal data in the texts of one row: masked by policy, in all texts alike; JSON stays valid JSON. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from tasks.pii import mask
from tasks.pii.edits import Edit, apply
from tasks.pii.json_strings import STRING, as_json, is_json
from tasks.pii.mask import PiiSpan
from tasks.pii.settings import PiiSettings

SHORTEST_REPEATED = 7
"""Least characters of a value that is also masked where it is repeated without its context."""


class PiiRefused(Exception):
    """Reason, field and value."""


def mask_texts(texts: Mapping[str, str], policy: PiiSettings) -> dict[str, list[Edit]]:
    """Name of a text → its edits, for texts with personal data.

    Raises:
        PiiRefused: the policy refuses personal data of this kind.
    """
    spans_of = {name: _spans_in(name, text, policy) for name, text in texts.items() if text and mask.may_hold(text)}
    values = {texts[name][span.start : span.end]: span.kind for name, spans in spans_of.items() for span in spans}
    if values:
        repeated = sorted((value for value in values if len(value) >= SHORTEST_REPEATED), key=len, reverse=True)
        pattern = re.compile("|".join(map(_whole, repeated)))
        for name, text in texts.items():
            if repeated and text:
                more = [PiiSpan(*match.span(), values[match[0]]) for match in pattern.finditer(text)]
                spans_of[name] = mask.without_overlaps([*spans_of.get(name, ()), *more])
    return {name: _edits(texts[name], spans) for name, spans in spans_of.items() if spans}


def _whole(value: str) -> str:
    """The pattern of a value that is not part of a longer number or word."""
    digits, word = "0-9", "0-9A-Za-z"
    before, after = (digits if end.isdigit() else word for end in (value[0], value[-1]))
    return f"(?<![{before}]){re.escape(value)}(?![{after}])"


def _spans_in(name: str, text: str, policy: PiiSettings) -> list[PiiSpan]:
    """The spans to mask."""
    spans = mask.find(text)
    for span in spans:
        if getattr(policy, span.kind) == "refuse":
            raise PiiRefused(f"pii_{span.kind}", name.partition(".")[0], f"{span.kind} at character {span.start + 1}")
    return [span for span in spans if getattr(policy, span.kind) == "mask"]


def _edits(text: str, spans: Sequence[PiiSpan]) -> list[Edit]:
    edits = [Edit(span.start, span.end, mask.placeholder(span.kind), f"pii_{span.kind}", span.kind) for span in spans]
    if text.lstrip()[:1] in ("[", "{") and is_json(text) and not is_json(apply(text, edits)):
        return _edits_of_json(text, spans)
    return edits


def _edits_of_json(text: str, spans: Sequence[PiiSpan]) -> list[Edit]:
    """The same where plain masking would break the JSON: a number becomes a string, and strings are masked after decoding."""
    edits: list[Edit] = []
    strings = [match.span() for match in STRING.finditer(text)]
    for span in spans:
        if not any(start < span.end and span.start < end for start, end in strings):
            edits.append(Edit(span.start, span.end, f'"{mask.placeholder(span.kind)}"', f"pii_{span.kind}", span.kind))
    for start, end in strings:
        kinds = [span.kind for span in spans if start < span.end and span.start < end]
        if kinds:
            value = json.loads(text[start:end], strict=False)
            inner = mask.find(value)
            masked = mask.mask(value, inner) if inner else mask.placeholder(kinds[0])
            edits.append(Edit(start, end, as_json(masked), f"pii_{kinds[0]}", kinds[0]))
    return sorted(edits, key=lambda edit: edit.start)
