"""`max_rows` with a seed takes a sample of a source, not the head of its first file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.ingesting import ingest, records

NEWS = {"name": "news", "path": "in/*.jsonl", "shape": "text_label", "family": "topic", "max_rows": 100}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()


def rows(count: int, of: str = "text") -> list[dict[str, Any]]:
    """Rows sorted by their labels, a hundred of each."""
    return [{"text": f"{of} {place}", "label": f"label {place // 100}"} for place in range(count)]


def write(name: str, rows: list[dict[str, Any]]) -> None:
    Path("in", name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_sample_has_all_labels_of_a_sorted_file_and_its_first_rows_one_which_is_reported() -> None:
    write("a.jsonl", rows(1000))
    (output,) = ingest(NEWS | {"name": "head"}).problems
    assert output.startswith("in/a.jsonl: only its first rows were collected (`max_rows`)")
    assert {record["label"] for record in records("head")} == {"label 0"}
    result = ingest(NEWS | {"sample_seed": 0})
    assert (result.problems, result.sources[0].new_rows) == ([], 100)
    assert len({record["label"] for record in records("news")}) == 10


def test_a_sample_follows_from_seed_and_records_not_from_their_files_and_order() -> None:
    write("a.jsonl", rows(500))
    write("b.jsonl", rows(500, of="other"))
    samples = {}
    for name, seed in (("one", 1), ("two", 2)):
        ingest(NEWS | {"name": name, "sample_seed": seed})
        samples[name] = sorted(record["text"] for record in records(name))
    assert samples["one"] != samples["two"]
    assert {text.split()[0] for text in samples["one"]} == {"text", "other"}
    Path("in/b.jsonl").unlink()
    write("a.jsonl", [*rows(500, of="other"), *rows(500)][::-1])
    ingest(NEWS | {"name": "again", "sample_seed": 1})
    assert sorted(record["text"] for record in records("again")) == samples["one"]


def test_collected_rows_are_kept_and_the_rest_of_max_rows_is_sampled_from_new_rows() -> None:
    source = NEWS | {"sample_seed": 0}
    write("a.jsonl", rows(60))
    assert ingest(source).sources[0].new_rows == 60
    write("b.jsonl", rows(500, of="other"))
    assert ingest(source).sources[0].new_rows == 40
    assert len({record["label"] for record in records("news")}) == 5
    write("c.jsonl", rows(500, of="third"))
    assert not ingest(source).new
    assert len(records("news")) == 100
