"""Personal data in the texts of one row: masked by policy, JSON left as JSON, the same value in each of the texts. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from tasks.curate.cleaning.edits import Edit, apply
from tasks.curate.cleaning.json_strings import STRING, is_json, written
from tasks.curate.pii import mask
from tasks.curate.pii.mask import Found
from tasks.curate.settings import PiiSettings

SHORTEST_REPEATED = 7
"""Characters of a value that is masked where it stands again without what made it known."""


class PiiRefused(Exception):
    """Reason, field and value."""


def mask_texts(texts: Mapping[str, str], policy: PiiSettings) -> dict[str, list[Edit]]:
    """Text's name → what is masked in it, for those in which anything is.

    Raises:
        PiiRefused: the policy refuses what a text holds.
    """
    finds = {name: _found(name, text, policy) for name, text in texts.items() if text and mask.may_hold(text)}
    values = {texts[name][each.start : each.end]: each.kind for name, found in finds.items() for each in found}
    if values:
        again = sorted((value for value in values if len(value) >= SHORTEST_REPEATED), key=len, reverse=True)
        pattern = re.compile("|".join(map(_whole, again)))
        for name, text in texts.items():
            if again and text:
                more = [Found(*match.span(), values[match[0]]) for match in pattern.finditer(text)]
                finds[name] = mask.without_overlaps([*finds.get(name, ()), *more])
    return {name: _edits(texts[name], found) for name, found in finds.items() if found}


def _whole(value: str) -> str:
    """A value's pattern: no digit goes on with its number, no letter or digit with its word."""
    digits, word = "0-9", "0-9A-Za-z"
    before, after = (digits if end.isdigit() else word for end in (value[0], value[-1]))
    return f"(?<![{before}]){re.escape(value)}(?![{after}])"


def _found(name: str, text: str, policy: PiiSettings) -> list[Found]:
    """What is to be masked."""
    found = mask.find(text)
    for each in found:
        if getattr(policy, each.kind) == "refuse":
            raise PiiRefused(f"pii_{each.kind}", name.partition(".")[0], f"{each.kind} at character {each.start + 1}")
    return [each for each in found if getattr(policy, each.kind) == "mask"]


def _edits(text: str, found: Sequence[Found]) -> list[Edit]:
    edits = [Edit(each.start, each.end, mask.placeholder(each.kind), f"pii_{each.kind}", each.kind) for each in found]
    if text.lstrip()[:1] in ("[", "{") and is_json(text) and not is_json(apply(text, edits)):
        return _edits_of_json(text, found)
    return edits


def _edits_of_json(text: str, found: Sequence[Found]) -> list[Edit]:
    """The same where masking would leave no JSON: a number becomes a string, and strings are masked as what they stand for."""
    edits: list[Edit] = []
    strings = [match.span() for match in STRING.finditer(text)]
    for each in found:
        if not any(start < each.end and each.start < end for start, end in strings):
            edits.append(Edit(each.start, each.end, f'"{mask.placeholder(each.kind)}"', f"pii_{each.kind}", each.kind))
    for start, end in strings:
        kinds = [each.kind for each in found if start < each.end and each.start < end]
        if kinds:
            value = json.loads(text[start:end], strict=False)
            inner = mask.find(value)
            masked = mask.mask(value, inner) if inner else mask.placeholder(kinds[0])
            edits.append(Edit(start, end, written(masked), f"pii_{kinds[0]}", kinds[0]))
    return sorted(edits, key=lambda edit: edit.start)
