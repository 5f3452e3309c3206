"""A JSON Lines file that grew is read from where it ended before, and gives the batch that a whole reading would."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.ingesting import ingest, raw_rows
from support.toy_rows import topic_records, write_jsonl

from tasks import paths
from tasks.ingest.readers import jsonl
from tasks.ingest.readers.compression import Content
from tasks.ingest.readers.raw_record import RawRecord
from tasks.ingest.settings import Source
from tasks.state.manifest import read_manifest

NEWS = {"name": "news", "path": "a.jsonl", "shape": "text_label", "family": "topic"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The byte at which each reading of a file began."""
    offsets: list[int] = []
    read = jsonl.read_jsonl

    def recording(content: Content, source: Source) -> Iterator[RawRecord]:
        offsets.append(content.skip_bytes)
        return read(content, source)

    monkeypatch.setattr(jsonl, "read_jsonl", recording)
    return offsets


def grown(*parts: str, whole: bool) -> list[tuple[str, str]]:
    """Ingests a file as it grows by each part; with `whole` it is read from its start each time."""
    for place in (paths.RAW, paths.CACHE):
        shutil.rmtree(place, ignore_errors=True)
    Path("a.jsonl").write_bytes(b"")
    for part in parts:
        with Path("a.jsonl").open("a", encoding="utf-8") as file:
            file.write(part)
        if whole:
            paths.SCAN.unlink(missing_ok=True)
        ingest(NEWS)
    return [(batch.batch, batch.sha256) for batch in read_manifest()]


def lines(count: int, start: int = 0) -> str:
    return "".join(json.dumps(each) + "\n" for each in topic_records(count, start=start))


@pytest.mark.parametrize(
    "parts",
    [
        (lines(10), lines(4, start=10)),
        (lines(10), lines(4, start=10), lines(3, start=14)),
        (lines(10), lines(4, start=10) + lines(4, start=10)),  # new records, each twice
        (lines(10), lines(2) + lines(4, start=10)),  # some that stand above already: each counts
        (lines(10) + lines(1), lines(1) + lines(1, start=20)),
        (lines(3)[:-5], lines(3)[-5:] + lines(4, start=10)),  # torn at the border
        (lines(3)[:-1], "\n" + lines(4, start=10)),
        (lines(3), '{"text": "no label"}\n', lines(2, start=10)),
        (lines(3), "not json\n", "not json\n"),
        (lines(3), "\n\n", lines(2, start=10)),
        ("\ufeff" + lines(3), lines(2, start=10)),
    ],
)
def test_a_file_that_grew_gives_the_same_batches_as_if_it_were_read_whole(parts: tuple[str, ...]) -> None:
    assert grown(*parts, whole=False) == grown(*parts, whole=True)


def test_only_what_was_appended_is_parsed(begun: list[int]) -> None:
    path = write_jsonl(Path("a.jsonl"), topic_records(10))
    ingest(NEWS)
    size = path.stat().st_size
    write_jsonl(path, topic_records(14))
    assert [batch.rows for batch in ingest(NEWS).new] == [4]
    assert begun == [0, size]
    assert [row["line"] for row in raw_rows("news")][10:] == [11, 12, 13, 14]


def test_a_file_whose_earlier_part_changed_is_read_whole_and_named(begun: list[int]) -> None:
    path = write_jsonl(Path("a.jsonl"), topic_records(10))
    ingest(NEWS)
    write_jsonl(path, [{"text": "other", "label": "x"}, *topic_records(14)])
    result = ingest(NEWS)
    assert "a.jsonl: was rewritten, not only appended to" in result.problems[0]
    assert begun == [0, 0]
    assert [batch.rows for batch in result.new] == [5]


def test_a_file_in_utf16_is_read_whole(begun: list[int]) -> None:
    source = NEWS | {"encoding": "utf-16-le"}
    Path("a.jsonl").write_bytes(lines(3).encode("utf-16-le"))
    ingest(source)
    Path("a.jsonl").write_bytes(lines(5).encode("utf-16-le"))
    assert [batch.rows for batch in ingest(source).new] == [2]
    assert set(begun) == {0}


def test_records_written_while_a_file_is_read_are_collected_by_the_next_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.ingest import collect

    path = write_jsonl(Path("a.jsonl"), topic_records(5))
    digests = collect.digests_of

    def growing(names: list[str], size: int, start: int | None) -> Any:
        results = digests(names, size, start)
        write_jsonl(path, topic_records(8))
        return results

    with monkeypatch.context() as patch:
        patch.setattr(collect, "digests_of", growing)
        ingest(NEWS)
    write_jsonl(path, topic_records(9))
    result = ingest(NEWS)
    assert not result.problems
    assert [json.loads(row["record"]) for row in raw_rows("news")] == topic_records(9)
