"""One row on its own: cleaned, personal data handled, and the reason for which it is dropped, if any. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.curate.cleaning import spans
from tasks.curate.cleaning.clean_row import Cleaned, clean_row
from tasks.curate.cleaning.row_texts import texts_of, with_texts
from tasks.curate.settings import CurateSettings
from tasks.pii import mask
from tasks.pii.edits import apply
from tasks.pii.mask_texts import PiiRefused, mask_texts
from tasks.records.row import CLEANED_FIELDS

NOTHING_LEFT = "empty_after_cleaning"
"""The only reason of this module that a release does not override."""


@dataclass(frozen=True)
class JudgedRow:
    row: dict[str, Any]
    """ROW_SCHEMA; with placeholders where personal data were masked."""
    reason: str = ""
    field: str = ""
    value: str = ""
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Reason → 1 for what was cleaned or masked (`markup`, `pii_email`, ...), and reason and piece (`markup <b>`) → how often."""
    changed: tuple[str, ...] = ()
    """Fields whose text was changed."""


def judge_row(row: dict[str, Any], settings: CurateSettings) -> JudgedRow:
    """Cleans the row, masks personal data by policy, and applies the quality filters."""
    cleaned = clean_row(row, settings.markup == "remove")
    if not cleaned.row["output"].strip():
        return JudgedRow(cleaned.row, NOTHING_LEFT, "output", "", cleaned.counts)
    refusal = _mask(cleaned, settings)
    if cleaned.rounds:
        _move_spans(row, cleaned)
    if refusal is None:
        refusal = quality_reason(cleaned.row, settings)
    reason, field, value = refusal or ("", "", "")
    changed = tuple(name for name in CLEANED_FIELDS if cleaned.row[name] != row[name])
    return JudgedRow(cleaned.row, reason, field, value, cleaned.counts, changed)


def _mask(cleaned: Cleaned, settings: CurateSettings) -> tuple[str, str, str] | None:
    """Masks personal data in place; returns (reason, field, value) if the policy refuses the row."""
    row = cleaned.row
    if not any(row[field] and mask.may_hold(row[field]) for field in CLEANED_FIELDS):
        return None
    texts = texts_of(row)
    try:
        edits = mask_texts(texts, settings.pii)
    except PiiRefused as refusal:
        return refusal.args[0], refusal.args[1], refusal.args[2]
    for field, edits_of_text in edits.items():
        cleaned.rounds.setdefault(field, []).append(edits_of_text)
        cleaned.counts.update({edit.reason: 1 for edit in edits_of_text if edit.reason not in cleaned.counts})
        texts[field] = apply(texts[field], edits_of_text)
    cleaned.row = with_texts(row, texts, edits)
    return None


def _move_spans(row: dict[str, Any], cleaned: Cleaned) -> None:
    """Updates offsets in the answers that refer to changed texts."""
    if spans.may_hold(row):
        moved = spans.follow(texts_of(row), texts_of(cleaned.row), cleaned.rounds)
        cleaned.row = with_texts(cleaned.row, moved, moved)


def quality_reason(row: dict[str, Any], settings: CurateSettings) -> tuple[str, str, str] | None:
    """The first filter that the row does not pass, as (reason, field, value)."""
    limits = settings.quality
    if limits.languages and row["language"] not in limits.languages:
        return "language", "language", row["language"]
    if limits == type(limits)(languages=limits.languages):  # no other filter is on
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
