"""A watched folder: known endings at any depth; what is being written is left for the next run; links out are named."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from support.ingesting import ingest, raw_rows, settings
from support.toy_rows import topic_records, write_jsonl

from tasks.ingest.changes.scan import anything_new

INBOX = {"name": "news", "path": "inbox/", "shape": "text_label", "family": "topic"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_old(name: str, count: int = 2, start: int = 0) -> Path:
    path = write_jsonl(Path(name), topic_records(count, start=start))
    os.utime(path, (time.time() - 60, time.time() - 60))
    return path


def test_a_folder_is_read_at_any_depth_and_only_what_is_new() -> None:
    write_old("inbox/a.jsonl")
    write_old("inbox/2026/11/b.jsonl", start=2)
    write_old("inbox/.hidden.jsonl", start=50)
    write_old("inbox/.git/c.jsonl", start=60)
    Path("inbox/notes.docx").write_text("x")
    result = ingest(INBOX)
    assert [batch.rows for batch in result.new] == [2, 2]
    assert result.problems == ["inbox/notes.docx: not read: unknown ending"]
    assert not anything_new(settings(INBOX))
    write_old("inbox/2026/12/d.jsonl", start=9)
    assert anything_new(settings(INBOX))
    assert [batch.rows for batch in ingest(INBOX).new] == [2]


def test_a_file_that_is_being_written_is_left_for_the_next_run_and_named() -> None:
    write_old("inbox/a.jsonl")
    fresh = write_jsonl(Path("inbox/b.jsonl"), topic_records(2, start=2))
    result = ingest(INBOX)
    (problem,) = result.problems
    assert re.fullmatch(r"inbox/b\.jsonl: changed less than 5 s ago; a run after \d\d:\d\d:\d\d reads it", problem)
    assert len(raw_rows("news")) == 2
    os.utime(fresh, (time.time() - 60, time.time() - 60))
    assert anything_new(settings(INBOX))
    assert [batch.rows for batch in ingest(INBOX).new] == [2]
    write_jsonl(fresh, topic_records(3, start=2))  # it goes on, and is no file that vanished meanwhile
    assert not ingest(INBOX).new
    os.utime(fresh, (time.time() - 50, time.time() - 50))
    assert anything_new(settings(INBOX))
    assert [batch.rows for batch in ingest(INBOX).new] == [1]
    assert ingest(INBOX | {"settle_seconds": 0}).problems == []


def test_an_empty_folder_is_no_error_of_the_source() -> None:
    Path("inbox").mkdir()
    write_old("other.jsonl")
    result = ingest(INBOX, INBOX | {"name": "other", "path": "other.jsonl"})
    assert not result.errors
    assert result.problems == ["inbox: contains no files with a known ending"]
    (error,) = ingest(INBOX | {"path": "nowhere/"}).errors
    assert "path nowhere/: no such file" in str(error)


@pytest.mark.parametrize("path", ["inbox/", "inbox/*.jsonl", "inbox/**/*.jsonl"])
def test_no_link_out_of_the_tree_is_followed_and_each_is_named(path: str) -> None:
    write_old("secret/keys.jsonl", start=90)
    write_old("inbox/a.jsonl")
    os.symlink("../secret/keys.jsonl", "inbox/link.jsonl")
    os.symlink("../secret", "inbox/folder")
    os.symlink("a.jsonl", "inbox/same.jsonl")  # within: the same records again
    result = ingest(INBOX | {"path": path})
    assert len(raw_rows("news")) == 2
    assert "inbox/link.jsonl: is a link out of inbox; it is not followed" in "\n".join(result.problems)
    if path != "inbox/*.jsonl":
        assert "inbox/folder" in "\n".join(result.problems)
    assert not ingest(INBOX | {"path": path}).new
    ingest(INBOX | {"path": path, "follow_links": True})
    assert len(raw_rows("news")) == 4


def test_links_in_a_circle_and_links_to_nothing_do_no_harm() -> None:
    write_old("inbox/a.jsonl")
    os.symlink("../inbox", "inbox/again")
    os.symlink("nowhere.jsonl", "inbox/gone.jsonl")
    result = ingest(INBOX | {"follow_links": True})
    assert len(raw_rows("news")) == 2
    assert result.problems == ["inbox/gone.jsonl: is a link to nothing"]


def test_a_pipe_is_no_file_and_is_not_waited_for() -> None:
    write_old("inbox/a.jsonl")
    os.mkfifo("inbox/pipe.jsonl")
    assert [batch.rows for batch in ingest(INBOX).new] == [2]


@pytest.mark.parametrize("late", ["t.en", "t.de"])
def test_a_pair_of_files_waits_while_one_of_them_may_still_be_written(late: str) -> None:
    for name in ("t.en", "t.de"):
        path = write_old(f"inbox/{name}")
        path.write_text("a\nb\n", encoding="utf-8")
        os.utime(path, (time.time() - 60 * (name != late),) * 2)
    pair = {
        "shape": "parallel",
        "family": "topic",
        "format": "parallel",
        "parallel": ["en", "de"],
        "settle_seconds": 30,
    }
    first = ingest({"name": "pair", "path": "inbox", **pair})
    assert (first.new, first.errors) == ([], [])
    assert [problem.split(":")[0] for problem in first.problems] == [f"inbox/{late}"]
    os.utime(f"inbox/{late}", (time.time() - 60,) * 2)
    assert anything_new(settings({"name": "pair", "path": "inbox", **pair}))
    assert [batch.rows for batch in ingest({"name": "pair", "path": "inbox", **pair}).new] == [2]
    assert not anything_new(settings({"name": "pair", "path": "inbox", **pair}))
