"""A batch's accepted rows, cleaned, with their MinHash signatures and fingerprints. Independent of other batches.

Signatures are cached by content (curator.py) without the text, which is stored in the raw batch and cleaned again where
it is needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.curate.dedup.minhash import append_fingerprints, bands_of, fingerprints_of, rows_in_band, shingles_of
from tasks.curate.dedup.sketch_file import FACT_SCHEMA, Signatures
from tasks.curate.dedup.tokens import tokenise
from tasks.curate.filters import JudgedRow, judge_row
from tasks.curate.settings import CurateSettings
from tasks.curate.sides.split import content_key, exchanges, input_text, last_prompt, passage_text, split_of
from tasks.dataset.conflicts import conflict_key
from tasks.records.parse import fill_up, to_rows
from tasks.records.row import ROW_SCHEMA
from tasks.records.segmentation import normalise
from tasks.runtime.spawned_workers import Workers
from tasks.state.manifest import Batch

ROWS_AT_ONCE = 10_000
"""Rows of one job of a process."""
ROWS_WORTH_A_PROCESS = 20_000

CLEAN_SCHEMA = pa.schema([*ROW_SCHEMA, ("changed", pa.list_(pa.string()))])
"""Cleaned and masked rows, with the names of the fields that changed."""


@dataclass(frozen=True)
class CuratedRows:
    rows: pa.Table
    """CLEAN_SCHEMA."""
    signatures: Signatures
    cleaned: dict[str, int]
    """Kind of noise or personal data → rows that held it."""


def compute_signatures(
    batch: Batch, accepted: list[int] | None, settings: CurateSettings, processes: int
) -> Iterator[CuratedRows]:
    """The batch's rows, ROWS_AT_ONCE records at a time, in order.

    Args:
        accepted: indices in the batch; None takes every record that is a row.
    """
    count = batch.rows
    ranges = [(first, min(first + ROWS_AT_ONCE, count)) for first in range(0, count, ROWS_AT_ONCE)]
    chosen = None if accepted is None else np.asarray(accepted, np.int64)
    jobs = [(batch, first, _between(chosen, first, last), last, settings) for first, last in ranges]
    workers = Workers(1 if count < ROWS_WORTH_A_PROCESS else min(processes, len(jobs)), "curate")
    try:
        yield from workers.map(_process_range, jobs)
    finally:
        workers.close()


def _between(chosen: Any, first: int, last: int) -> Any:
    if chosen is None:
        return None
    return chosen[np.searchsorted(chosen, first) : np.searchsorted(chosen, last)]


def _process_range(batch: Batch, first: int, accepted: Any, last: int, settings: CurateSettings) -> CuratedRows:
    return process_rows(read_rows(batch, first, last, accepted), settings)


def read_rows(batch: Batch, first: int, last: int, indices: Any = None) -> pa.Table:
    """Rows (ROW_SCHEMA) of a batch, not cleaned, from index `first` up to before `last`.

    Args:
        indices: indices in the batch, ascending, within that range; None takes every record in it that is a row.
    """
    selected = np.arange(first, last) if indices is None else np.asarray(indices, np.int64)
    if not len(selected):
        return ROW_SCHEMA.empty_table()
    with pq.ParquetFile(batch.path) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        starts = np.cumsum([0, *sizes])
        row_groups = np.searchsorted(starts, selected, side="right") - 1
        groups = np.unique(row_groups)
        raw = fill_up(file.read_row_groups(groups.tolist()))
    read_before = np.cumsum([0, *(sizes[group] for group in groups.tolist())])[np.searchsorted(groups, row_groups)]
    rows = to_rows(raw.take(pa.array(selected - starts[row_groups] + read_before)), batch, selected.tolist())
    if indices is None:
        rows = rows.filter(pc.equal(rows["problem"], ""))
    return rows.select(ROW_SCHEMA.names)


def clean_rows(rows: pa.Table, settings: CurateSettings) -> list[JudgedRow]:
    """Each row (ROW_SCHEMA) cleaned and masked, with the reason for which it is dropped."""
    return [judge_row(row, settings) for row in rows.to_pylist()]


def to_clean_table(judged: list[JudgedRow]) -> pa.Table:
    """CLEAN_SCHEMA."""
    return pa.Table.from_pylist([{**row.row, "changed": row.changed} for row in judged], CLEAN_SCHEMA)


def process_rows(rows: pa.Table, settings: CurateSettings) -> CuratedRows:
    """Cleans rows (ROW_SCHEMA) and computes their signatures."""
    cleaned: Counter[str] = Counter()
    judged = clean_rows(rows, settings)
    for row in judged:
        cleaned.update(row.counts)
    kept = [row.row for row in judged]
    inputs = [input_text(row) for row in kept]
    normalised = [normalise(text) for text in inputs]
    prompts = [
        text if row["history"] == "[]" and not row["system"] and last_prompt(row) else normalise(last_prompt(row))
        for row, text in zip(kept, normalised, strict=True)
    ]
    answers = [normalise(row["output"]) for row in kept]
    content = b"".join(map(content_key, kept, normalised, answers))
    keys = np.frombuffer(content, dtype=">u8").reshape(-1, 2).astype(np.uint64)
    shares = (settings.split_salt, settings.valid_share, settings.test_share)
    shingles = shingles_of(tokenise(inputs, with_symbols=True))
    bands = bands_of(*shingles, rows_in_band(settings.near_duplicate_threshold))
    passages = fingerprints_of(tokenise([passage_text(row) for row in kept]))
    fingerprints, offsets = append_fingerprints(*passages, list(map(exchanges, kept, prompts, answers)))
    facts = {
        "index": rows["index"],
        "row_id": rows["row_id"],
        "use": rows["use"],
        "is_synthetic": [bool(row["synthetic"]) for row in kept],
        "is_served": [bool(row["served"]) for row in kept],
        "reason": [row.reason for row in judged],
        "field": [row.field for row in judged],
        "value": [row.value for row in judged],
        "split": [split_of(text, *shares) for text in normalised],
        "key": keys[:, 0],
        "key2": keys[:, 1],
        "prompt": np.array([0 if settings.conflicts == "keep" else conflict_key(row) for row in kept], np.uint64),
        "prints": np.diff(offsets).astype(np.int32),
    }
    signatures = Signatures(pa.table(facts, schema=FACT_SCHEMA), bands, fingerprints)
    return CuratedRows(to_clean_table(judged), signatures, dict(cleaned))
