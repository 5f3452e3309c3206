"""A wrong shape, family or columns is put right without renaming the source: its rows are read again, and none is lost."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from support.ingesting import ingest, raw_rows, settings

from tasks.errors import SourceError
from tasks.ingest.changes import reread as changes
from tasks.ingest.changes.scan import anything_new
from tasks.ingest.settings import Source
from tasks.records.parse import read_raw, to_rows
from tasks.records.raw_notes import notes_of
from tasks.state.decisions import excluded_batches, read_decisions, record_decisions
from tasks.state.manifest import Batch, read_manifest

LABEL = {"name": "news", "path": "in/*.jsonl", "shape": "text_label", "family": "topic"}
COMPLETION = LABEL | {
    "shape": "prompt_completion",
    "family": "qa",
    "columns": {"prompt": "text", "completion": "label"},
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()


def write(name: str, count: int, start: int = 0) -> None:
    rows = [{"text": f"text {place}", "label": "a"} for place in range(start, start + count)]
    Path("in", name).write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"torn')


def reread(source: dict[str, Any]) -> Any:
    return changes.reread(Source.model_validate(source))


def current() -> list[Batch]:
    excluded = excluded_batches(read_decisions())
    return [batch for batch in read_manifest() if batch.batch not in excluded]


def rows(batch: Batch) -> list[dict[str, Any]]:
    return to_rows(read_raw(batch), batch).to_pylist()


def test_every_record_is_in_a_batch_of_the_new_declaration_and_the_old_one_is_excluded() -> None:
    write("a.jsonl", 3)
    ingest(LABEL)
    write("b.jsonl", 2, start=3)
    ingest(LABEL)
    old = read_manifest()
    done = reread(COMPLETION)
    assert (done.rows, list(done.batches)) == (6, [batch.batch for batch in old])
    assert done.changed == [
        'shape text_label → prompt_completion', 'family topic → qa', 'columns {} → {"completion":"label","prompt":"text"}',
    ]  # fmt: skip
    assert excluded_batches(read_decisions()) == {batch.batch for batch in old}
    new = current()
    assert [batch.rows for batch in new] == [4, 2]  # the torn line is held already
    assert [notes_of(batch.path).reread_of for batch in new] == [batch.batch for batch in old]
    for before, after in zip(old, new, strict=True):
        assert read_raw(before)["digest"].equals(read_raw(after)["digest"])
        assert [row["line"] for row in rows(before)] == [row["line"] for row in rows(after)]
    assert {row["family"] for batch in new for row in rows(batch)} == {"qa"}
    assert [row["problem"] for row in rows(new[0])] == ["", "", "", "not_parsed"]


def test_what_was_read_again_is_neither_collected_nor_read_again_once_more() -> None:
    write("a.jsonl", 3)
    ingest(LABEL)
    reread(COMPLETION)
    count = len(raw_rows("news"))
    assert reread(COMPLETION).batches == {}
    assert not ingest(COMPLETION).new
    assert not anything_new(settings(COMPLETION))
    write("b.jsonl", 4)  # three of them are held, and so is the torn line
    assert ingest(COMPLETION).sources[0].new_rows == 1
    assert len(raw_rows("news")) == count + 1


def test_a_second_copy_of_a_record_is_collected_after_it_was_read_again() -> None:
    write("a.jsonl", 1)
    ingest(LABEL)
    reread(COMPLETION)
    line = Path("in/a.jsonl").read_text().splitlines()[0] + "\n"
    Path("in/a.jsonl").write_text(line * 2)
    assert ingest(COMPLETION).sources[0].new_rows == 1


def test_back_to_the_first_declaration_takes_the_first_batch_back() -> None:
    write("a.jsonl", 2)
    ingest(LABEL)
    (first,) = read_manifest()
    reread(COMPLETION)
    assert reread(LABEL).batches == {read_manifest()[1].batch: first.batch}
    assert [batch.batch for batch in current()] == [first.batch]


def test_an_interrupted_reread_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.ingest.changes import reread as module

    write("a.jsonl", 2)
    ingest(LABEL)

    def full(*args: Any, **named: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "record_decisions", full)
        with pytest.raises(OSError, match="No space"):
            reread(COMPLETION)
    assert len(read_manifest()) == 2
    reread(COMPLETION)
    assert len(read_manifest()) == 2
    assert [batch.ordinal for batch in current()] == [2]


def test_a_column_that_no_record_has_is_an_error_before_anything_is_written() -> None:
    write("a.jsonl", 2)
    ingest(LABEL)
    with pytest.raises(SourceError, match="no record has a column `instruction`; there are `label`, `text`"):
        reread(LABEL | {"shape": "alpaca"})
    assert len(read_manifest()) == 1
    assert not read_decisions()
    with pytest.raises(SourceError, match="collected nothing yet"):
        reread(LABEL | {"name": "other"})


def test_rows_that_were_dropped_or_forgotten_stay_so_and_excluded_batches_are_left() -> None:
    write("a.jsonl", 3)
    ingest(LABEL)
    write("b.jsonl", 2, start=3)
    ingest(LABEL)
    first, second = read_manifest()
    ids = [row["row_id"] for row in rows(first)]
    record_decisions("drop", [ids[0]], "bad")
    record_decisions("forget", [ids[1]], "asked to")
    record_decisions("release", [ids[2]], "fine")
    record_decisions("exclude", [second.batch], "bad")
    done = reread(COMPLETION)
    assert (done.carried, done.excluded_before, list(done.batches)) == (2, 1, [first.batch])
    new = [row["row_id"] for row in rows(current()[0])]
    carried = [(each.what, each.which) for each in read_decisions() if each.why.startswith("as row")]
    assert carried == [("drop", new[0]), ("forget", new[1])]


def test_case_of_a_database_and_of_a_saved_dataset() -> None:
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset.from_list([{"text": "a", "label": "b"}]).save_to_disk("set")
    with sqlite3.connect("a.db") as database:
        database.execute("CREATE TABLE t (text, label)")
        database.execute("INSERT INTO t VALUES ('a', 'b')")
    hub = {"name": "news", "kind": "hub", "path": "./set"}
    for place in (hub, {"name": "sql", "kind": "sql", "url": "sqlite:///a.db", "table": "t"}):
        declared = {name: LABEL[name] for name in ("shape", "family")} | place
        ingest(declared)
        reread(declared | {"family": "sentiment"})
        (batch,) = [each for each in current() if each.source == place["name"]]
        assert [(row["family"], row["input"], row["output"]) for row in rows(batch)] == [("sentiment", "a", "b")]
