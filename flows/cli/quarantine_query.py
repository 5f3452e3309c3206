"""The rows in quarantine: which are asked for, which of them a person may release, and how they leave as a file."""

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
"""The room that refuses no row, but leaves some out of training and tests."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""

NEVER_RELEASED = {
    "duplicate": "an equal row is in the dataset already",
    "bridges_splits": "it resembles rows on two sides of the split, and would let one leak into the other",
    "contaminated": "it overlaps rows that models are tested on",
    "superseded": "its source answered the same prompt again later, and curate.conflicts keeps the newest",
    "empty_after_cleaning": "nothing is left of its output",
    "forgotten": "it was asked to be forgotten",
}
"""Reasons of `curate` that no wish of a person undoes, and why."""


@dataclass(frozen=True)
class Wanted:
    """Which rows are asked for; all conditions hold together, and no condition is all rows."""

    reason: str | None = None
    source: str | None = None
    batch: str | None = None
    """A batch's id, or its first characters."""
    room: str | None = None
    rows: tuple[str, ...] = ()
    """Row ids, or their first characters."""

    @property
    def is_everything(self) -> bool:
        return self == Wanted()


def read_refused(wanted: Wanted, with_records: bool = False) -> pa.Table:
    """The rows asked for: the quarantine's columns and `room`, the newest batch first.

    Args:
        with_records: also the column `record`, which may be large.

    Raises:
        DataError: the first characters of a row's id fit none, or several.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tasks import paths
    from tasks.records.row import QUARANTINE_SCHEMA

    columns = [name for name in QUARANTINE_SCHEMA.names if with_records or name != "record"]
    schema = pa.schema([QUARANTINE_SCHEMA.field(name) for name in columns]).append(pa.field("room", pa.string()))
    ids = full_ids(wanted.rows) if wanted.rows else None
    found = [schema.empty_table()]
    for room in ROOMS if wanted.room is None else (wanted.room,):
        if room == LEFT_OUT:
            from flows.report.left_out import left_out_rows

            rows = _chosen(left_out_rows(columns, wanted.batch), wanted, ids)
            found.append(rows.append_column("room", pa.array([room] * rows.num_rows, pa.string())).cast(schema))
            continue
        for path in sorted((paths.QUARANTINE / room).glob("*.parquet"), reverse=True):
            if wanted.batch and not path.stem.split("-", 1)[-1].startswith(wanted.batch.lower()):
                continue
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    rows = _chosen(file.read_row_group(group, columns=columns), wanted, ids)
                    found.append(rows.append_column("room", pa.array([room] * rows.num_rows, pa.string())).cast(schema))
    return pa.concat_tables(found)


def _chosen(rows: pa.Table, wanted: Wanted, ids: list[str] | None) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    for name, value in (("reason", wanted.reason), ("source", wanted.source)):
        if value is not None:
            rows = rows.filter(pc.equal(rows[name], value))
    return rows if ids is None else rows.filter(pc.is_in(rows["row_id"], pa.array(ids, pa.string())))


def full_ids(starts: tuple[str, ...]) -> list[str]:
    """The ids of the refused rows that begin so, one each.

    Raises:
        DataError: one fits no row, or several.
    """
    import pyarrow.parquet as pq

    from tasks import paths
    from tasks.dataset.rendered import read_left_out

    known: set[str] = set()
    known.update(_starting(read_left_out()["row_id"].to_pylist(), starts))
    for room in ROOMS:
        for path in (paths.QUARANTINE / room).glob("*.parquet"):
            ids = pq.read_table(path, columns=["row_id"])["row_id"].to_pylist()
            known.update(_starting(ids, starts))
    found = []
    for start in starts:
        fitting = sorted(row_id for row_id in known if row_id.startswith(start.lower()))
        if len(fitting) != 1:
            what = "no such row in quarantine" if not fitting else f"{len(fitting)} rows begin so"
            raise DataError(what, where=f"row {start}", fix="See: strop quarantine list")
        found += fitting
    return found


def _starting(ids: list[str], starts: tuple[str, ...]) -> list[str]:
    return [row_id for row_id in ids if row_id.startswith(tuple(start.lower() for start in starts))]


def why_kept(row: dict[str, Any]) -> str | None:
    """Why a refused row cannot be released; None where it can.

    Args:
        row: with its `record`.
    """
    from tasks.records.raw_batch import record_digest

    if row["room"] == LEFT_OUT:
        return "it is in the dataset already; what leaves it out is render.balance, its length or the objective"
    if row["room"] == "curate":
        return NEVER_RELEASED.get(row["reason"])
    if row["reason"] == "not_parsed" or record_digest(row["record"], None) == row["row_id"]:
        return "the record is no row, so there is nothing to learn from; mend it at its source"
    return None


def export(rows: pa.Table, path: Path) -> None:
    """Writes rows as .jsonl, or as .csv in whose cells a spreadsheet finds no formula.

    Raises:
        DataError: the ending is another one, or the file is there already.
    """
    from tasks.runtime.files import replacing

    if path.suffix not in (".jsonl", ".csv"):
        raise DataError(f"its ending is `{path.suffix}`", where=str(path), fix="Call it .jsonl or .csv")
    if path.exists():
        raise DataError("is there already, and is not written over", where=str(path), fix="Name another file")
    lines = (row for part in rows.to_batches(max_chunksize=1000) for row in part.to_pylist())
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            return
        writer = csv.writer(file)
        writer.writerow(rows.schema.names)
        writer.writerows([_cell(value) for value in line.values()] for line in lines)


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would run as a formula gets an apostrophe before it, which makes it text there."""
    is_formula = isinstance(value, str) and value.lstrip(" ").startswith(FORMULA)
    return f"'{value}" if is_formula else value
