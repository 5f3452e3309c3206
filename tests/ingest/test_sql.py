"""Rows of a database: only what is new since the watermark, and no row that shares it is lost."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ingesting import held, ingest, records, settings

from tasks.ingest import sql
from tasks.ingest.sources import anything_new

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


def test_two_rows_alike_are_both_kept_whenever_they_come() -> None:
    add((1, 10, "a", "b"))
    ingest(TABLE)
    add((1, 10, "a", "b"))
    assert ingest(TABLE).sources[0].new_rows == 1
    assert len(held("tickets")) == 2
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


def test_a_value_that_json_lacks_is_told_as_text() -> None:
    run("ALTER TABLE answers ADD COLUMN blob BLOB")
    run("INSERT INTO answers VALUES (1, 1, 'a', 'b', x'FF00')")
    ingest(TABLE)
    assert records("tickets")[0]["blob"] == "/wA="


def test_what_the_database_refuses_is_told_in_one_line_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = [
        (TABLE | {"table": "gone"}, "no such table: gone"),
        (
            TABLE | {"watermark": "chnged"},
            "has no column `chnged`; there are id, changed, body, intent. Did you mean `changed`?",
        ),
        (TABLE | {"table": "answers; DROP TABLE answers"}, "the database refused"),
        (TABLE | {"url": "sqlite:///nowhere.db"}, "no such database"),
        (TABLE | {"url": "nothing://x/y"}, "the database has no driver here"),
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
