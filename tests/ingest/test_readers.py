"""Reading files: no record is dropped, whatever it looks like, and nothing raises that is not a SourceError."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import SourceError
from tasks.ingest.readers import json_document, json_text, lines
from tasks.ingest.readers.dispatch import read_records
from tasks.ingest.readers.raw_record import RawRecord
from tasks.ingest.settings import Source
from tasks.records.raw_batch import identified

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ROWS = [{"text": 'A goal, "late"', "label": "sport"}, {"text": "两行\n文字", "label": "科技"}]


def read(path: Path, content: bytes | None = None, **source: Any) -> list[RawRecord]:
    if content is not None:
        path.write_bytes(content)
    declared = {"name": "s", "path": str(path), "shape": "text_label", "family": "topic", **source}
    return list(read_records(path, Source.model_validate(declared)))


def packed(content: bytes, ending: str) -> bytes:
    if ending == ".gz":
        return gzip.compress(content, mtime=0)
    return zstd.compress(content) if ending == ".zst" else content


def parsed(records: list[RawRecord]) -> list[Any]:
    return [result.record for result in records if result.is_parsed]


def torn(records: list[RawRecord]) -> list[bytes]:
    return [result.raw for result in records if result.raw is not None]


def jsonl(rows: list[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "gb18030", "cp936"])
def test_the_same_rows_come_out_of_every_format_and_encoding(tmp_path: Path, encoding: str) -> None:
    csv_text = 'text,label\r\n"A goal, ""late""",sport\r\n"两行\n文字",科技\r\n'
    texts = {"a.jsonl": jsonl(ROWS), "a.json": json.dumps(ROWS, ensure_ascii=False, indent=1), "a.csv": csv_text}
    for name, text in texts.items():
        assert parsed(read(tmp_path / name, text.encode(encoding), encoding=encoding)) == ROWS, name


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_understood_whatever_encoding_is_declared(tmp_path: Path, mark: str) -> None:
    assert parsed(read(tmp_path / "a.jsonl", jsonl(ROWS).encode(mark), encoding="gb18030")) == ROWS


def test_parquet_keeps_every_row_and_every_kind_of_value(tmp_path: Path) -> None:
    import datetime
    import decimal

    columns = {
        "text": ["a", None],
        "when": [datetime.datetime(2025, 1, 2), None],
        "blob": [b"\xff\x00", b"plain"],
        "list": [[1, 2], []],
        "money": [decimal.Decimal("1.50"), None],
        "nan": [float("nan"), 1.0],
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    first, second = parsed(read(tmp_path / "a.parquet"))
    assert first["when"] == "2025-01-02 00:00:00"
    assert first["blob"] == {"bytes": "/wA="}  # no text
    assert first["money"] == "1.50"
    assert second == {"text": None, "when": None, "blob": "plain", "list": [], "money": None, "nan": 1.0}


def test_a_parquet_row_that_is_not_utf8_costs_itself_alone(tmp_path: Path) -> None:
    texts = pa.array([b"good", b"\xff\xfe", b"\xe5\xa5\xbd"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    records = read(tmp_path / "a.parquet")
    assert parsed(records) == [{"text": "good"}, {"text": "好"}]
    assert [result.line for result in records if not result.is_parsed] == [2]


def test_an_empty_cell_of_numbers_is_null_and_an_infinite_one_costs_its_row_alone(tmp_path: Path) -> None:
    numbers = [1.5, float("nan"), float("inf"), 2.0]
    nested = [[1.0], [float("nan")], [1.0], [-float("inf")]]
    decimals = [None] * 4
    pq.write_table(pa.table({"n": numbers, "nested": nested, "d": decimals}), tmp_path / "a.parquet")
    records = read(tmp_path / "a.parquet")
    message = [{"n": 1.5, "nested": [1.0], "d": None}, {"n": None, "nested": [None], "d": None}]
    assert [each.record for each in records if each.is_parsed] == message
    assert [(each.line, each.error) for each in records if not each.is_parsed] == [
        (3, "not_finite: the number inf; kept as an Arrow stream"),
        (4, "not_finite: the number -inf; kept as an Arrow stream"),
    ]


def test_a_cut_parquet_file_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    with pytest.raises(SourceError, match=r"a\.parquet: cannot be read as Parquet"):
        read(tmp_path / "a.parquet", whole[: len(whole) // 2])


def test_lines_that_are_not_json_are_kept_as_bytes(tmp_path: Path) -> None:
    bad = [b'{"text": "half', b"\x00\x00\x00", b"\xff\xfe broken", b'{"a": 1} {"b": 2}', b"[" * 5000]
    good = b'{"text": "a", "label": "b"}'
    content = b"\n".join([good, *bad, b"", b"   ", b'{"score": 1.5}', b'"text alone"'])
    records = read(tmp_path / "a.jsonl", content)
    assert [raw.rstrip(b"\n") for raw in torn(records)] == bad
    assert len(parsed(records)) == 3
    assert [result.line for result in records] == [1, 2, 3, 4, 5, 6, 9, 10]
    assert all(result.error for result in records if not result.is_parsed)


def test_a_line_separator_within_a_text_ends_no_line(tmp_path: Path) -> None:
    content = '{"text": "a\u2028b\x85c", "label": "d"}\n'.encode()
    assert parsed(read(tmp_path / "a.jsonl", content)) == [{"text": "a\u2028b\x85c", "label": "d"}]


def test_an_endless_line_is_kept_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_RECORD_BYTES", 1000)
    for encoding in ("utf-8", "utf-16-le"):
        content = ("x" * 2500 + '\n{"text": 1}\n').encode(encoding)
        records = read(tmp_path / "a.jsonl", content, encoding=encoding)
        assert b"".join(torn(records)).decode(encoding).rstrip() == "x" * 2500
        assert parsed(records) == [{"text": 1}]


def test_a_broken_element_of_an_array_costs_itself_alone(tmp_path: Path) -> None:
    content = (
        b'[{"text": "a"}, {"text": "b" "label": 1}, {"text": "c", "n": {"text": "d"}}, {"text": "\xff"}, {"text": "e"}]'
    )
    records = read(tmp_path / "a.json", content)
    assert [each["text"] for each in parsed(records)] == ["a", "c", "e"]
    assert torn(records) == [b'{"text": "b" "label": 1}', b'{"text": "\xff"}']


def test_an_array_cut_in_half_keeps_both_its_rows_and_its_rest(tmp_path: Path) -> None:
    whole = json.dumps(ROWS * 3, ensure_ascii=False).encode()
    for cut in range(1, len(whole)):
        records = read(tmp_path / "a.json", whole[:cut])
        assert parsed(records) == (ROWS * 3)[: len(parsed(records))]
        assert len(parsed(records)) >= cut * 6 // len(whole) - 1
        assert all(whole.find(raw) >= 0 for raw in torn(records))


def test_an_array_is_read_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "CHUNK_BYTES", 16)
    rows = [
        *ROWS,
        {"text": "长" * 100, "label": 12345678901234567890, "more": [1, {"a": "]}"}]},
        12,
        None,
        True,
        -1.5e10,
    ]
    for indent in (None, 2):
        content = json.dumps(rows, ensure_ascii=False, indent=indent).encode()
        assert parsed(read(tmp_path / "a.json", content)) == rows


def test_an_object_is_its_only_list_or_one_record(tmp_path: Path) -> None:
    wrapped = json.dumps({"version": "1.0", "data": ROWS}, indent=1).encode()
    assert parsed(read(tmp_path / "a.json", wrapped)) == ROWS
    assert parsed(read(tmp_path / "a.json", json.dumps(ROWS[0], indent=1).encode())) == [ROWS[0]]
    dialogue = {"messages": [{"role": "user", "content": "a"}]}
    assert parsed(read(tmp_path / "a.json", json.dumps(dialogue).encode(), shape="messages")) == [dialogue]


def test_json_lines_under_the_wrong_name_are_read(tmp_path: Path) -> None:
    assert parsed(read(tmp_path / "a.json", jsonl(ROWS).encode())) == ROWS
    records = read(tmp_path / "a.json", b'{"text": \n' + jsonl(ROWS).encode())
    assert parsed(records) == ROWS
    assert torn(records) == [b'{"text": \n']


def test_large_json_lines_under_the_wrong_name_are_read_though_the_first_line_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_document, "LARGEST_OBJECT_BYTES", 20)
    result = read(tmp_path / "a.json", b'{"a": \n{"a": 1}\n{"a": 2}\n')
    assert (torn(result), parsed(result)) == ([b'{"a": \n'], [{"a": 1}, {"a": 2}])


def test_a_stray_quote_in_csv_costs_one_line_not_the_rest_of_the_file(tmp_path: Path) -> None:
    rows = "".join(f"text {number},label\n" for number in range(50))
    records = read(tmp_path / "a.csv", ("text,label\n" + rows + '"never closed,label\n' + rows).encode())
    assert len(parsed(records)) == 100
    assert torn(records) == [b'"never closed,label\n']
    assert next(result for result in records if not result.is_parsed).line == 52


def test_csv_rows_with_too_many_fields_too_few_or_bad_bytes_are_kept(tmp_path: Path) -> None:
    content = b"text,label\na,b,c\nalone\n\n\xff\xfe,b\nNUL\x00,b\n"
    records = read(tmp_path / "a.csv", content)
    assert torn(records) == [b"a,b,c\n", b"alone\n", b"\xff\xfe,b\n"]
    assert parsed(records) == [{"text": "NUL\x00", "label": "b"}]
    assert "3 fields, but the header has 2" in (records[0].error or "")


@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_csv_uses_the_separator_of_its_header(tmp_path: Path, separator: str) -> None:
    content = f"text{separator}label\na{separator}b\n".encode()
    assert parsed(read(tmp_path / "a.csv", content)) == [{"text": "a", "label": "b"}]


@pytest.mark.parametrize("header", ["text,text,", "a, text ,text", "a\ttext\ttext"])
def test_a_repeated_column_is_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(SourceError, match=r"has the column `text` more than once\. Rename or remove"):
        read(tmp_path / "a.csv", header.encode() + b"\n1,2,3\n")
    column = pa.array(["x"])
    pq.write_table(pa.Table.from_arrays([column, column], ["text", "text"]), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="has the column `text` more than once"):
        read(tmp_path / "a.parquet")
    (result,) = read(tmp_path / "a.jsonl", b'{"text": "a", "text": "b"}\n')
    assert (result.error or "").startswith("duplicate_keys")


def test_csv_columns_without_a_name_get_one_that_no_other_has(tmp_path: Path) -> None:
    (record,) = parsed(read(tmp_path / "a.csv", b"column_2,,text\n1,2,3\n"))
    assert record == {"column_2": "1", "column_2_2": "2", "text": "3"}


def test_a_csv_field_may_be_very_long(tmp_path: Path) -> None:
    assert len(parsed(read(tmp_path / "a.csv", b"text,label\n" + b"x" * 300_000 + b",b\n"))[0]["text"]) == 300_000


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_an_empty_file_has_no_records(tmp_path: Path, name: str) -> None:
    for content in (b"", b"\n \n", b"\xef\xbb\xbf"):
        assert read(tmp_path / name, content) == []


def test_an_unknown_ending_asks_for_the_format(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError,
        match=r"the ending `\.log` is that of no known format\. Set it in source `s`: `format: jsonl`, or "
        "another of conll, csv, json, jsonl, parallel, parquet, semeval, text",
    ):
        read(tmp_path / "a.log", b"{}")
    assert parsed(read(tmp_path / "a.log", b'{"a": 1}\n', format="jsonl")) == [{"a": 1}]


ASCII_SPACE = b" \t\r\x0b\x0c\x1c\x1d\x1e\x1f"
ANY_BYTES = st.one_of(
    st.binary(max_size=300),
    st.lists(
        st.sampled_from(
            [
                *(b"{", b"}", b"[", b"]", b'"', b",", b":", b"\n", b"\r\n", b"\\", b"\t", b" ", b"\x00"),
                *(b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", "进".encode(), b"-0", b"1e999", b"NaN", b"B-x", b"O"),
                *(b'"text"', b'{"text": 1, "text": 2}', b"a,b\n"),
            ]
        ),
        max_size=60,
    ).map(b"".join),
)
NAMES = ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.txt", "a.conll", "a.parquet", "a.en.txt"]


@settings(max_examples=300, deadline=None)
@given(content=ANY_BYTES, name=st.sampled_from(NAMES), packing=st.sampled_from(["", ".gz", ".zst"]), unit=st.booleans())
def test_no_bytes_whatever_make_a_reader_fail_or_lose_a_word(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str, packing: str, unit: bool
) -> None:
    path = tmp_path_factory.mktemp("any") / (name + packing)
    path.write_bytes(packed(content, packing))
    try:
        records = read(path, text_unit="document" if unit else "line")
    except SourceError:
        assert "parquet" in name or (name in ("a.csv", "a.tsv"))  # no table, or a header that cannot be read
        return
    assert all(result.raw is not None or result.error is None for result in records)
    for result in records:
        identified(result.record)  # what parsed can be stored
    if name == "a.jsonl" and content[:1] not in (b"\xff", b"\xfe", b"\xef", b"\x00"):
        assert len(records) == sum(1 for line in content.split(b"\n") if line.strip(ASCII_SPACE) != b"")


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=200), cut=st.integers(0, 200), packing=st.sampled_from([".gz", ".zst"]))
def test_bytes_that_are_not_a_whole_archive_are_kept_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, cut: int, packing: str
) -> None:
    path = tmp_path_factory.mktemp("any") / f"a.jsonl{packing}"
    for whole in (content, packed(content, packing)):
        path.write_bytes(whole[:cut])
        records = read(path)
        is_whole = whole[:cut] == packed(content, packing)
        faults = [
            result for result in records if (result.error or "").startswith(("truncated_archive", "damaged_archive"))
        ]
        assert len(faults) == (0 if is_whole or not whole[:cut] else 1)
