"""A raw batch → a table with one line for each record: a row's fields, or the problem because of which it is not a row.

`validate` checks this table; `curate` reads its accepted lines again. So no room stores a second copy of the text.
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
        ("own_id", pa.string()),  # the record's own id, as JSON, if its source has a column for it
        ("problem", pa.string()),  # "" for a row, else the code of one of the first rules
        ("problem_field", pa.string()),
        ("problem_value", pa.string()),
    ]
)
RECORD_SCHEMA = pa.schema([*ROW_SCHEMA, *PROBLEM_SCHEMA])
VALUE_CHARACTERS = 500

_EMPTY_ROW = {
    **NO_TEXT,
    "synthetic": "",
    "parents": "[]",
    "served": "",
    "own_id": None,
    "problem": "",
    "problem_field": None,
    "problem_value": None,
}
_PARSED = ("row_id", "language", *_EMPTY_ROW)
"""The columns that are parsed from a record; the others are those of its batch."""
_RAW_COLUMNS = ("digest", "record", "raw", "error", "shape", "family", "language", "columns")


def read_raw(batch: Batch, check: bool = True) -> pa.Table:
    """The batch's records (RAW_SCHEMA).

    Args:
        check: first compare the file's bytes with the manifest.

    Raises:
        DataError: the batch is missing or has changed.
    """
    check_raw(batch, check)
    return read_raw_file(batch.path)


def check_raw(batch: Batch, bytes_too: bool = True) -> None:
    """Compares the batch's file with the manifest.

    Args:
        bytes_too: compare its bytes, not only whether it exists.

    Raises:
        DataError: it is missing or has changed.
    """
    fix = "Restore it: dvc checkout data/raw.dvc"
    if not batch.path.exists():
        raise DataError("is in the manifest, but not on the disk", where=str(batch.path), fix=fix)
    if bytes_too and file_digest(batch.path) != batch.sha256:
        raise DataError("changed since it was collected", where=str(batch.path), fix=fix)


def read_raw_file(path: Path) -> pa.Table:
    """A batch's records (RAW_SCHEMA)."""
    with pq.ParquetFile(path) as file:
        return fill_up(file.read())


def fill_up(table: pa.Table, schema: pa.Schema = RAW_SCHEMA) -> pa.Table:
    """The table with this schema; columns that an older version of Strop did not write are null."""
    for field in schema:
        if field.name not in table.schema.names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table.select(schema.names).cast(schema)


def to_rows(
    raw: pa.Table, batch: Batch, indices: Iterable[int] | None = None, row_ids: Iterable[str] | None = None
) -> pa.Table:
    """One line for each record (RECORD_SCHEMA), in order; content fields are empty if the record is not a row.

    Args:
        raw: records of the batch, or some of them.
        indices: of the records in the batch; None: they are its first ones.
        row_ids: of the records, if they are known, so that they are not computed again.
    """
    parsed: dict[str, list[Any]] = {name: [] for name in _PARSED}
    appends = [(name, column.append) for name, column in parsed.items()]
    known = raw.select(_RAW_COLUMNS).to_pydict()
    ids: Iterable[str | None] = [None] * raw.num_rows if row_ids is None else row_ids
    for row_id, *record in zip(ids, *known.values(), strict=True):
        line = _line(dict(zip(_RAW_COLUMNS, record, strict=True)), row_id)
        for name, append in appends:
            append(line[name])
    constants = {"batch": batch.batch, "source": batch.source}
    columns = {
        **{name: pa.repeat(pa.scalar(value, pa.string()), raw.num_rows) for name, value in constants.items()},
        **{name: raw[name] for name in ("file", "line", "family")},
        "index": pa.array(range(raw.num_rows) if indices is None else indices, pa.int64()),
        "use": pc.if_else(pc.equal(pc.fill_null(raw["use"], ""), ""), "train", raw["use"]),
        **{name: pa.array(values, RECORD_SCHEMA.field(name).type) for name, values in parsed.items()},
    }
    return pa.table([columns[name] for name in RECORD_SCHEMA.names], schema=RECORD_SCHEMA)


def _line(record: dict[str, Any], row_id: str | None) -> dict[str, Any]:
    """The parsed columns of a record: _PARSED."""
    if record["record"] is None:
        empty = {**_EMPTY_ROW, "row_id": record["digest"], "language": record["language"]}
        if record["error"] == ERASED:
            return empty | {"problem": ERASED}
        content = raw_text(record["raw"])
        return empty | {"problem": "not_parsed", "problem_value": cut(f"{record['error']} | {content}")}
    columns = _columns(record["columns"])
    parsed = loads(record["record"])
    fields = to_fields(parsed, record["shape"], columns)
    if isinstance(fields, Problem):
        value = None if fields.value is None else value_text(fields.value)
        problem = {"problem": fields.code, "problem_field": fields.field, "problem_value": value}
        return {**_EMPTY_ROW, "row_id": record["digest"], "language": record["language"], **problem}
    line: dict[str, Any] = {**_EMPTY_ROW, **fields, "own_id": own_id(parsed, columns), "language": record["language"]}
    if line["language"] == "auto":
        line["language"] = row_language(line)
    line["row_id"] = row_id or row_id_of({"family": record["family"], **line})
    return line


@lru_cache(maxsize=64)
def _columns(text: str) -> dict[str, str]:
    columns: dict[str, str] = json.loads(text)
    return columns


def raw_text(raw: bytes | None) -> str:
    """The bytes of a record that could not be parsed, as valid text."""
    return (raw or b"").decode("utf-8", "backslashreplace")


def value_text(value: Any) -> str:
    """An invalid value as valid text, at most VALUE_CHARACTERS."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return cut(text)


def cut(text: str) -> str:
    return text[:VALUE_CHARACTERS].encode("utf-8", "backslashreplace").decode("utf-8")
