"""One record is one row with one id, whichever format it comes in; what cannot be read is refused in each of them."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.ingesting import errors, ingest, records

from tasks.records.parse import read_raw, to_rows
from tasks.records.shapes import to_fields
from tasks.state.manifest import read_manifest

TURNS = {"shape": "messages", "family": "tools"}
PLAIN = {"shape": "alpaca", "family": "instruction"}
LABELS = {"shape": "text_label", "family": "topic"}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"properties": {"city": {"type": "string"}}}},
}
STOCK = {
    "type": "function",
    "function": {"name": "stock", "parameters": {"properties": {"symbol": {"type": "string"}}}},
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def called(name: str, arguments: Any, tool: Any) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    requests, answer = (
        {"role": "user", "content": f"call {name}"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    )
    return {"messages": [requests, answer], "tools": [tool]}


def write_jsonl(rows: list[dict[str, Any]], path: Path) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_json(rows: list[dict[str, Any]], path: Path) -> None:
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def write_parquet(rows: list[dict[str, Any]], path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(filled(rows)), path)


def filled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with all columns: Arrow takes those of the first row for all that there are."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return [{column: row.get(column) for column in columns} for row in rows]


def flat(row: dict[str, Any], columns: list[str]) -> list[str]:
    """The row for formats that hold texts alone: lists and objects are JSON in them."""
    values = [row.get(column) for column in columns]
    return ["" if v is None else v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in values]


def write_csv(rows: list[dict[str, Any]], path: Path) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    csv.writer(text).writerows([columns, *(flat(row, columns) for row in rows)])
    path.write_bytes(text.getvalue().encode())


def write_sql(rows: list[dict[str, Any]], path: Path) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    names = ", ".join(f'"{name}"' for name in columns)
    with sqlite3.connect(path) as database:
        database.execute(f"CREATE TABLE t ({names})")
        marks = ", ".join("?" * len(columns))
        database.executemany(f"INSERT INTO t VALUES ({marks})", [flat(row, columns) for row in rows])


def write_hub(rows: list[dict[str, Any]], path: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset.from_list(filled(rows)).save_to_disk(str(path))


FORMATS = {
    "jsonl": (write_jsonl, {"path": "{}.jsonl"}),
    "json": (write_json, {"path": "{}.json"}),
    "csv": (write_csv, {"path": "{}.csv"}),
    "parquet": (write_parquet, {"path": "{}.parquet"}),
    "sql": (write_sql, {"kind": "sql", "url": "sqlite:///{}.db", "table": "t"}),
    "hub": (write_hub, {"kind": "hub", "path": "{}"}),
}
FILES = {"sql": "{}.db", "hub": "{}"}


def collected(rows: list[dict[str, Any]], name: str, format_: str, shape: dict[str, str]) -> list[dict[str, Any]]:
    """What becomes of the rows in a format: RECORD_SCHEMA."""
    write, source = FORMATS[format_]
    write(rows, Path((FILES.get(format_) or source["path"]).format(name)))
    declared = {"name": name, **shape, **{key: text.format(name) for key, text in source.items()}}
    result = ingest(declared)
    assert not result.errors, result.errors
    batches = [batch for batch in read_manifest() if batch.source == name]
    return [row for batch in batches for row in to_rows(read_raw(batch), batch).to_pylist()]


@pytest.mark.parametrize("format_", FORMATS)
def test_case_01_what_arrow_padded_is_not_in_the_row(format_: str) -> None:
    rows = [called("weather", {"city": "Bonn"}, WEATHER), called("stock", {"symbol": "AB"}, STOCK)]
    first, second = collected(rows, "s", format_, TURNS)
    assert first["output"] == '[{"arguments":{"city":"Bonn"},"name":"weather"}]'
    assert json.loads(first["tools"]) == [WEATHER]
    assert json.loads(second["tools"]) == [STOCK]
    assert first["row_id"] == collected(rows, "j", "jsonl", TURNS)[0]["row_id"]


ASKED, SAID = [{"role": "user", "content": "问"}], [{"role": "assistant", "content": "好"}]
TALK = [{"from": who, "value": text} for who, text in (("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "d"))]


@pytest.mark.parametrize(
    ("shape", "rows"),
    [
        ("preference", [{"prompt": ASKED, "chosen": SAID, "rejected": [{"role": "assistant", "content": "不"}]}]),
        ("preference", [{"prompt": '["a", {"b": 1}]', "chosen": '{"role": "x"}', "rejected": "[]"}]),
        (
            "kto",
            [{"prompt": ASKED, "completion": "a", "label": True}, {"prompt": ASKED, "completion": "b", "label": False}],
        ),
        ("sharegpt", [{"conversations": TALK, "loss_mask": [0, 1]}, {"conversations": TALK[2:]}]),
    ],
)
def test_turns_masks_and_flags_are_the_same_as_texts(shape: str, rows: list[dict[str, Any]]) -> None:
    """Case 01: in CSV and databases the prompt of a pair was its JSON as text, and an empty cell no mask."""
    read = [collected(rows, f"s{place}", each, {"shape": shape, "family": "f"}) for place, each in enumerate(FORMATS)]
    assert all(row["problem"] == "" for result in read for row in result)
    assert len({tuple((row["row_id"], row["use"]) for row in result) for result in read}) == 1


def test_a_database_without_booleans_holds_the_label_of_a_kto_record_as_a_number() -> None:
    result = [
        to_fields({"prompt": "a", "completion": "b", "label": label}, "kto", {}) for label in (True, 1, "1", "true")
    ]
    assert all(one == result[0] for one in result)
    assert isinstance(result[0], dict)


def test_case_01_a_null_in_an_object_is_no_key_in_any_format_and_one_in_json_within_a_text_stays() -> None:
    rows = [called("f", {"a": 1, "b": None}, WEATHER), called("f", {"a": 1, "b": 2}, WEATHER)]
    ids = {
        tuple(row["row_id"] for row in collected(rows, f"s{place}", each, TURNS)) for place, each in enumerate(FORMATS)
    }
    assert len(ids) == 1
    text = collected([called("f", '{"a": 1, "b": null}', WEATHER)], "text", "parquet", TURNS)
    assert text[0]["output"] == '[{"arguments":{"a":1,"b":null},"name":"f"}]'


def test_case_01_a_whole_number_among_fractions_is_the_same_number_in_every_format() -> None:
    """A column of Arrow has one type: 1 came back as 1.0, and the row had another id."""
    rows = [called("f", {"a": number}, WEATHER) for number in (1, 2.5, -3, 2**52)]
    ids = {
        tuple(row["row_id"] for row in collected(rows, f"s{place}", each, TURNS)) for place, each in enumerate(FORMATS)
    }
    assert len(ids) == 1
    assert len(set(ids.pop())) == 4


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12).filter(str.strip)
ARGUMENTS = st.fixed_dictionaries(
    {"city": TEXT | st.none()},  # Parquet has no object without any key
    optional={
        "days": st.integers(-1000, 1000),
        "ratio": st.floats(-1e9, 1e9).map(lambda number: round(number, 3)) | st.integers(-1000, 1000),
        "tags": st.lists(TEXT, max_size=2),
        "deep": st.fixed_dictionaries({"b": TEXT}, optional={"a": st.booleans()}),
    },
)
PLAIN_RECORDS = st.fixed_dictionaries(
    {"instruction": TEXT, "output": TEXT},
    optional={
        "input": TEXT | st.none(),
        "system": TEXT,
        "history": st.lists(st.lists(TEXT, min_size=2, max_size=2), max_size=2),
    },
)


@st.composite
def dialogues(draw: st.DrawFn) -> dict[str, Any]:
    """A dialogue with calls, results that are texts or objects, thoughts and flags, in any mix."""
    turns: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 2))):
        turns.append({"role": "user", "content": draw(TEXT)})
        if draw(st.booleans()):
            calls = [
                {"id": f"c{number}{place}", "function": {"name": "f", "arguments": draw(ARGUMENTS)}}
                for place in range(draw(st.integers(1, 2)))
            ]
            turns.append({"role": "assistant", "content": draw(st.just("") | TEXT), "tool_calls": calls})
            results = [{"role": "tool", "tool_call_id": call["id"], "content": draw(TEXT)} for call in calls]
            turns += draw(st.permutations(results))
        answer = {"role": "assistant", "content": draw(TEXT)}
        if draw(st.booleans()):
            answer["thinking"] = draw(TEXT)
        if draw(st.booleans()):
            answer["weight"] = draw(st.sampled_from([0, 1]))
        turns.append(answer)
    return {"messages": turns} | ({"tools": [WEATHER, STOCK]} if draw(st.booleans()) else {})


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_random_records_have_one_id_each_in_every_format(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shape, some = data.draw(st.sampled_from([(PLAIN, PLAIN_RECORDS), (TURNS, dialogues())]))
    rows = data.draw(st.lists(some, min_size=1, max_size=4, unique_by=lambda row: json.dumps(row, sort_keys=True)))
    expected: list[Any] | None = None
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("formats"))
        for format_ in FORMATS:
            result = [
                (row["row_id"] if not row["problem"] else "", row["problem"])
                for row in collected(rows, format_, format_, shape)
            ]
            expected = expected or result
            assert result == expected, format_


def test_a_label_that_is_a_number_is_its_digits_in_every_format() -> None:
    rows = [
        collected([{"text": "Rain again.", "label": -1}], f, f, {"shape": "text_label", "family": "topic"})[0]
        for f in FORMATS
    ]
    assert {row["output"] for row in rows} == {"-1"}
    assert len({row["row_id"] for row in rows}) == 1


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(
    ("arguments", "code"), [('{"a": 1e999}', "not_finite"), ('{"a": 1, "a": 2}', "duplicate_keys")]
)
def test_a_value_that_would_be_lost_is_refused_in_every_format(format_: str, arguments: str, code: str) -> None:
    (row,) = collected([called("f", arguments, WEATHER)], "s", format_, TURNS)
    assert row["problem"] == code


def test_bytes_that_do_not_decode_are_refused_in_every_format() -> None:
    damaged = "一个长".encode("gb18030")
    Path("a.jsonl").write_bytes(b'{"text": "' + damaged + b'", "label": "x"}\n')
    Path("b.csv").write_bytes(b"text,label\n" + damaged + b",x\n")
    pq.write_table(pa.table({"text": pa.array([damaged], pa.binary()), "label": ["x"]}), "c.parquet")
    with sqlite3.connect("d.db") as database:
        database.execute("CREATE TABLE t (text BLOB, label TEXT)")
        database.execute("INSERT INTO t VALUES (?, 'x')", [damaged])
    label = {"shape": "text_label", "family": "topic"}
    ingest(*({"name": name[0], "path": name, **label} for name in ("a.jsonl", "b.csv", "c.parquet")),
           {"name": "d", "kind": "sql", "url": "sqlite:///d.db", "table": "t", **label})  # fmt: skip
    assert errors("a") == errors("b") == ["not_decoded"]
    for batch in read_manifest()[2:]:
        (row,) = to_rows(read_raw(batch), batch).to_pylist()
        assert (row["problem"], row["problem_field"]) == ("encoding_damage", "text")


def test_a_query_that_gives_a_column_twice_is_refused() -> None:
    with sqlite3.connect("a.db") as database:
        database.execute("CREATE TABLE t (text, label)")
        database.execute("INSERT INTO t VALUES ('a', 'b')")
    source = {"name": "s", "kind": "sql", "url": "sqlite:///a.db", "query": "SELECT text, label, label AS text FROM t"}
    (error,) = ingest(source | {"shape": "text_label", "family": "topic"}).errors
    assert "has the column `text` more than once" in str(error)


def labelled() -> Any:
    import datasets as d

    d.disable_progress_bars()
    names = d.ClassLabel(names=["neg", "pos"])
    tags = d.ClassLabel(names=["O", "B-LOC", "I-LOC"])
    features = {"text": d.Value("string"), "label": names, "tokens": d.List(d.Value("string")), "tags": d.List(tags),
                "deep": {"some": d.List({"label": names})}}  # fmt: skip
    rows = {"text": ["a", "b", "c"], "label": [1, 0, -1], "tokens": [["New", "York"]] * 3, "tags": [[1, 2], [0, 0], [1, 0]],
            "deep": [{"some": [{"label": 0}]}] * 3}  # fmt: skip
    return d.Dataset.from_dict(rows, features=d.Features(features))


@pytest.mark.parametrize("kind", ["hub", "parquet"])
def test_case_16_labels_are_read_by_their_names(kind: str) -> None:
    if kind == "hub":
        labelled().save_to_disk("set")
    else:
        labelled().to_parquet("set.parquet")
    place = {"kind": "hub", "path": "./set"} if kind == "hub" else {"path": "set.parquet"}
    ingest({"name": "s", **place, "shape": "text_label", "family": "topic"})
    ingest({"name": "t", **place, "shape": "conll", "family": "entities"})
    assert [record["label"] for record in records("s")] == ["pos", "neg", None]
    assert records("s")[0]["deep"] == {"some": [{"label": "neg"}]}
    _, batch = read_manifest()
    assert [row["output"] for row in to_rows(read_raw(batch), batch).to_pylist()][:2] == [
        '[{"type":"LOC","text":"New York","start":0,"end":8}]', "[]",
    ]  # fmt: skip


def test_case_16_a_label_that_has_no_name_is_refused() -> None:
    metadata = {
        b"huggingface": json.dumps({"info": {"features": {"label": {"_type": "ClassLabel", "names": ["a"]}}}}).encode()
    }
    pq.write_table(pa.table({"text": ["x", "y"], "label": [0, 1]}).replace_schema_metadata(metadata), "a.parquet")
    ingest({"name": "s", "path": "a.parquet", "shape": "text_label", "family": "topic"})
    assert [record["label"] for record in records("s")] == ["a"]
    assert errors("s") == ["not_readable"]


def test_the_fields_of_a_map_are_an_object_and_a_repeated_key_is_refused() -> None:
    maps = pa.array([[("b", "1"), ("a", None)], [("b", "1"), ("b", "2")]], pa.map_(pa.string(), pa.string()))
    pq.write_table(pa.table({"text": ["x", "y"], "label": ["l", "l"], "m": maps}), "a.parquet")
    ingest({"name": "s", "path": "a.parquet", "shape": "text_label", "family": "topic"})
    assert [record["m"] for record in records("s")] == [{"b": "1"}]
    assert errors("s") == ["duplicate_keys"]
