"""Rows of a database, through SQLAlchemy. With a watermark, only those at or above its last value are read.

Rows with the last value are read again, as others with this value may have been added; rows in raw are not collected twice. So
are rows whose watermark is null, and with an overlap rows below the last value, which may have been committed late.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import difflib
import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from tasks.errors import SourceError, one_line
from tasks.ingest.connectors.connector import Connector, OpenItem
from tasks.ingest.connectors.listing import ItemState, Listing
from tasks.ingest.readers.arrow_rows import row_of
from tasks.ingest.readers.column_check import require_once
from tasks.ingest.readers.raw_record import RawRecord
from tasks.ingest.secrets import filled_in
from tasks.ingest.settings import Source
from tasks.runtime.files import canonical_json

MOST_ROWS_AT_ONCE = 1000
BYTES_AT_ONCE = 32 * 1024 * 1024
"""About as many bytes of text are fetched at a time; the number of rows follows from the sizes of those read before."""


class Database(Connector):
    """The table or query is the only item; its stamp is the highest watermark, or without a watermark the digest of its rows."""

    def list_items(self) -> Listing:
        source = self.source
        if source.watermark is None:
            return Listing({_name(source): ItemState(stamp=_digest_of_rows(source))})
        with _connected(source) as (run, mark, rows):
            (highest,) = run(f"SELECT max({mark}) FROM {rows}").one()
            (ties,) = run(f"SELECT count(*) FROM {rows} WHERE {mark} >= :at", at=_start(source, highest)).one()
            (nulls,) = run(f"SELECT count(*) FROM {rows} WHERE {mark} IS NULL").one()
        return Listing({_name(source): ItemState(stamp=canonical_json([to_json(highest), ties, nulls]))})

    def require(self) -> None:
        """Connects, and prepares the query without reading a row."""
        source = self.source
        with _connected(source) as (run, _, rows):
            run(f"SELECT * FROM {rows} WHERE 1 = 0")

    def open_item(self, name: str, before: ItemState | None) -> AbstractContextManager[OpenItem]:
        return self.open_records(read_table(self.source, before), is_whole=before is None)


def read_table(source: Source, before: ItemState | None) -> Iterator[RawRecord]:
    """The rows as objects, by watermark; all of them in the first run, or without a watermark.

    Raises:
        SourceError: the database cannot be reached, or returns an error.
    """
    last = _last_watermark(before) if source.watermark is not None else None
    with _connected(source) as (run, mark, rows):
        query = f"SELECT * FROM {rows}"
        bound = {}
        if last is not None:
            query += f" WHERE {mark} >= :at OR {mark} IS NULL"
            bound = {"at": _start(source, last)}
        if source.watermark is not None:
            query += f" ORDER BY {mark}"
        result = run(query, **bound)
        require_once(_as_queried(list(result.keys())), _name(source))
        for number, row in enumerate(_in_batches(result), start=1):
            yield row_of(number, row)


def _as_queried(names: list[str]) -> list[str]:
    """The column names of the query: in a subquery, SQLite renames the second of two `text` to `text:1`."""
    return [
        name.rsplit(":", 1)[0] if name.rsplit(":", 1)[0] in names and name[-1:].isdigit() else name for name in names
    ]


def _in_batches(result: Any) -> Iterator[dict[str, Any]]:
    names, count = list(result.keys()), 16
    while rows := result.fetchmany(count):
        size = sum(len(value) for row in rows for value in row if isinstance(value, (str, bytes)))
        fitting = len(rows) * BYTES_AT_ONCE // max(size, 1)
        count = max(1, min(fitting, 4 * count, MOST_ROWS_AT_ONCE))
        yield from (dict(zip(names, row, strict=True)) for row in rows)


def _digest_of_rows(source: Source) -> str:
    """sha256 of all rows, which shows whether a table without a watermark has changed."""
    import hashlib

    hasher = hashlib.sha256()
    for row in read_table(source, None):
        content = row.raw or canonical_json(row.record).encode("utf-8", "surrogatepass")
        hasher.update(content + b"\n")
    return hasher.hexdigest()


def _last_watermark(before: ItemState | None) -> Any:
    if before is None or not before.stamp.startswith("["):
        return None
    return from_json(json.loads(before.stamp)[0])


def _start(source: Source, highest: Any) -> Any:
    """The lowest watermark to read, if `highest` was the last value.

    Raises:
        SourceError: the source has an overlap, and it cannot be subtracted from the value.
    """
    if source.overlap is None or highest is None:
        return highest
    try:
        return lowered(highest, source.overlap)
    except (ValueError, OverflowError) as error:
        what = f"`overlap` cannot be subtracted from the watermark `{source.watermark}`: {error}"
        fix = "Remove `overlap`, or use a column of numbers or times"
        raise SourceError(what, where=f"source `{source.name}`", fix=fix) from error


def _name(source: Source) -> str:
    return f"{source.name}: {source.table or 'query'}"


@contextlib.contextmanager
def _connected(source: Source) -> Iterator[tuple[Any, str, str]]:
    """(function that runs a query with values for its `:names`, quoted watermark column, FROM clause)."""
    import sqlalchemy
    from sqlalchemy.exc import DataError, IntegrityError, NoSuchModuleError, SQLAlchemyError

    where = f"source `{source.name}`"
    try:
        engine = sqlalchemy.create_engine(filled_in(source.url, source.name), poolclass=sqlalchemy.pool.NullPool)
        file = engine.url.database if engine.dialect.name == "sqlite" else None
        if file and file != ":memory:" and not file.startswith("file:") and not os.path.exists(file):
            raise SourceError("no such database", where=f"{where}, {file}", fix="Fix the url in params.yaml")
        quote = engine.dialect.identifier_preparer.quote
        if source.table is not None:
            rows = ".".join(quote(part) for part in source.table.split("."))
        else:
            # a colon in the user's query does not begin the name of a value
            rows = f"({(source.query or '').rstrip().rstrip(';').replace(':', chr(92) + ':')}) AS strop_source"
        with engine.connect().execution_options(stream_results=True) as connection:

            def run(query: str, **values: Any) -> Any:
                return connection.execute(sqlalchemy.text(query), values)

            mark = quote(source.watermark) if source.watermark is not None else ""
            if source.watermark is not None:
                _require(source.watermark, list(run(f"SELECT * FROM {rows} WHERE 1 = 0").keys()), where)
            yield run, mark, rows
    except (NoSuchModuleError, ImportError) as error:
        fix = "Install it; for PostgreSQL: pip install 'psycopg[binary]' (url: postgresql+psycopg://…)"
        what = f"the driver of the database is not installed ({_one_line(error)})"
        raise SourceError(what, where=where, fix=fix) from error
    except (SQLAlchemyError, ValueError) as error:
        cause = getattr(error, "orig", None) or error
        quotes = isinstance(
            error, (DataError, IntegrityError, ValueError)
        )  # such as `invalid input … for type integer: "…"`
        reason = (
            f"{type(cause).__name__}; its text, which may quote a row, is in the log" if quotes else _one_line(cause)
        )
        fix = "Check `url`, the query, `watermark`, and that the database runs; then run again"
        raise SourceError(f"the database returned an error ({reason})", where=where, fix=fix) from error


def _require(watermark: str, columns: list[str], where: str) -> None:
    """Raises SourceError for an unknown column: some databases take its quoted name for a text, and compare every row with it."""
    if watermark not in columns:
        near = difflib.get_close_matches(watermark, columns, n=1, cutoff=0.4)
        hint = f"Did you mean `{near[0]}`?" if near else "Use one of these"
        raise SourceError(f"has no column `{watermark}`; there are {', '.join(columns)}", where=where, fix=hint)


def _one_line(error: BaseException) -> str:
    """The error without the query and the address, which may contain a password."""
    return one_line(str(error).split("[SQL:")[0], 200)


_KINDS: dict[str, Any] = {
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
    "decimal": decimal.Decimal,
}
"""Type that JSON lacks → its parser."""


def to_json(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return {"datetime": value.isoformat()}
    if isinstance(value, datetime.date):
        return {"date": value.isoformat()}
    if isinstance(value, decimal.Decimal):
        return {"decimal": str(value)}
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def from_json(value: Any) -> Any:
    if isinstance(value, dict):
        ((kind, text),) = value.items()
        return _KINDS[kind](text)
    return value


def lowered(value: Any, overlap: float) -> Any:
    """The value minus the overlap: seconds for a time, days for a date, else a number.

    A time stored as text is rounded down to the minute, without its zone, so that as text it sorts before all later values.

    Raises:
        ValueError: it is neither a number nor a time.
    """
    if isinstance(value, datetime.datetime):
        return value - datetime.timedelta(seconds=overlap)
    if isinstance(value, datetime.date):
        return value - datetime.timedelta(days=overlap)
    if isinstance(value, decimal.Decimal):
        return value - decimal.Decimal(str(overlap))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value - (int(overlap) if float(overlap).is_integer() else overlap)
    text = str(value)
    try:
        if len(text) == len("2026-11-01"):
            return lowered(datetime.date.fromisoformat(text), overlap).isoformat()
        time = lowered(datetime.datetime.fromisoformat(text), overlap).replace(tzinfo=None)
        return time.isoformat(sep=text[10], timespec="minutes")
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text[:40]!r} is neither a number nor a time (2026-11-01T10:00:00)") from error
