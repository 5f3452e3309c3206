"""A row by itself: cleaned, personal data handled, and the reason for which it is dropped, if there is one. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.curate.cleaning import spans
from tasks.curate.cleaning.clean_row import Cleaned, clean_row
from tasks.curate.cleaning.edits import apply
from tasks.curate.cleaning.row_texts import texts_of, with_texts
from tasks.curate.pii import mask
from tasks.curate.pii.row import PiiRefused, mask_texts
from tasks.curate.settings import CurateSettings
from tasks.records.row import CLEANED_FIELDS

NOTHING_LEFT = "empty_after_cleaning"
"""The one reason of this module that no release undoes."""


@dataclass(frozen=True)
class JudgedRow:
    row: dict[str, Any]
    """ROW_SCHEMA; with placeholders where personal data were masked."""
    reason: str = ""
    field: str = ""
    value: str = ""
    found: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """What was cleaned or masked → 1: `markup`, `pii_email`, ...; and what went → how often: `markup <b>`."""
    changed: tuple[str, ...] = ()
    """Fields whose text is another than it came."""


def judge_row(row: dict[str, Any], settings: CurateSettings) -> JudgedRow:
    """Cleans the row, masks what the policy says, and drops what no setting lets through."""
    cleaned = clean_row(row, settings.markup == "remove")
    if not cleaned.row["output"].strip():
        return JudgedRow(cleaned.row, NOTHING_LEFT, "output", "", cleaned.found)
    refused = _mask(cleaned, settings)
    if cleaned.rounds:
        _move_spans(row, cleaned)
    if refused is None:
        refused = quality_reason(cleaned.row, settings)
    reason, name, value = refused or ("", "", "")
    changed = tuple(each for each in CLEANED_FIELDS if cleaned.row[each] != row[each])
    return JudgedRow(cleaned.row, reason, name, value, cleaned.found, changed)


def _mask(cleaned: Cleaned, settings: CurateSettings) -> tuple[str, str, str] | None:
    """Masks personal data in place; returns why the row is refused, if the policy says so."""
    row = cleaned.row
    if not any(row[name] and mask.may_hold(row[name]) for name in CLEANED_FIELDS):
        return None
    texts = texts_of(row)
    try:
        edits = mask_texts(texts, settings.pii)
    except PiiRefused as refused:
        return refused.args[0], refused.args[1], refused.args[2]
    for name, made in edits.items():
        cleaned.rounds.setdefault(name, []).append(made)
        cleaned.found.update({edit.reason: 1 for edit in made if edit.reason not in cleaned.found})
        texts[name] = apply(texts[name], made)
    cleaned.row = with_texts(row, texts, edits)
    return None


def _move_spans(row: dict[str, Any], cleaned: Cleaned) -> None:
    """Lets offsets in the answers follow the texts that they point into."""
    if spans.may_hold(row):
        moved = spans.follow(texts_of(row), texts_of(cleaned.row), cleaned.rounds)
        cleaned.row = with_texts(cleaned.row, moved, moved)


def quality_reason(row: dict[str, Any], settings: CurateSettings) -> tuple[str, str, str] | None:
    """The first filter that the row does not pass, as (reason, field, value)."""
    limits = settings.quality
    if limits.languages and row["language"] not in limits.languages:
        return "language", "language", row["language"]
    if limits == type(limits)(languages=limits.languages):  # no other filter is on: no need to measure
        return None
    from tasks.curate.cleaning import quality

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
