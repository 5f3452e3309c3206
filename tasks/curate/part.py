"""A batch's part of the dataset: its kept rows, its dropped rows with reasons, and the rows that it removes from earlier parts.

kept.parquet      CURATED_SCHEMA: linked into data/curated
changes.parquet   CHANGE_SCHEMA: linked there too, where there are any
dropped.parquet   QUARANTINE_SCHEMA: linked into data/quarantine/curate
sides.parquet     the split of each row of the signatures, for later batches
counts.json       for the report; written last, it completes the part
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.curate.batch_state import BatchState
from tasks.curate.dedup.known import BENCHMARK, GOLDEN, NO_SPLIT, SPLITS
from tasks.curate.dedup.sketch_file import read_parquet
from tasks.records.row import CHANGE_SCHEMA, CLEANED_FIELDS, CURATED_SCHEMA, QUARANTINE_SCHEMA
from tasks.runtime.files import ParquetStream, canonical_json, write_json

NAMES = ("kept.parquet", "changes.parquet", "dropped.parquet", "sides.parquet", "counts.json")
SPLITS_SCHEMA = pa.schema([("split", pa.int8()), ("is_tombstone", pa.bool_())])
ORIGIN_FIELDS = ("row_id", "batch", "index", "source", "file", "line")


def write_part(
    folder: Path,
    chunks: Iterable[pa.Table],
    state: BatchState,
    removed: Sequence[dict[str, Any]],
    cleaned: Any,
) -> None:
    """Writes a part into an empty folder.

    Args:
        chunks: the batch's rows (CLEAN_SCHEMA), in order.
        state: the decisions on them; tombstones are neither kept nor listed as dropped.
        removed: rows of earlier parts (ROW_SCHEMA, with `by`, `reason` and `split`) that this batch removes.
        cleaned: kind of noise → rows that held it; kind and piece (`markup <b>`) → how often it was removed.
    """
    dropped: Counter[str] = Counter()
    splits: Counter[tuple[str, str]] = Counter()
    rows = grouped = 0
    with (
        ParquetStream(folder / "kept.parquet", CURATED_SCHEMA) as kept_file,
        ParquetStream(folder / "dropped.parquet", QUARANTINE_SCHEMA) as dropped_file,
    ):
        for chunk in chunks:
            rows_of_chunk = slice(rows, rows + chunk.num_rows)
            kept, families, dropped_entries = _divide(chunk, rows_of_chunk, state)
            rows += chunk.num_rows
            grouped += sum(map(bool, kept["group"].to_pylist()))
            splits.update(zip(families, kept["split"].to_pylist(), strict=True))
            dropped.update(entry["reason"] for entry in dropped_entries)
            kept_file.write(kept)
            dropped_file.write(pa.Table.from_pylist(dropped_entries, QUARANTINE_SCHEMA))
        entries = [_quarantined(row, row["reason"], "input", row["by"]) for row in removed]
        dropped_file.write(pa.Table.from_pylist(entries, QUARANTINE_SCHEMA))
    with ParquetStream(folder / "changes.parquet", CHANGE_SCHEMA) as changes_file:
        changes_file.write(pa.Table.from_pylist(list(removed), CHANGE_SCHEMA))
    with ParquetStream(folder / "sides.parquet", SPLITS_SCHEMA) as splits_file:
        columns = [np.ascontiguousarray(column) for column in (state.split, state.is_tombstone)]
        splits_file.write(pa.table(columns, schema=SPLITS_SCHEMA))
    taken_out = Counter((row["family"], row["split"], row["reason"]) for row in removed)
    counts = {
        "rows": rows,
        "grouped": grouped,
        "dropped": dict(sorted(dropped.items())),
        "cleaned": dict(sorted(cleaned.items())),
        "sides": sorted([family, split, count] for (family, split), count in splits.items()),
        "taken_out": sorted([*key, count] for key, count in taken_out.items()),
    }
    write_json(folder / "counts.json", counts)


def _divide(
    chunk: pa.Table, rows_of_chunk: slice, state: BatchState
) -> tuple[pa.Table, list[str], list[dict[str, Any]]]:
    """The kept rows of a chunk (CURATED_SCHEMA), their families, and the quarantine entries of its dropped rows."""
    split, is_gone = state.split[rows_of_chunk], state.is_tombstone[rows_of_chunk]
    is_kept = ~is_gone & (split != NO_SPLIT) & (split != BENCHMARK)
    names = [("test" if number == GOLDEN else SPLITS[number]) for number in split[is_kept].tolist()]
    groups = list(compress(state.representative[rows_of_chunk], is_kept))
    rows = chunk.filter(pa.array(is_kept))
    columns = {"index": rows["index"], "row_id": rows["row_id"], "split": names, "group": groups}
    changed = rows["changed"].to_pylist()
    for name in CLEANED_FIELDS:
        is_other = pa.array([name in fields for fields in changed], pa.bool_())
        columns[name] = pc.if_else(is_other, rows[name], pa.scalar(None, pa.string()))
    kept = pa.table(columns, schema=CURATED_SCHEMA)
    is_dropped = ~is_gone & (split == NO_SPLIT)
    causes = zip(*(column[rows_of_chunk] for column in (state.reason, state.field, state.value)), strict=True)
    dropped_rows = chunk.filter(pa.array(is_dropped)).to_pylist()
    pairs = zip(dropped_rows, compress(causes, is_dropped), strict=True)
    entries = [_quarantined(row, *cause) for row, cause in pairs]
    return kept, rows["family"].to_pylist(), entries


def _quarantined(row: dict[str, Any], reason: str, field: str, value: str) -> dict[str, Any]:
    origin = {name: row[name] for name in ORIGIN_FIELDS}
    record = {name: value for name, value in row.items() if name not in ("by", "reason", "split", "changed")}
    return {**origin, "reason": reason, "field": field, "value": value[:500], "record": canonical_json(record)}


def read_splits(folder: Path) -> tuple[Any, Any]:
    """(rows,) the split of each row of the signatures, and (rows,) whether it is a tombstone."""
    table = read_parquet(folder / "sides.parquet")
    return table["split"].to_numpy(), pc.cast(table["is_tombstone"], pa.int8()).to_numpy().astype(np.bool_)
