"""Queries rows that were refused or left out, checks which of them can be released, and exports them."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterable, Iterator
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

    from tasks.records.row import QUARANTINE_SCHEMA

    schema = pa.schema([field for field in QUARANTINE_SCHEMA if with_records or field.name != "record"])
    with_room = schema.append(pa.field("room", pa.string()))
    ids = full_ids(query.rows) if query.rows else None
    batch = (query.batch or "").lower()
    tables = [with_room.empty_table()]
    for room in ROOMS if query.room is None else (query.room,):
        for part in _left_out(schema, batch) if room == LEFT_OUT else _refused_by(room, schema, batch):
            rows = _filtered(part, query, ids)
            tables.append(rows.append_column("room", pa.array([room] * rows.num_rows, pa.string())).cast(with_room))
    return pa.concat_tables(tables)


def _refused_by(room: str, schema: pa.Schema, batch: str) -> Iterator[pa.Table]:
    """The rows that a room refused, of batches whose id begins with `batch`, the newest batch first."""
    import pyarrow.parquet as pq

    from tasks import paths

    for path in sorted((paths.QUARANTINE / room).glob("*.parquet"), reverse=True):
        if path.stem.split("-", 1)[-1].startswith(batch):
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    yield file.read_row_group(group, columns=schema.names)


def _left_out(schema: pa.Schema, batch: str) -> Iterator[pa.Table]:
    """As `_refused_by`, for rows that `render` left out: they are in the dataset, but not used for training or tests."""
    from tasks.dataset.read import read_parts
    from tasks.dataset.rendered import read_left_out

    why = read_left_out()
    parts: Iterable[Any] = read_parts(why["row_id"].to_pylist()) if why.num_rows else ()
    tables = [_quarantine_rows(part, rows, why, schema) for part, rows in parts if part.batch.startswith(batch)]
    yield from reversed(tables)


def _quarantine_rows(batch: Any, rows: pa.Table, why: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows of a batch; `rows` are those of its part (CURATED_SCHEMA)."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from tasks.records.parse import check_raw, raw_text

    reasons = why.take(pc.index_in(rows["row_id"], why["row_id"]))
    needed = ["file", "line", *(["record", "raw"] if "record" in schema.names else [])]
    check_raw(batch, bytes_too=False)
    with pq.ParquetFile(batch.path) as file:
        raw = file.read(columns=needed).take(rows["index"])
    constants = {"batch": batch.batch, "source": batch.source, "field": None}
    columns = {name: pa.array([value] * rows.num_rows, pa.string()) for name, value in constants.items()}
    columns |= {"row_id": rows["row_id"], "index": rows["index"], "file": raw["file"], "line": raw["line"]}
    columns |= {"reason": reasons["reason"], "value": reasons["detail"]}
    if "record" in schema.names:
        came = zip(raw["record"].to_pylist(), raw["raw"].to_pylist(), strict=True)
        columns["record"] = pa.array([raw_text(old) if new is None else new for new, old in came], pa.string())
    return pa.table([columns[name] for name in schema.names], schema=schema)


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

    tables = itertools.chain(
        [read_left_out()],
        (pq.read_table(path, columns=["row_id"]) for path in paths.QUARANTINE.glob("*/*.parquet")),
    )
    first = tuple(start.lower() for start in starts)
    candidates = {row_id for table in tables for row_id in table["row_id"].to_pylist() if row_id.startswith(first)}
    full = []
    for start in starts:
        matches = sorted(row_id for row_id in candidates if row_id.startswith(start.lower()))
        if len(matches) != 1:
            what = "no such row in quarantine" if not matches else f"{len(matches)} rows match"
            raise DataError(what, where=f"row {start}", fix="See: strop quarantine list")
        full += matches
    return full


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
