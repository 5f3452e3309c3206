"""Rows of a database, through SQLAlchemy. With a watermark, only those at or above its last value are read.

Rows that share the last value are read again, and those that raw holds are not taken twice: none is lost in between. So
are rows whose watermark is null, and, with an overlap, those a little below: a row may be committed late.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
from collections.abc import Iterator
from typing import Any

from tasks.errors import SourceError, one_line
from tasks.ingest.connectors.listing import Listing, Seen
from tasks.ingest.connectors.watermark import from_json, lowered, to_json
from tasks.ingest.readers.arrow_rows import row_of
from tasks.ingest.readers.column_check import require_once
from tasks.ingest.readers.lines import RawRecord
from tasks.ingest.secrets import filled_in
from tasks.ingest.settings import Source
from tasks.runtime.files import canonical_json

MOST_ROWS_AT_ONCE = 1000
BYTES_AT_ONCE = 32 * 1024 * 1024
"""About so much of the rows' texts is held at a time: how many rows that is follows from those read before."""


def list_table(source: Source) -> Listing:
    """The table or query as one item, stamped with its highest watermark, or without one with its rows' digest.

    Raises:
        SourceError: the database cannot be reached, or refuses.
    """
    if source.watermark is None:
        return Listing({_name(source): Seen(0, 0, stamp=_digest_of_rows(source))})
    with _connected(source) as (run, mark, rows):
        (highest,) = run(f"SELECT max({mark}) FROM {rows}").one()
        (ties,) = run(f"SELECT count(*) FROM {rows} WHERE {mark} >= :at", at=_start(source, highest)).one()
        (nulls,) = run(f"SELECT count(*) FROM {rows} WHERE {mark} IS NULL").one()
    return Listing({_name(source): Seen(0, 0, stamp=canonical_json([to_json(highest), ties, nulls]))})


def require_table(source: Source) -> None:
    """Connects, and prepares the query without reading a row.

    Raises:
        SourceError: the database cannot be reached, or has no such table, column or query.
    """
    with _connected(source) as (run, _, rows):
        run(f"SELECT * FROM {rows} WHERE 1 = 0")


def read_table(source: Source, before: Seen | None) -> Iterator[RawRecord]:
    """The rows as objects, by watermark; all of them where there was no run before, or no watermark.

    Raises:
        SourceError: the database cannot be reached, or refuses.
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
    """The columns as the query names them: SQLite calls the second of two `text` of a subquery `text:1`."""
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
    """sha256 of all rows: what a database without a watermark offers to tell whether it changed."""
    import hashlib

    hasher = hashlib.sha256()
    for found in read_table(source, None):
        content = found.raw or canonical_json(found.record).encode("utf-8", "surrogatepass")
        hasher.update(content + b"\n")
    return hasher.hexdigest()


def _last_watermark(before: Seen | None) -> Any:
    if before is None or not before.stamp.startswith("["):
        return None
    return from_json(json.loads(before.stamp)[0])


def _start(source: Source, highest: Any) -> Any:
    """From which value on rows are read, where `highest` was the last.

    Raises:
        SourceError: the source has an overlap, and the value none to be lowered by.
    """
    if source.overlap is None or highest is None:
        return highest
    try:
        return lowered(highest, source.overlap)
    except (ValueError, OverflowError) as error:
        what = f"`overlap` cannot be taken from the watermark `{source.watermark}`: {error}"
        fix = "Leave `overlap` out, or name a column of numbers or times"
        raise SourceError(what, where=f"source `{source.name}`", fix=fix) from error


def _name(source: Source) -> str:
    return f"{source.name}: {source.table or 'query'}"


@contextlib.contextmanager
def _connected(source: Source) -> Iterator[tuple[Any, str, str]]:
    """How to run a query (with values for its `:names`), the quoted watermark column, and what stands behind FROM."""
    import sqlalchemy
    from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

    where = f"source `{source.name}`"
    try:
        engine = sqlalchemy.create_engine(filled_in(source.url, source.name), poolclass=sqlalchemy.pool.NullPool)
        file = engine.url.database if engine.dialect.name == "sqlite" else None
        if file and file != ":memory:" and not file.startswith("file:") and not os.path.exists(file):
            raise SourceError("no such database", where=f"{where}, {file}", fix="Mend the url in params.yaml")
        quote = engine.dialect.identifier_preparer.quote
        if source.table is not None:
            rows = ".".join(quote(part) for part in source.table.split("."))
        else:
            # a colon in the user's query is no name of a value
            rows = f"({(source.query or '').rstrip().rstrip(';').replace(':', chr(92) + ':')}) AS strop_source"
        with engine.connect().execution_options(stream_results=True) as connection:

            def run(query: str, **values: Any) -> Any:
                return connection.execute(sqlalchemy.text(query), values)

            mark = quote(source.watermark) if source.watermark is not None else ""
            if source.watermark is not None:
                _require(source.watermark, list(run(f"SELECT * FROM {rows} WHERE 1 = 0").keys()), where)
            yield run, mark, rows
    except (NoSuchModuleError, ImportError) as error:
        fix = "Install its driver, for PostgreSQL: pip install 'psycopg[binary]' (url: postgresql+psycopg://…)"
        raise SourceError(f"the database has no driver here ({_one_line(error)})", where=where, fix=fix) from error
    except (SQLAlchemyError, ValueError) as error:
        told = _one_line(getattr(error, "orig", None) or error)
        fix = "See that `url`, the query and `watermark` are right, and that the database is up; then run again"
        raise SourceError(f"the database refused ({told})", where=where, fix=fix) from error


def _require(watermark: str, columns: list[str], where: str) -> None:
    """Some databases take a quoted name that is no column for a text, and would compare every row with it."""
    if watermark not in columns:
        near = difflib.get_close_matches(watermark, columns, n=1, cutoff=0.4)
        hint = f"Did you mean `{near[0]}`?" if near else "Name one of these"
        raise SourceError(f"has no column `{watermark}`; there are {', '.join(columns)}", where=where, fix=hint)


def _one_line(error: BaseException) -> str:
    """The error without the query, and without the address, which may hold a password."""
    return one_line(str(error).split("[SQL:")[0], 200)
