"""A batch's part of the dataset: its kept rows, what was dropped and why, and what it takes out of earlier parts.

kept.parquet      CURATED_SCHEMA: goes into data/curated
changes.parquet   CHANGE_SCHEMA: goes there too, where there are any
dropped.parquet   QUARANTINE_SCHEMA: goes into data/quarantine/curate
sides.parquet     where each row of the sketch stands, for the batches that come after
counts.json       for the report; written last, it completes the part
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.curate.cache import read_whole
from tasks.curate.decided import Decided
from tasks.curate.dedup.known import BENCHMARK, GOLDEN, NOWHERE, SIDES
from tasks.records.row import CHANGE_SCHEMA, CLEANED_FIELDS, CURATED_SCHEMA, QUARANTINE_SCHEMA
from tasks.runtime.files import ParquetStream, canonical_json, write_json

NAMES = ("kept.parquet", "changes.parquet", "dropped.parquet", "sides.parquet", "counts.json")
SIDES_SCHEMA = pa.schema([("side", pa.int8()), ("is_ghost", pa.bool_())])
PLACES = ("row_id", "batch", "index", "source", "file", "line")


def write_part(
    folder: Path,
    chunks: Iterable[pa.Table],
    decided: Decided,
    is_ghost: Any,
    taken_out: Sequence[dict[str, Any]],
    cleaned: Any,
) -> None:
    """Writes a part into an empty folder.

    Args:
        chunks: the batch's rows (CLEAN_SCHEMA), in order.
        decided: what becomes of them.
        is_ghost: (rows,) which of them were forgotten: they are neither kept nor shown.
        taken_out: rows of earlier parts (ROW_SCHEMA, with `by`, `reason` and `side`) that this batch takes out.
        cleaned: kind of dirt → rows that held it; kind and piece (`markup <b>`) → how often it was taken out.
    """
    dropped: Counter[str] = Counter()
    sides: Counter[tuple[str, str]] = Counter()
    rows = grouped = 0
    with (
        ParquetStream(folder / "kept.parquet", CURATED_SCHEMA) as kept_file,
        ParquetStream(folder / "dropped.parquet", QUARANTINE_SCHEMA) as dropped_file,
    ):
        for chunk, places in _with_places(chunks):
            kept, families, refused = _divide(chunk, places, decided, is_ghost)
            rows += chunk.num_rows
            grouped += sum(map(bool, kept["group"].to_pylist()))
            sides.update(zip(families, kept["split"].to_pylist(), strict=True))
            dropped.update(each["reason"] for each in refused)
            kept_file.write(kept)
            dropped_file.write(pa.Table.from_pylist(refused, QUARANTINE_SCHEMA))
        lines = [_quarantined(row, row["reason"], "input", row["by"]) for row in taken_out]
        dropped_file.write(pa.Table.from_pylist(lines, QUARANTINE_SCHEMA))
    with ParquetStream(folder / "changes.parquet", CHANGE_SCHEMA) as changes_file:
        changes_file.write(pa.Table.from_pylist(list(taken_out), CHANGE_SCHEMA))
    with ParquetStream(folder / "sides.parquet", SIDES_SCHEMA) as sides_file:
        sides_file.write(pa.table([decided.side, np.asarray(is_ghost, np.bool_)], schema=SIDES_SCHEMA))
    counts = {
        "rows": rows,
        "grouped": grouped,
        "dropped": dict(sorted(dropped.items())),
        "cleaned": dict(sorted(cleaned.items())),
        "sides": sorted([family, side, count] for (family, side), count in sides.items()),
        "taken_out": sorted(
            [*place, count]
            for place, count in Counter((row["family"], row["side"], row["reason"]) for row in taken_out).items()
        ),
    }
    write_json(folder / "counts.json", counts)


def _with_places(chunks: Iterable[pa.Table]) -> Iterator[tuple[pa.Table, slice]]:
    first = 0
    for chunk in chunks:
        yield chunk, slice(first, first + chunk.num_rows)
        first += chunk.num_rows


def _divide(
    chunk: pa.Table, places: slice, decided: Decided, is_ghost: Any
) -> tuple[pa.Table, list[str], list[dict[str, Any]]]:
    """The rows of a chunk that are kept (CURATED_SCHEMA), their families, and the lines of those that are dropped."""
    side = decided.side[places]
    gone = np.asarray(is_ghost[places])
    is_kept = ~gone & (side != NOWHERE) & (side != BENCHMARK)
    names = [("test" if each == GOLDEN else SIDES[each]) for each in side[is_kept].tolist()]
    groups = [leader for leader, is_in in zip(decided.leader[places], is_kept, strict=True) if is_in]
    rows = chunk.filter(pa.array(is_kept))
    columns = {"index": rows["index"], "row_id": rows["row_id"], "split": names, "group": groups}
    changed = rows["changed"].to_pylist()
    for name in CLEANED_FIELDS:
        is_other = pa.array([name in fields for fields in changed], pa.bool_())
        columns[name] = pc.if_else(is_other, rows[name], pa.scalar(None, pa.string()))
    kept = pa.table(columns, schema=CURATED_SCHEMA)
    is_dropped = ~gone & (side == NOWHERE)
    reasons = zip(decided.reason[places], decided.field[places], decided.value[places], is_dropped, strict=True)
    told = [each[:3] for each in reasons if each[3]]
    lost = chunk.filter(pa.array(is_dropped)).to_pylist()
    return kept, rows["family"].to_pylist(), [_quarantined(row, *each) for row, each in zip(lost, told, strict=True)]


def _quarantined(row: dict[str, Any], reason: str, field: str, value: str) -> dict[str, Any]:
    record = canonical_json(
        {name: value for name, value in row.items() if name not in ("by", "reason", "side", "changed")}
    )
    return {
        **{name: row[name] for name in PLACES},
        "reason": reason,
        "field": field,
        "value": value[:500],
        "record": record,
    }


def read_sides(folder: Path) -> tuple[Any, Any]:
    """(rows,) where each row of the sketch stands, and (rows,) whether it is a ghost."""
    table = read_whole(folder / "sides.parquet")
    return table["side"].to_numpy(), pc.cast(table["is_ghost"], pa.int8()).to_numpy().astype(np.bool_)
