"""Queries rows in quarantine, checks which of them can be released, and exports them."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

ROOMS = ("validate", "curate", "render")
LEFT_OUT = "render"
"""The room that leaves rows out of training and tests without refusing them."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Characters that start a formula in a spreadsheet."""

NEVER_RELEASED = {
    "duplicate": "an equal row is in the dataset already",
    "bridges_splits": "it is a near-duplicate of rows in two splits, and would leak between them",
    "contaminated": "it overlaps with test rows",
    "superseded": "its source has a newer answer to the same prompt, and curate.conflicts keeps the newest",
    "empty_after_cleaning": "its output is empty after cleaning",
    "forgotten": "it was forgotten on request",
}
"""Reasons of `curate` that a user cannot override, and why."""


@dataclass(frozen=True)
class RowQuery:
    """A selection of rows: conditions are combined with AND; no condition selects all rows."""

    reason: str | None = None
    source: str | None = None
    batch: str | None = None
    """A batch's id, or its first characters."""
    room: str | None = None
    rows: tuple[str, ...] = ()
    """Row ids, or their first characters."""


def read_refused(query: RowQuery, with_records: bool = False) -> pa.Table:
    """The selected rows: the quarantine's columns and `room`, the newest batch first.

    Args:
        with_records: also the column `record`, which may be large.

    Raises:
        DataError: the first characters of a row id match no row, or several.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tasks import paths
    from tasks.records.row import QUARANTINE_SCHEMA

    columns = [name for name in QUARANTINE_SCHEMA.names if with_records or name != "record"]
    schema = pa.schema([QUARANTINE_SCHEMA.field(name) for name in columns]).append(pa.field("room", pa.string()))
    ids = full_ids(query.rows) if query.rows else None
    tables = [schema.empty_table()]
    for room in ROOMS if query.room is None else (query.room,):
        if room == LEFT_OUT:
            from flows.report.left_out import left_out_rows

            rows = _filtered(left_out_rows(columns, query.batch), query, ids)
            tables.append(rows.append_column("room", pa.array([room] * rows.num_rows, pa.string())).cast(schema))
            continue
        for path in sorted((paths.QUARANTINE / room).glob("*.parquet"), reverse=True):
            if query.batch and not path.stem.split("-", 1)[-1].startswith(query.batch.lower()):
                continue
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    rows = _filtered(file.read_row_group(group, columns=columns), query, ids)
                    tables.append(
                        rows.append_column("room", pa.array([room] * rows.num_rows, pa.string())).cast(schema)
                    )
    return pa.concat_tables(tables)


def _filtered(rows: pa.Table, query: RowQuery, ids: list[str] | None) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    for name, value in (("reason", query.reason), ("source", query.source)):
        if value is not None:
            rows = rows.filter(pc.equal(rows[name], value))
    return rows if ids is None else rows.filter(pc.is_in(rows["row_id"], pa.array(ids, pa.string())))


def full_ids(starts: tuple[str, ...]) -> list[str]:
    """Row ids from their first characters, one for each.

    Raises:
        DataError: one matches no row, or several.
    """
    import pyarrow.parquet as pq

    from tasks import paths
    from tasks.dataset.rendered import read_left_out

    candidates: set[str] = set()
    candidates.update(_starting(read_left_out()["row_id"].to_pylist(), starts))
    for room in ROOMS:
        for path in (paths.QUARANTINE / room).glob("*.parquet"):
            ids = pq.read_table(path, columns=["row_id"])["row_id"].to_pylist()
            candidates.update(_starting(ids, starts))
    full = []
    for start in starts:
        matches = sorted(row_id for row_id in candidates if row_id.startswith(start.lower()))
        if len(matches) != 1:
            what = "no such row in quarantine" if not matches else f"{len(matches)} rows match"
            raise DataError(what, where=f"row {start}", fix="See: strop quarantine list")
        full += matches
    return full


def _starting(ids: list[str], starts: tuple[str, ...]) -> list[str]:
    return [row_id for row_id in ids if row_id.startswith(tuple(start.lower() for start in starts))]


def why_not_releasable(row: dict[str, Any]) -> str | None:
    """Why a refused row cannot be released; None if it can.

    Args:
        row: with its `record`.
    """
    from tasks.records.raw_batch import record_digest

    if row["room"] == LEFT_OUT:
        return "it is in the dataset already; it was left out by render.balance, its length or the objective"
    if row["room"] == "curate":
        return NEVER_RELEASED.get(row["reason"])
    if row["reason"] == "not_parsed" or record_digest(row["record"], None) == row["row_id"]:
        return "the record could not be parsed into a row; fix it at its source"
    return None


def export(rows: pa.Table, path: Path) -> None:
    """Writes rows as .jsonl, or as .csv without spreadsheet formulas.

    Raises:
        DataError: the file has another extension, or exists already.
    """
    from tasks.runtime.files import replacing

    if path.suffix not in (".jsonl", ".csv"):
        raise DataError(f"its extension is `{path.suffix}`", where=str(path), fix="Use .jsonl or .csv")
    if path.exists():
        raise DataError("exists already, and is not overwritten", where=str(path), fix="Choose another file")
    lines = (row for part in rows.to_batches(max_chunksize=1000) for row in part.to_pylist())
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            return
        writer = csv.writer(file)
        writer.writerow(rows.schema.names)
        writer.writerows([_cell(value) for value in line.values()] for line in lines)


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would evaluate as a formula gets an apostrophe prefix, so that it stays text."""
    is_formula = isinstance(value, str) and value.lstrip(" ").startswith(FORMULA)
    return f"'{value}" if is_formula else value
