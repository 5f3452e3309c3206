"""Compressed files: records before the end of a truncated file are kept, its end is reported, and a bomb fills no memory."""

from __future__ import annotations

import gzip
import json
import sys
import time
from pathlib import Path

import pytest
from support.ingesting import errors, ingest, raw_rows, records
from support.realdata import real
from support.toy_rows import topic_records

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

NEWS = {"name": "news", "path": "in/*", "shape": "text_label", "family": "topic"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def packed(ending: str, text: str) -> bytes:
    content = text.encode()
    return gzip.compress(content, mtime=0) if ending == ".gz" else zstd.compress(content)


def write(name: str, content: bytes) -> Path:
    path = Path("in") / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_every_text_format_may_be_packed(ending: str) -> None:
    rows = topic_records(6)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    write(f"a.jsonl{ending}", packed(ending, "\n".join(lines[:2])))
    write(f"b.json{ending}", packed(ending, "[" + ",".join(lines[2:4]) + "]"))
    write(f"c.csv{ending}", packed(ending, "text,label\n" + "".join(f'"{r["text"]}",{r["label"]}\n' for r in rows[4:])))
    result = ingest(NEWS)
    assert not result.errors
    assert records("news") == rows
    assert not ingest(NEWS).new


def test_the_members_of_an_archive_are_read_one_after_another() -> None:
    first, second = (json.dumps(row) + "\n" for row in topic_records(2))
    write("a.jsonl.gz", packed(".gz", first) + packed(".gz", second))
    write("b.jsonl.zst", packed(".zst", first) + packed(".zst", second))
    ingest(NEWS)
    assert records("news") == topic_records(2)


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_records_before_the_end_of_a_truncated_archive_are_kept_and_it_is_reported(ending: str) -> None:
    rows = topic_records(10_000)  # a block of .zst holds 128 KiB of text, and comes whole or not at all
    whole = packed(ending, "".join(json.dumps(row) + "\n" for row in rows))
    write(f"a.jsonl{ending}", whole[: len(whole) * 3 // 4])
    result = ingest(NEWS)
    assert not result.errors
    kept = records("news")
    assert 1000 < len(kept) < 10_000
    assert kept == rows[: len(kept)]
    assert errors("news")[-1] == "truncated_archive"
    assert raw_rows("news")[-1]["raw"] == whole[: len(whole) * 3 // 4][-64:]
    assert any("truncated_archive: it ends in the middle; the" in message for message in result.problems)

    write(f"a.jsonl{ending}", whole)  # the rest arrives
    ingest(NEWS)
    assert records("news") == rows


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_file_that_is_not_an_archive_is_kept_as_one_record_with_a_reason(ending: str) -> None:
    write(f"a.jsonl{ending}", b"this is text, not an archive")
    result = ingest(NEWS)
    assert errors("news") == ["damaged_archive"]
    assert "damaged_archive" in result.problems[0]


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_an_archive_bomb_is_refused_in_bounded_memory(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.ingest.readers import compression

    monkeypatch.setattr(compression, "LEAST_BOUND_BYTES", 1_000_000)
    write(f"a.jsonl{ending}", packed(ending, ('{"text": "a", "label": "b"}\n' + " " * 1000 + "\n") * 20_000))
    (error,) = ingest(NEWS).errors
    assert "unpacks to more than" in str(error)
    assert "as decompression bombs do. If the file is right, set `max_uncompressed_bytes` of its source" in str(error)
    assert raw_rows("news") == []
    assert not list(Path("data/raw").rglob(".*"))
    assert ingest(NEWS | {"max_uncompressed_bytes": 10**9}).sources[0].new_rows == 20_000


@pytest.mark.parametrize(
    ("name", "record", "shape"),
    [
        ("a.jsonl.gz", '{"text": "a", "label": "b"}', {}),
        ("a.csv.gz", "a,b", {}),
        ("a.txt.gz", "a", {"shape": "text", "text_unit": "line"}),
        ("a.txt.gz", "a", {"shape": "text", "text_unit": "document"}),
        ("a.conll.gz", "a b", {"shape": "conll"}),
    ],
)
@pytest.mark.parametrize("blank", ["\n", "\r\n", "  \t\n"])
def test_a_bomb_of_blank_lines_costs_little_and_lines_keep_their_numbers(
    name: str, record: str, shape: dict[str, str], blank: str
) -> None:
    count = 1_000_000
    head = "text,label\n" if ".csv" in name else ""
    write(name, packed(".gz", head + record + "\n" + blank * count + record.replace("a", "c") + "\n" + blank * count))
    began = time.process_time()
    assert ingest(NEWS | shape).sources[0].new_rows == 2
    assert time.process_time() - began < 1.5  # one by one they would take several seconds
    assert [row["line"] - len(head.splitlines()) for row in raw_rows("news")] == [1, count + 2]


def test_blank_lines_within_quotes_stay() -> None:
    write("a.csv.gz", packed(".gz", 'text,label\n"one\n\n\n\ntwo",b\n\n\n\nc,d\n'))
    ingest(NEWS)
    assert records("news") == [{"text": "one\n\n\n\ntwo", "label": "b"}, {"text": "c", "label": "d"}]
    assert [row["line"] for row in raw_rows("news")] == [2, 10]


def test_a_compressed_parquet_file_is_an_error() -> None:
    write("a.parquet.gz", b"x")
    (error,) = ingest(NEWS).errors
    assert "is a compressed Parquet file. Decompress it" in str(error)


def test_the_real_packed_file_is_read_whole() -> None:
    source = {"name": "t0", "path": str(real("t0/t0.jsonl.gz")), "shape": "prompt_completion", "family": "qa"}
    result = ingest(source | {"max_rows": 20_000})
    assert (result.sources[0].new_rows, result.sources[0].unreadable) == (20_000, 0)
