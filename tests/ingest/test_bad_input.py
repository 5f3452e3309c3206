"""Bad input reaches raw as it came, with a reason; nothing is lost, and memory stays bounded. (Archives: test_archives.)"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.ingesting import errors, ingest, raw_rows, records
from support.toy_rows import topic_records, write_jsonl

from tasks.ingest import batches
from tasks.ingest.readers import json_document, json_text, lines
from tasks.records.raw_batch import identified, record_digest
from tasks.records.shapes import Problem, to_fields
from tasks.records.strict_json import DEEPEST

NEWS = {"name": "news", "path": "in/*", "shape": "text_label", "family": "topic"}
GOOD = b'{"text": "a", "label": "b"}'


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()


def nested(levels: int) -> bytes:
    return b'{"text": "a", "label": "b", "more": ' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


CLOSED = [
    (b'{"text": "a", "text": "b", "label": "c"}', "duplicate_keys"),
    (b'{"text": "a", "label": "c", "more": [{"x": 1, "x": 1}]}', "duplicate_keys"),
    (b'{"\\ud83d": 1, "\\ud83d": 2, "text": "a", "label": "b"}', "duplicate_keys"),
    (b'{"text": "a", "label": "c", "score": NaN}', "not_finite"),
    (b'{"text": "a", "label": "c", "score": [-Infinity]}', "not_finite"),
    (b'{"text": "a", "label": "c", "score": 1e999}', "not_finite"),
    (b'{"text": "a", "label": "c", "score": [-1e999]}', "not_finite"),
    (nested(DEEPEST + 1), "nested_too_deeply"),
]
OTHER = GOOD.replace(b'"a"', b'"z"')


@pytest.mark.parametrize(
    ("line", "code"),
    [
        *CLOSED,
        (nested(100_000), "nested_too_deeply"),
        (b'{"text": "a", "label": "c", "n": ' + b"9" * 5000 + b"}", "not_json"),
        (b'{"text": "a", "label": "\xff"}', "not_decoded"),
        (b'{"text": "a", "label": "b"', "not_json"),
        (b"\x00\x00\x00", "not_json"),
    ],
)
def test_an_invalid_line_is_kept_as_bytes_with_a_reason(line: bytes, code: str) -> None:
    Path("in/a.jsonl").write_bytes(b"\n".join([GOOD, line, OTHER]))
    ingest(NEWS)
    assert errors("news") == [code]
    assert [row["raw"] for row in raw_rows("news") if row["raw"]] == [line + b"\n"]
    assert [each["text"] for each in records("news")] == ["a", "z"]


@pytest.mark.parametrize(("start", "end"), [(b"[", b"]"), (b'{"version": "1", "data": [', b"]}")])
@pytest.mark.parametrize(("element", "code"), [*CLOSED, (nested(100_000), "nested_too_deeply")])
def test_a_broken_element_costs_itself_alone(element: bytes, code: str, start: bytes, end: bytes) -> None:
    Path("in/a.json").write_bytes(start + b", ".join([GOOD, element, OTHER]) + end)
    ingest(NEWS)
    assert errors("news") == [code]
    assert element in b"".join(row["raw"] or b"" for row in raw_rows("news"))
    if start == b"[" or len(element) < 10_000:  # one that cannot be parsed at all takes the whole of an object with it
        assert [each["text"] for each in records("news")] == ["a", "z"]


def test_what_nests_as_deep_as_may_be_can_be_read_by_every_later_room() -> None:
    Path("in/a.jsonl").write_bytes(nested(DEEPEST))
    ingest(NEWS)
    (row,) = raw_rows("news")
    assert json.loads(row["record"])["text"] == "a"


def test_numbers_where_text_belongs_and_tricks_of_direction_and_width_are_kept_as_they_are() -> None:
    tricks = "\u202eevil\u202c a\u200bb\u2066c\ufeff \u0000"
    write_jsonl(Path("in/a.jsonl"), [{"text": 5, "label": "b"}, {"text": tricks, "label": "مرحبا"}])
    ingest(NEWS)
    first, second = records("news")
    assert to_fields(first, "text_label", {}) == Problem("wrong_type", "text", 5)
    assert to_fields(second, "text_label", {})["input"] == tricks  # type: ignore[index]


def test_a_formula_in_a_cell_is_text() -> None:
    Path("in/a.csv").write_text('text,label\n"=HYPERLINK(""http://x"")",b\n@SUM(A1),-1+2\n')
    ingest(NEWS)
    assert [each["text"] for each in records("news")] == ['=HYPERLINK("http://x")', "@SUM(A1)"]


def test_a_parquet_file_of_another_schema_is_reported_with_its_columns_and_the_others_are_read() -> None:
    pq.write_table(pa.table({"text": ["a"], "label": ["b"]}), "in/a.parquet")
    pq.write_table(pa.table({"texts": ["a"], "number": [1]}), "in/b.parquet")
    pq.write_table(pa.table({"text": [1, 2], "label": [None, {"x": 1}]}), "in/c.parquet")
    result = ingest(NEWS)
    assert [batch.rows for batch in result.new] == [1, 2]
    (error,) = result.errors
    assert "in/b.parquet: no record has a column `text`; there are `texts`, `number`. Did you mean `texts`?" in str(
        error
    )


def test_a_parquet_row_whose_time_no_calendar_has_costs_itself_alone() -> None:
    table = pa.table({"text": ["a", "b"], "at": pa.array([0, 2**60], pa.timestamp("us"))})
    pq.write_table(table.append_column("label", pa.array(["x", "y"])), "in/a.parquet")
    ingest(NEWS)
    assert [each["text"] for each in records("news")] == ["a"]
    assert errors("news") == ["not_readable"]


def test_an_endless_record_is_kept_in_pieces_whatever_the_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_RECORD_BYTES", 20_000)
    monkeypatch.setattr(json_text, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(batches, "BYTES_AT_ONCE", 10_000)
    long = b'{"text": "' + b"y" * 100_000 + b'", "label": "b"}'
    for name, content in (
        ("a.jsonl", GOOD + b"\n" + long + b"\n" + GOOD),
        ("b.json", b"[" + GOOD + b"," + long + b"," + GOOD + b"]"),
        ("c.json", b"[" + GOOD + b',{"text": "' + b"y" * 100_000),
        ("d.csv", b"text,label\na,b\n" + b"y" * 100_000 + b"\na,b\n"),
    ):
        source = name.replace(".", "-")
        Path(f"in/{name}").write_bytes(content)
        ingest(NEWS | {"name": source, "path": f"in/{name}"})
        pieces = [row["raw"] for row in raw_rows(source) if row["raw"]]
        assert b"".join(pieces).count(b"y") == 100_000, name
        assert max(len(piece) for piece in pieces) <= 40_000, name
        assert len(records(source)) == (1 if name == "c.json" else 2), name


def test_a_quote_that_is_never_closed_and_a_block_without_end_are_bounded_in_lines_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lines, "MAX_RECORD_LINES", 100)
    Path("in/a.csv").write_text('text,label\n"never closed,b\n' + "a,b\n" * 500)
    ingest(NEWS)
    assert errors("news") == ["bad_quote"]
    assert len(records("news")) == 500
    Path("in/b.conll").write_text("a O\n" * 500)
    ingest(NEWS | {"name": "tags", "path": "in/b.conll", "shape": "conll", "family": "entities"})
    assert set(errors("tags")) == {"too_long"}
    assert (
        sum(row["raw"].count(b"\n") for row in raw_rows("tags") if row["raw"])
        + sum(len(each["tokens"]) for each in records("tags"))
        == 500
    )


def test_one_object_that_is_too_large_to_be_read_whole_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_document, "LARGEST_OBJECT_BYTES", 1000)
    Path("in/a.json").write_text(json.dumps({"data": topic_records(50)}))
    (error,) = ingest(NEWS).errors
    assert "is one JSON object of more than 1,000 bytes. Store its records as JSON Lines" in str(error)


def test_a_file_name_that_is_no_text_is_kept_readable() -> None:
    Path("in/\udcff\u4e2d.jsonl").write_bytes(GOOD)
    ingest(NEWS)
    assert raw_rows("news")[0]["file"] == "in/\\udcff\u4e2d.jsonl"


def test_a_file_that_is_removed_while_it_is_read_is_an_error_of_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.ingest import collect

    write_jsonl(Path("in/a.jsonl"), topic_records(2))
    write_jsonl(Path("in/b.jsonl"), topic_records(2, start=2))
    digests = collect.digests_of

    def gone(names: list[str], size: int, start: int | None) -> Any:
        if names == ["in/a.jsonl"]:
            raise OSError(5, "Input/output error", names[0])
        return digests(names, size, start)

    monkeypatch.setattr(collect, "digests_of", gone)
    result = ingest(NEWS)
    assert [batch.rows for batch in result.new] == [2]
    assert str(result.errors[0]).startswith("in/a.jsonl: cannot be read (Input/output error)")


PINNED = {
    '{"text": "A goal", "label": "sport"}': "9347376c88d5847174be7512912239e8",
    '{"label":"科技","text":"两\\n行","n":[-0,1.5,1e16,12345678901234567890,{"b":1,"a":""}]}': "e2ac648feb7a63806a5d21e9006f23bf",
    '{"text": "\\ud83d\\u0000\\u007f\\u2028/", "label": ""}': "834e86fa11fdb011ce95737462b35704",
    '"text alone"': "2f60c55664481ecb2fc4731596b38fed",
    "-0.0": "341da91d8c28d2d9d3dec384616907f7",
}


@pytest.mark.parametrize("line", PINNED)
def test_the_identity_of_a_record_stays_what_it_was(line: str) -> None:
    Path("in/a.jsonl").write_text(line, encoding="utf-8")
    ingest(NEWS)
    (row,) = raw_rows("news")
    assert row["digest"] == PINNED[line]
    assert row["digest"] == record_digest(identified(json.loads(line))[0], None)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@hypothesis_settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.dictionaries(st.text(max_size=4), VALUES, max_size=4), max_size=6))
def test_any_objects_come_back_as_they_went_in(rows: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    from tasks.ingest.readers.dispatch import read_records
    from tasks.ingest.settings import Source

    folder = tmp_path_factory.mktemp("any")
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "a.json").write_text(json.dumps(rows, ensure_ascii=True), encoding="utf-8")
    for name in ("a.jsonl", "a.json"):
        result = list(read_records(folder / name, Source.model_validate(NEWS)))
        assert [each.record for each in result] == rows
        assert [each.error for each in result] == [None] * len(rows)
