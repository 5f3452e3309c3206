"""One batch's part of the dataset: what is kept of it and what is dropped, given the rows of the batches before."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from tasks.curate.cleaning import clean_row
from tasks.curate.settings import CurateSettings
from tasks.curate.split import content_key, input_key, split_of
from tasks.files import canonical_json
from tasks.row import CURATED_SCHEMA, QUARANTINE_SCHEMA

KEY_SCHEMA = pa.schema([("key", pa.binary(16)), ("row_id", pa.string())])


@dataclass
class Part:
    kept: pa.Table
    """CURATED_SCHEMA."""
    dropped: pa.Table
    """QUARANTINE_SCHEMA, with a reason a row."""
    keys: pa.Table
    """KEY_SCHEMA: the content keys of the kept rows, for the batches that come after."""
    counts: dict[str, Any] = field(default_factory=dict)


def curate_part(rows: pa.Table, leaders: dict[bytes, str], settings: CurateSettings) -> Part:
    """Cleans, deduplicates and splits the rows of one batch (ROW_SCHEMA).

    Args:
        rows: accepted rows of the batch.
        leaders: content key → row id of every row kept from earlier batches; the kept rows of this one are added.
        settings: shares and salt of the split.
    """
    kept: list[dict[str, Any]] = []
    dropped: list[dict[str, Any]] = []
    keys: list[dict[str, Any]] = []
    reasons: Counter[str] = Counter()
    dirt: Counter[str] = Counter()
    for row in rows.to_pylist():
        cleaned = clean_row(row)
        dirt.update(cleaned.found)
        text = input_key(cleaned.row)
        key = content_key(cleaned.row, text)
        if not cleaned.row["output"]:
            reason, value = "empty_after_cleaning", row["output"]
        elif key in leaders:
            reason, value = "duplicate", leaders[key]
        else:
            leaders[key] = row["row_id"]
            keys.append({"key": key, "row_id": row["row_id"]})
            side = split_of(text, settings.split_salt, settings.valid_share, settings.test_share)
            kept.append({**cleaned.row, "split": side})
            continue
        reasons[reason] += 1
        dropped.append(_dropped(row, reason, value))
    return Part(
        pa.Table.from_pylist(kept, CURATED_SCHEMA),
        pa.Table.from_pylist(dropped, QUARANTINE_SCHEMA),
        pa.Table.from_pylist(keys, KEY_SCHEMA),
        {"rows": rows.num_rows, "dropped": dict(reasons), "cleaned": dict(dirt)},
    )


def _dropped(row: dict[str, Any], reason: str, value: str) -> dict[str, Any]:
    places = {name: row[name] for name in ("row_id", "batch", "index", "source", "file", "line")}
    return {**places, "reason": reason, "field": "output", "value": value[:500], "record": canonical_json(row)}
