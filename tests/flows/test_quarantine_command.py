"""`strop quarantine`: rows are listed, exported, released into the next version, or dropped."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.project import params, write_params
from support.toy_rows import qa_records, topic_records, write_jsonl

from tasks import paths
from tasks.config import load_config
from tasks.curate.stage import run as curate
from tasks.dataset.read import read_dataset
from tasks.ingest.sources import ingest_sources
from tasks.records.raw_batch import record_digest
from tasks.records.row import QUARANTINE_SCHEMA
from tasks.runtime.files import canonical_json, write_parquet
from tasks.state.decisions import read_decisions
from tasks.validate.stage import run as validate


@pytest.fixture
def strop(strop: Any) -> Any:
    """Runs `strop quarantine`: (exit code, stdout, stderr)."""
    return partial(strop, "quarantine")


def line(number: int, reason: str, output: str = "好", **more: Any) -> dict[str, Any]:
    record = more.pop("record", canonical_json({"instruction": "=1+1", "output": output}))
    return {
        "row_id": f"{number:08x}" + "a" * 24, "batch": "b1" * 8, "index": number, "source": "news",
        "file": "inbox/news.jsonl", "line": number + 1, "reason": reason, "field": "output", "value": output,
        "record": record, **more,
    }  # fmt: skip


@pytest.fixture
def refused_rows(project: Path) -> list[dict[str, Any]]:
    """A project with rows in quarantine of both rooms."""
    write_params(project, params("no-model", []))
    torn = '{"instruction": "a"'
    refused = [
        line(0, "empty_output", ""),
        line(1, "output_too_long", '=HYPERLINK("http://a")'),
        line(2, "output_too_long", "@好", batch="c2" * 8, source="qa"),
        line(3, "not_parsed", torn, record=torn, row_id=record_digest(None, torn.encode())),
        line(4, "missing_field", row_id=record_digest('{"a":1}', None), record='{"a":1}'),
    ]
    dropped = [line(10, "near_duplicate"), line(11, "contaminated"), line(12, "pii_email", "a@b.cn")]
    for room, rows in (("validate", refused), ("curate", dropped)):
        for batch in sorted({row["batch"] for row in rows}):
            part = [row for row in rows if row["batch"] == batch]
            path = paths.QUARANTINE / room / f"{1 if batch.startswith('b') else 2:06d}-{batch}.parquet"
            write_parquet(path, pa.Table.from_pylist(part, QUARANTINE_SCHEMA))
    return [*refused, *dropped]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], [2, 0, 1, 3, 4, 10, 11, 12]),  # the newest batch first
        (["--reason", "output_too_long"], [2, 1]),
        (["--source", "news", "--reason", "output_too_long"], [1]),
        (["--batch", "C2"], [2]),
        (["--room", "curate"], [10, 11, 12]),
        (["--batch", "none"], []),
    ],
)
def test_rows_are_listed_by_the_given_options(
    strop: Any, refused_rows: Any, options: list[str], expected: list[int]
) -> None:
    listed = json.loads(strop("list", "--json", *options)[1])
    assert [row["index"] for row in listed["shown"]] == expected
    assert sum(listed["reasons"].values()) == listed["rows"] == len(expected)
    assert json.loads(strop("list", "--json", "--limit", "1", *options)[1])["rows"] == len(expected)


def test_a_row_is_shown_whole_with_whether_it_may_be_released(strop: Any, refused_rows: Any) -> None:
    shown = json.loads(strop("show", "00000001", "--json")[1])
    assert (shown["room"], shown["may_be_released"], shown["record"]) == ("validate", True, refused_rows[1]["record"])
    assert json.loads(strop("show", "0000000b", "--json")[1])["may_be_released"] is False
    assert "it overlaps with test rows" in strop("show", "0000000b")[1]
    code, _, err = strop("show", "0000")
    assert code == 1
    assert "row 0000: 6 rows match. See: strop quarantine list" in err
    assert "no such row in quarantine" in strop("show", "ffffffff")[2]


def test_an_export_has_every_row_and_no_formula(strop: Any, refused_rows: Any, tmp_path: Path) -> None:
    jsonl, table = tmp_path / "rows.jsonl", tmp_path / "rows.csv"
    assert strop("export", str(jsonl), "--source", "news")[0] == 0
    lines = [json.loads(text) for text in jsonl.read_text(encoding="utf-8").splitlines()]
    assert [each["index"] for each in lines] == [0, 1, 3, 4, 10, 11, 12]
    assert [each["record"] for each in lines] == [row["record"] for row in refused_rows if row["source"] == "news"]
    assert strop("export", str(table), "--reason", "output_too_long")[0] == 0
    with table.open(encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))
    assert [row["value"] for row in cells] == ["'@好", '\'=HYPERLINK("http://a")']
    assert not [cell for row in cells for cell in row.values() if cell.lstrip().startswith(("=", "+", "-", "@"))]
    assert "exists already" in strop("export", str(table))[2]
    assert "Use .jsonl or .csv" in strop("export", str(tmp_path / "rows.xlsx"))[2]
    assert "no refused row matches" in strop("export", str(tmp_path / "b.csv"), "--reason", "x")[2]


def test_a_decision_needs_a_reason_and_a_row(strop: Any, refused_rows: Any) -> None:
    assert strop("release", "00000001")[0] == 2
    assert strop("release", "00000001", "--why", " ")[0] == 2
    assert strop("drop", "--why", "all of it")[0] == 2
    assert read_decisions() == []


def test_rows_are_released_together_but_for_those_that_cannot_be(strop: Any, refused_rows: Any) -> None:
    code, out, _ = strop("release", "--source", "news", "--why", "looked through", "--json")
    assert code == 0
    answer = json.loads(out)
    assert {each["which"][:8] for each in answer["decisions"]} == {"00000000", "00000001", "0000000a", "0000000c"}
    assert sorted(answer["kept"]) == sorted(
        row["row_id"] for row in (refused_rows[3], refused_rows[4], refused_rows[6])
    )
    assert {each.why for each in read_decisions()} == {"looked through"}
    again = json.loads(strop("release", "--source", "news", "--why", "twice", "--json")[1])
    assert (again["decisions"], again["already"]) == ([], 4)
    for row, obstacle in (
        (refused_rows[4], "the record could not be parsed into a row"),
        (refused_rows[6], "it overlaps with test rows"),
    ):
        code, _, err = strop("release", row["row_id"][:10], "--why", "please")
        assert code == 1
        assert f"row {row['row_id']}: cannot be released: {obstacle}" in err
    assert (
        "1 row cannot be released: it overlaps with test rows."
        in strop("release", "00000002", "0000000b", "--why", "both")[1]
    )
    assert strop("drop", refused_rows[3]["row_id"], "--why", "gone")[0] == 0  # anything can be refused
    assert read_decisions()[-1].what == "drop"


def test_a_released_row_comes_back_in_the_next_version_and_a_dropped_one_leaves_it(strop: Any, project: Path) -> None:
    planted = {"text": "第七号报道 \ufffd 关于体育的消息", "label": "sport"}
    write_jsonl(project / "inbox/news.jsonl", [*topic_records(60), planted, {"text": "x", "label": ""}])
    write_jsonl(project / "inbox/qa.jsonl", qa_records(20))
    sources = [
        {"name": "news", "path": "inbox/news.jsonl", "shape": "text_label", "family": "topic"},
        {"name": "qa", "path": "inbox/qa.jsonl", "shape": "alpaca", "family": "qa"},
    ]
    write_params(project, params("no-model", sources, curate={"near_duplicates": "off"}))
    config = load_config()
    ingest_sources(config.ingest)

    def version() -> set[str]:
        validate(config)
        curate(config)
        return set(read_dataset()["row_id"].to_pylist())

    before = version()
    (refused,) = json.loads(strop("list", "--reason", "encoding_damage", "--json")[1])["shown"]
    assert refused["row_id"] not in before
    assert strop("release", refused["row_id"][:8], "--why", "这个字不要紧")[0] == 0
    after = version()
    assert after - before == {refused["row_id"]}
    assert before <= after
    assert json.loads(strop("list", "--reason", "encoding_damage", "--json")[1])["rows"] == 0

    from tasks.state.decisions import record_decision

    record_decision("drop", refused["row_id"], "a second look")
    assert version() == before
    (row,) = json.loads(strop("list", "--reason", "dropped_by_decision", "--json")[1])["shown"]
    assert strop("release", row["row_id"], "--why", "a third look")[0] == 0
    assert version() == after
