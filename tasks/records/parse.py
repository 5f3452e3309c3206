"""A raw batch → a table with a line a record: a row's fields, or the problem that keeps it from being a row.

`validate` judges this table; `curate` reads the accepted lines of it again. So no room stores a second copy of the text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.errors import DataError
from tasks.records.languages import row_language
from tasks.records.ordered_json import loads
from tasks.records.raw_batch import ERASED, RAW_SCHEMA
from tasks.records.row import NO_TEXT, ROW_SCHEMA, row_id_of
from tasks.records.shapes import Problem, own_id, to_fields
from tasks.runtime.files import file_digest
from tasks.state.manifest import Batch

PROBLEM_SCHEMA = pa.schema(
    [
        ("own_id", pa.string()),  # the record's own id, as JSON, where its source names the column
        ("problem", pa.string()),  # "" for a row, else the code of one of the first rules
        ("problem_field", pa.string()),
        ("problem_value", pa.string()),
    ]
)
RECORD_SCHEMA = pa.schema([*ROW_SCHEMA, *PROBLEM_SCHEMA])
VALUE_CHARACTERS = 500

_NO_ROW = {
    **NO_TEXT,
    "synthetic": "",
    "parents": "[]",
    "own_id": None,
    "problem": "",
    "problem_field": None,
    "problem_value": None,
}
_FOUND = ("row_id", "language", *_NO_ROW)
"""The columns that follow from a record's content; the others are those of its batch."""
_READ = ("digest", "record", "raw", "error", "shape", "family", "language", "columns")


def read_raw(batch: Batch, check: bool = True) -> pa.Table:
    """The batch's records (RAW_SCHEMA).

    Args:
        check: compare the file's bytes with the manifest first.

    Raises:
        DataError: the batch is not on the disk, or is not what was collected.
    """
    check_raw(batch, check)
    return read_raw_file(batch.path)


def check_raw(batch: Batch, bytes_too: bool = True) -> None:
    """Compares the batch's file with the manifest.

    Args:
        bytes_too: not only that it is there.

    Raises:
        DataError: it is not on the disk, or is not what was collected.
    """
    fix = "Bring it back: dvc checkout data/raw.dvc"
    if not batch.path.exists():
        raise DataError("is in the manifest, but not on the disk", where=str(batch.path), fix=fix)
    if bytes_too and file_digest(batch.path) != batch.sha256:
        raise DataError("changed since it was collected", where=str(batch.path), fix=fix)


def read_raw_file(path: Path) -> pa.Table:
    """A batch's records (RAW_SCHEMA)."""
    with pq.ParquetFile(path) as file:
        return fill_up(file.read())


def fill_up(table: pa.Table, schema: pa.Schema = RAW_SCHEMA) -> pa.Table:
    """The table with this schema; a column that an older Strop did not write is null."""
    for field in schema:
        if field.name not in table.schema.names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table.select(schema.names).cast(schema)


def to_rows(
    raw: pa.Table, batch: Batch, places: Iterable[int] | None = None, row_ids: Iterable[str] | None = None
) -> pa.Table:
    """One line a record (RECORD_SCHEMA), in order; content fields are empty where the record is no row.

    Args:
        raw: records of the batch, or some of them.
        places: the place in the batch of each; where it is None they are the batch from its first on.
        row_ids: of each, where they are known: they follow from the text.
    """
    found: dict[str, list[Any]] = {name: [] for name in _FOUND}
    appends = [(name, column.append) for name, column in found.items()]
    known = raw.select(_READ).to_pydict()
    ids: Iterable[str | None] = [None] * raw.num_rows if row_ids is None else row_ids
    for row_id, *record in zip(ids, *known.values(), strict=True):
        line = _line(dict(zip(_READ, record, strict=True)), row_id)
        for name, append in appends:
            append(line[name])
    everywhere = {"batch": batch.batch, "source": batch.source}
    columns = {
        **{name: pa.repeat(pa.scalar(value, pa.string()), raw.num_rows) for name, value in everywhere.items()},
        **{name: raw[name] for name in ("file", "line", "family")},
        "index": pa.array(range(raw.num_rows) if places is None else places, pa.int64()),
        "use": pc.if_else(pc.equal(pc.fill_null(raw["use"], ""), ""), "train", raw["use"]),
        **{name: pa.array(values, RECORD_SCHEMA.field(name).type) for name, values in found.items()},
    }
    return pa.table([columns[name] for name in RECORD_SCHEMA.names], schema=RECORD_SCHEMA)


def _line(record: dict[str, Any], row_id: str | None) -> dict[str, Any]:
    """What is found in a record: _FOUND."""
    if record["record"] is None:
        no_row = {**_NO_ROW, "row_id": record["digest"], "language": record["language"]}
        if record["error"] == ERASED:
            return no_row | {"problem": ERASED}
        came = came_as(record["raw"])
        return no_row | {"problem": "not_parsed", "problem_value": cut(f"{record['error']} | {came}")}
    columns = _columns(record["columns"])
    parsed = loads(record["record"])
    fields = to_fields(parsed, record["shape"], columns)
    if isinstance(fields, Problem):
        value = None if fields.value is None else shown(fields.value)
        told = {"problem": fields.code, "problem_field": fields.field, "problem_value": value}
        return {**_NO_ROW, "row_id": record["digest"], "language": record["language"], **told}
    line: dict[str, Any] = {**_NO_ROW, **fields, "own_id": own_id(parsed, columns), "language": record["language"]}
    if line["language"] == "auto":
        line["language"] = row_language(line)
    line["row_id"] = row_id or row_id_of({"family": record["family"], **line})
    return line


@lru_cache(maxsize=64)
def _columns(text: str) -> dict[str, str]:
    columns: dict[str, str] = json.loads(text)
    return columns


def came_as(raw: bytes | None) -> str:
    """The bytes of a record that did not parse, as text that any file can hold."""
    return (raw or b"").decode("utf-8", "backslashreplace")


def shown(value: Any) -> str:
    """An offending value as text that any file can hold."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return cut(text)


def cut(text: str) -> str:
    return text[:VALUE_CHARACTERS].encode("utf-8", "backslashreplace").decode("utf-8")
