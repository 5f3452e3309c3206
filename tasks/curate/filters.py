"""A row by itself: cleaned, personal data handled, and the reason for which it is dropped, if there is one. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tasks.curate import pii
from tasks.curate.cleaning import clean_row
from tasks.curate.settings import CurateSettings, PiiSettings
from tasks.files import canonical_json
from tasks.row import CLEANED_FIELDS

NOTHING_LEFT = "empty_after_cleaning"
"""The one reason of this module that no release undoes."""
MASKED_FIELDS = ("system", "instruction", "input", "output", "rejected")


@dataclass(frozen=True)
class JudgedRow:
    row: dict[str, Any]
    """ROW_SCHEMA; with placeholders where personal data were masked."""
    reason: str = ""
    field: str = ""
    value: str = ""
    found: tuple[str, ...] = ()
    """What was cleaned or masked: `markup`, `pii_email`, ..."""
    changed: tuple[str, ...] = ()
    """Fields whose text is another than it came."""


def judge_row(row: dict[str, Any], settings: CurateSettings) -> JudgedRow:
    """Cleans the row, masks what the policy says, and drops what no setting lets through."""
    cleaned = clean_row(row)
    came, row, found = row, cleaned.row, cleaned.found
    if not row["output"]:
        return JudgedRow(row, NOTHING_LEFT, "output", "", tuple(found))
    refused = _mask(row, settings, found)
    if refused is None:
        refused = quality_reason(row, settings)
    reason, field, value = refused or ("", "", "")
    changed = tuple(name for name in CLEANED_FIELDS if row[name] != came[name])
    return JudgedRow(row, reason, field, value, tuple(found), changed)


def _mask(row: dict[str, Any], settings: CurateSettings, found: list[str]) -> tuple[str, str, str] | None:
    """Masks personal data in place; returns why the row is refused, if the policy says so."""
    kinds: set[str] = set()
    try:
        for name in MASKED_FIELDS:
            if row[name] and pii.may_hold(row[name]):
                row[name] = _masked(row[name], name, settings.pii, kinds)
        for name in ("history", "thoughts"):
            if row[name] not in ("", "[]") and pii.may_hold(row[name]):
                turns = json.loads(row[name])
                row[name] = canonical_json([[who, _masked(text, name, settings.pii, kinds)] for who, text in turns])
    except _Refused as refused:
        return refused.args[0], refused.args[1], refused.args[2]
    found += [f"pii_{kind}" for kind in sorted(kinds)]
    return None


class _Refused(Exception):
    """Reason, field and value."""


def _masked(text: str, name: str, policy: PiiSettings, kinds: set[str]) -> str:
    finds = pii.find(text)
    for each in finds:
        if getattr(policy, each.kind) == "refuse":
            raise _Refused(f"pii_{each.kind}", name, f"{each.kind} at character {each.start + 1}")
    masked = [each for each in finds if getattr(policy, each.kind) == "mask"]
    kinds.update(each.kind for each in masked)
    return pii.mask(text, masked)


def quality_reason(row: dict[str, Any], settings: CurateSettings) -> tuple[str, str, str] | None:
    """The first filter that the row does not pass, as (reason, field, value)."""
    limits = settings.quality
    if limits.languages and row["language"] not in limits.languages:
        return "language", "language", row["language"]
    if limits == type(limits)(languages=limits.languages):  # no other filter is on: no need to measure
        return None
    from tasks.curate import quality

    measured = quality.measure(row)
    bounds = (
        ("length_ratio_low", limits.min_length_ratio, measured.length_ratio, -1),
        ("length_ratio_high", limits.max_length_ratio, measured.length_ratio, 1),
        ("repetition", limits.max_repetition, measured.repetition, 1),
        ("symbols", limits.max_symbol_share, measured.symbol_share, 1),
    )
    for reason, limit, value, sign in bounds:
        if limit is not None and (value - limit) * sign > 0:
            return reason, "output", f"{value:.3f}"
    if limits.refusals == "drop" and measured.is_refusal:
        return "refusal", "output", row["output"][:200]
    if limits.toxic_words == "drop" and measured.is_toxic:
        return "toxic_words", "output", ""
    return None
