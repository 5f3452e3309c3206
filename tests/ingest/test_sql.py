"""Rows of a database: only what is new since the watermark, and no row that shares it is lost."""

from __future__ import annotations

import datetime
import decimal
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from support.ingesting import ingest, raw_rows, records, settings

from tasks.errors import SourceError
from tasks.ingest.changes.scan import anything_new
from tasks.ingest.connectors import sql
from tasks.ingest.connectors.sql import _connected, from_json, lowered, to_json

TABLE = {
    "name": "tickets", "kind": "sql", "url": "sqlite:///tickets.db", "table": "answers", "watermark": "changed",
    "shape": "text_label", "family": "intent", "columns": {"text": "body", "label": "intent"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("CREATE TABLE answers (id INTEGER, changed INTEGER, body TEXT, intent TEXT)")


def run(query: str, *rows: tuple[Any, ...]) -> None:
    with closing(sqlite3.connect("tickets.db")) as database, database:
        if rows:
            database.executemany(query, rows)
        else:
            database.execute(query)


def add(*rows: tuple[Any, ...]) -> None:
    run("INSERT INTO answers VALUES (?, ?, ?, ?)", *rows)


@pytest.mark.parametrize("watermark", [None, "changed"])
def test_an_infinite_number_costs_its_row_alone(watermark: str | None) -> None:
    add((1, 10, "a", "card"), (2, float("inf"), "b", "card"))  # type: ignore[arg-type]
    table = {key: value for key, value in TABLE.items() if key != "watermark"}
    ingest({**table, "overlap": 5, "watermark": "id"} if watermark else table)
    assert [each["id"] for each in records("tickets")] == [1]
    (row,) = [each for each in raw_rows("tickets") if each["error"]]
    assert row["error"] == "not_finite: the number inf"
    assert json.loads(row["raw"]) == {"id": 2, "changed": "inf", "body": "b", "intent": "card"}


def test_only_rows_at_or_above_the_watermark_are_read_and_ties_are_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    read_table = sql.read_table
    monkeypatch.setattr(sql, "read_table", lambda *a: (read.append(each.line) or each for each in read_table(*a)))
    add((1, 10, "Where is my card?", "card"), (2, 11, "我的卡在哪里？", "card"), (3, 11, "Refund", "refund"))
    ingest(TABLE)
    assert [each["id"] for each in records("tickets")] == [1, 2, 3]
    assert not anything_new(settings(TABLE))
    assert not ingest(TABLE).new
    read.clear()
    add((4, 11, "late, but with the last watermark", "other"), (5, 12, "new", "other"), (6, None, "no time", "other"))
    assert anything_new(settings(TABLE))
    assert ingest(TABLE).sources[0].new_rows == 3
    assert len(read) == 5  # the ties, the new, and the one without a time; not the first
    assert {each["id"] for each in records("tickets")} == {1, 2, 3, 4, 5, 6}
    add((7, None, "no time either", "other"))
    assert anything_new(settings(TABLE))
    assert ingest(TABLE).sources[0].new_rows == 1
    assert not anything_new(settings(TABLE))


@pytest.mark.parametrize(
    ("overlap", "last", "late", "too_late"),
    [
        (5, 100, 96, 94),
        (0.5, 10.0, 9.6, 9.4),
        (90, "2026-11-01 10:00:00.250", "2026-11-01 09:58:31", "2026-11-01 09:57:00"),
        (3600, "2026-11-01T10:00:00Z", "2026-11-01T09:00:00Z", "2026-11-01T08:59:00Z"),
        (3600, "2026-11-01T10:00", "2026-11-01T09:00", "2026-11-01T08:59"),
        (2, "2026-11-01", "2026-10-30", "2026-10-29"),
    ],
)
def test_a_row_committed_late_is_collected_if_it_is_within_the_overlap(
    overlap: float, last: Any, late: Any, too_late: Any
) -> None:
    run("DROP TABLE answers")
    run("CREATE TABLE answers (id INTEGER, changed, body TEXT, intent TEXT)")
    table = TABLE | {"overlap": overlap}
    add((1, too_late, "first", "a"), (2, late, "second", "a"), (3, last, "third", "b"))
    assert ingest(table).sources[0].new_rows == 3
    assert not anything_new(settings(table))
    add((4, late, "late", "a"))
    assert anything_new(settings(table))
    assert ingest(table).sources[0].new_rows == 1
    assert not anything_new(settings(table))
    assert not ingest(table).new
    add((5, too_late, "too late", "a"))
    assert not anything_new(settings(table)), "the watermark's promise: nothing comes below it, but for the overlap"
    assert [each["id"] for each in records("tickets")] == [1, 2, 3, 4]


def test_a_late_row_below_newer_ones_is_collected_and_no_row_twice() -> None:
    table = TABLE | {"overlap": 10}
    add(*((number, number, f"row {number}", "a") for number in range(1, 31)))
    ingest(table)
    add((31, 31, "row 31", "a"), (99, 22, "late", "a"))
    assert ingest(table).sources[0].new_rows == 2
    ids = [each["id"] for each in records("tickets")]
    assert sorted(ids) == [*range(1, 32), 99]


def test_an_overlap_of_a_column_that_is_not_a_time_is_an_error() -> None:
    add((1, "A", "a", "b"))
    (error,) = ingest(TABLE | {"overlap": 5}).errors
    assert "source `tickets`: `overlap` cannot be subtracted from the watermark `changed`: 'A' is neither" in str(error)
    with pytest.raises(ValueError, match="`overlap` is subtracted from a `watermark`"):
        settings({key: value for key, value in TABLE.items() if key != "watermark"} | {"overlap": 5})


@pytest.mark.parametrize(
    ("value", "overlap", "expected"),
    [
        (datetime.datetime(2026, 11, 1, 10), 60, datetime.datetime(2026, 11, 1, 9, 59)),
        (datetime.date(2026, 11, 1), 1, datetime.date(2026, 10, 31)),
        (decimal.Decimal("7.5"), 0.5, decimal.Decimal("7.0")),
        (7, 2.0, 5),
    ],
)
def test_a_watermark_of_any_kind_is_lowered_in_its_own_unit(value: Any, overlap: float, expected: Any) -> None:
    assert lowered(value, overlap) == expected
    assert lowered(from_json(json.loads(json.dumps(to_json(value)))), overlap) == expected


def test_two_rows_alike_are_both_kept_whenever_they_come() -> None:
    add((1, 10, "a", "b"))
    ingest(TABLE)
    add((1, 10, "a", "b"))
    assert ingest(TABLE).sources[0].new_rows == 1
    assert len(raw_rows("tickets")) == 2
    assert not ingest(TABLE).new


@pytest.mark.parametrize("value", ["2026-11-01T10:00:00", "A"])
def test_a_watermark_may_be_text(value: str) -> None:
    add((1, value, "a", "b"))
    ingest(TABLE)
    add((2, value + "1", "c", "d"))
    assert ingest(TABLE).sources[0].new_rows == 1


def test_a_query_is_read_whole_where_it_has_no_watermark() -> None:
    query = {key: value for key, value in TABLE.items() if key not in ("table", "watermark")}
    query |= {"query": "SELECT body, intent, '12:30:00' AS at FROM answers WHERE intent <> 'spam'; "}
    add((1, 10, "a", "b"), (2, 10, "c", "spam"))
    ingest(query)
    assert records("tickets") == [{"at": "12:30:00", "body": "a", "intent": "b"}]
    assert not anything_new(settings(query))
    run("UPDATE answers SET intent = 'x' WHERE id = 1")
    assert anything_new(settings(query))
    assert ingest(query).sources[0].new_rows == 1


def test_a_value_that_json_lacks_is_stored_as_text() -> None:
    run("ALTER TABLE answers ADD COLUMN blob BLOB")
    run("INSERT INTO answers VALUES (1, 1, 'a', 'b', x'FF00')")
    ingest(TABLE)
    assert records("tickets")[0]["blob"] == {"bytes": "/wA="}


def test_an_error_of_the_database_is_one_line_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = [
        (TABLE | {"table": "gone"}, "no such table: gone"),
        (
            TABLE | {"watermark": "chnged"},
            "has no column `chnged`; there are id, changed, body, intent. Did you mean `changed`?",
        ),
        (TABLE | {"table": "answers; DROP TABLE answers"}, "the database returned an error"),
        (TABLE | {"url": "sqlite:///nowhere.db"}, "no such database"),
        (TABLE | {"url": "nothing://x/y"}, "the driver of the database is not installed"),
        (TABLE | {"url": "sqlite:///${NOT_SET_HERE}"}, "the environment variable NOT_SET_HERE is not set"),
    ]
    for source, expected in wrong:
        (error,) = ingest(source).errors
        assert expected in str(error)
        assert "\n" not in str(error)
        assert "SELECT" not in str(error)
    assert not Path("nowhere.db").exists()
    assert anything_new(settings(wrong[0][0]))
    monkeypatch.setenv("TICKETS", "tickets.db")
    add((1, 10, "a", "b"))
    assert ingest(TABLE | {"url": "sqlite:///${TICKETS}"}).sources[0].new_rows == 1


def test_an_error_about_a_value_does_not_quote_it() -> None:
    """Prefect stores the message, where `strop erase` does not reach it."""
    (source,) = settings(TABLE).sources
    error = sqlalchemy.exc.DataError("SELECT", {}, ValueError('invalid input syntax for type integer: "Jane Roe 张三"'))
    for cause in (error, ValueError("Invalid isoformat string: 'Jane Roe 张三'")):
        with pytest.raises(SourceError, match="ValueError; its text, which") as caught, _connected(source):
            raise cause
        assert "Jane" not in str(caught.value)
        assert caught.value.__cause__ is cause


@pytest.mark.parametrize("length", [10, 10_000])
def test_rows_with_large_cells_are_fetched_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    from sqlalchemy.engine import CursorResult

    fetched: list[int] = []
    fetchmany = CursorResult.fetchmany

    def counted(self: Any, size: int) -> Any:
        fetched.append(len(rows := fetchmany(self, size)))
        return rows

    monkeypatch.setattr(CursorResult, "fetchmany", counted)
    monkeypatch.setattr(sql, "BYTES_AT_ONCE", 30_000)
    add(*((number, number, f"{number} {'城' * length}", "card") for number in range(3000)))
    assert ingest(TABLE).sources[0].new_rows == 3000
    assert max(fetched) == (1000 if length == 10 else 16)
    assert length == 10 or sorted(fetched)[len(fetched) // 2] == 2


def test_a_row_that_is_too_long_is_kept_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.ingest.readers.lines.MAX_RECORD_BYTES", 1000)
    add((1, 10, "a", "card"), (2, 11, "城" * 1001, "card"))
    ingest(TABLE)
    assert [each["id"] for each in records("tickets")] == [1]
    (row,) = [each for each in raw_rows("tickets") if each["error"]]
    assert row["error"] == "too_long: over 1,000 characters in one row"
    assert json.loads(row["raw"])["body"] == "城" * 1001
