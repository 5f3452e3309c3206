"""What a source's records hold beside what its shape takes is named once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.ingesting import ingest

from tasks.records.raw_notes import notes_of
from tasks.state.manifest import read_manifest

CHAT = {"name": "chat", "path": "in/*.jsonl", "shape": "messages", "family": "dialogue"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()


def write(name: str, *records: Any) -> None:
    Path("in", name).write_text("".join(json.dumps(record) + "\n" for record in records))


def dialogue(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "b", **more}]}


def test_fields_that_are_not_used_are_named_once_a_source_and_kept_with_the_batch() -> None:
    write(
        "a.jsonl",
        dialogue("a", annotator="x", weight=1, thinking="t") | {"score": 1, "id": 7},
        dialogue("b") | {"score": 2},
    )
    result = ingest(CHAT)
    output = "source `chat`: field `id` is not used, field `messages.annotator` is not used, field `score` is not used"
    assert result.problems == [output]
    assert [notes_of(batch.path).unused for batch in read_manifest()] == [("id", "messages.annotator", "score")]
    write("b.jsonl", dialogue("c") | {"score": 3})
    assert ingest(CHAT).problems == []
    write("c.jsonl", dialogue("d") | {"score": 3, "lang": "en"})
    assert ingest(CHAT).problems == ["source `chat`: field `lang` is not used"]


def test_what_is_mapped_or_reserved_is_used() -> None:
    write("a.jsonl", {"q": "a", "text": "old", "l": "b", "key": 1, "strop_synthetic": {"recipe": "r"}})
    label = {"name": "s", "path": "in/a.jsonl", "shape": "text_label", "family": "topic"}
    columns = {"text": "q", "label": "l", "id": "key"}
    assert ingest(label | {"columns": columns}).problems == ["source `s`: field `text` is not used"]


def test_many_fields_are_counted() -> None:
    write("a.jsonl", dialogue("a") | {f"k{number:03}": 1 for number in range(300)})
    (output,) = ingest(CHAT).problems
    assert output.endswith("field `k009` is not used, nor are 90 more")


def test_fields_of_turns_that_a_cell_of_text_holds_are_named_too() -> None:
    """In CSV and databases a dialogue is JSON within a text."""
    turns = dialogue("a", annotator="x")["messages"]
    text = json.dumps(turns).replace('"', '""')
    Path("in/a.csv").write_text(f'messages\n"{text}"\n"[not JSON"\n')
    result = ingest(CHAT | {"path": "in/*.csv"})
    assert result.problems == ["source `chat`: field `messages.annotator` is not used"]


def test_the_family_of_a_row_is_used_where_it_is_that_of_the_source() -> None:
    source = {"name": "anchors", "path": "in/*.jsonl", "shape": "row", "family": "qa", "use": "benchmark"}
    write("a.jsonl", *({"family": "qa", "input": text, "output": "b"} for text in ("a", "最大的行星叫什么？")))
    assert ingest(source).problems == []
    write("b.jsonl", *({"family": family, "input": "c", "output": "b"} for family in ("qa", "情感")))
    assert ingest(source).problems == ["source `anchors`: field `family` is not used"]
