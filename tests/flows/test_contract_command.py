"""`strop contract suggest` profiles the collected data, and writes a contract that accepts (almost) all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from support.realdata import real
from support.toy_rows import qa_records, topic_records, write_jsonl

from flows.cli import contract
from tasks.errors import ConfigError, DataError
from tasks.ingest.settings import IngestSettings
from tasks.ingest.sources import ingest_sources
from tasks.state.decisions import record_decision
from tasks.state.manifest import read_manifest
from tasks.validate.load_contract import load_contract

SOURCES = [
    {"name": "news", "path": "inbox/news.jsonl", "shape": "text_label", "family": "topic"},
    {"name": "qa", "path": "inbox/qa.jsonl", "shape": "alpaca", "family": "qa", "columns": {"id": "key"}},
]


@pytest.fixture
def suggest(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command in this process: (standard output, standard error)."""
    command = typer.main.get_command(contract.app)

    def run(*arguments: str) -> tuple[str, str]:
        assert command(["suggest", *arguments], standalone_mode=False) == 0
        out, err = capsys.readouterr()
        return out, err

    return run


@pytest.fixture
def collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "dvc.yaml"):
        Path(name).write_text("{}\n", encoding="utf-8")
    damaged = {"instruction": "第一个？", "input": "", "output": "坏\ufffd"}
    questions = [{**record, "key": number} for number, record in enumerate([*qa_records(399), damaged])]
    write_jsonl(Path("inbox/news.jsonl"), [*topic_records(60), {"text": "x", "label": 3.5}])
    write_jsonl(Path("inbox/qa.jsonl"), questions)
    collect(SOURCES)


def collect(sources: list[dict[str, Any]]) -> None:
    ingest_sources(IngestSettings.model_validate_json(json.dumps({"sources": sources})))


def parsed(text: str) -> Any:
    path = Path("suggested.yaml")
    path.write_text(text, encoding="utf-8")
    return load_contract(path)


def test_the_profile_becomes_limits_and_comments(suggest: Any, collected: None) -> None:
    out, err = suggest()
    families = parsed(out).families
    assert set(families) == {"topic", "qa"}
    assert families["topic"].labels is not None
    assert set(families["topic"].labels) == {"sport", "tech", "business"}
    assert families["topic"].required_fields == ("input",)
    assert families["topic"].languages == ("en",)
    assert families["qa"].required_fields == ("instruction",)
    assert families["qa"].languages == ("en", "zh")
    assert set(families["qa"].scripts) == {"en", "zh"}
    assert families["qa"].labels is None
    assert families["qa"].unique_id
    for expected in (
        "# 61 records of news 61; 60 are rows",
        "# 1 are not: wrong_type",
        '- "sport" # 20',
        "# 0.2% of the rows are damaged",
        "# languages: en 50.0%, zh 50.0%",
        'nearly every input begins with "The "',
    ):
        assert expected in out
    assert "topic: would refuse 1 of 61 records (wrong_type 1)" in err
    assert "qa: would refuse 1 of 400 records (encoding_damage 1)" in err


def test_one_source_or_family_can_be_selected(suggest: Any, collected: None) -> None:
    assert set(parsed(suggest("--source", "qa")[0]).families) == {"qa"}
    assert set(parsed(suggest("--family", "topic")[0]).families) == {"topic"}
    with pytest.raises(DataError, match=r"no data of source kb\. Sources with data: news, qa"):
        suggest("--source", "kb")
    record_decision("exclude", next(b.batch for b in read_manifest() if b.source == "qa"), "doubtful")
    assert set(parsed(suggest()[0]).families) == {"topic"}


def test_the_facts_are_there_as_json(suggest: Any, collected: None) -> None:
    answer = json.loads(suggest("--json")[0])
    qa = answer["families"]["qa"]
    assert (qa["records"], qa["rows"], qa["damaged"], qa["own_ids"]) == (400, 400, 1, 400)
    assert qa["languages"] == {"zh": 200, "en": 200}
    assert qa["lengths"]["output_segments"]["least"] == 1
    assert answer["families"]["topic"]["patterns"]["input"]["begins"] == "The "
    assert answer["refused"]["qa"] == {"records": 400, "refused": 1, "reasons": {"encoding_damage": 1}}
    assert set(parsed(answer["contract"]).families) == {"topic", "qa"}


def test_it_is_written_to_a_new_file_and_never_over_one(suggest: Any, collected: None) -> None:
    out, err = suggest("--write", "data/contract/mine.yaml")
    assert out == ""
    assert "Written to data/contract/mine.yaml" in err
    assert set(load_contract(Path("data/contract")).families) == {"topic", "qa"}
    Path("data/contract/mine.yaml").write_text("families: {}  # mine\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.yaml: exists already, and is not overwritten"):
        suggest("--write", "data/contract/mine.yaml")
    assert "# mine" in Path("data/contract/mine.yaml").read_text(encoding="utf-8")


def test_labels_and_patterns_of_any_characters_are_read_back(suggest: Any, collected: None) -> None:
    odd = ['a"b', "c: #d", "日\u2028本", "\\n", "👍\x07", "- x", "null"]
    records = [
        {"text": f'[问]: "{number * 7919 % 1000}" 多少？\u200b\x01', "label": odd[number % len(odd)]}
        for number in range(70)
    ]
    write_jsonl(Path("inbox/news.jsonl"), records)
    write_jsonl(Path("inbox/odd.jsonl"), records)
    collect([{"name": "odd", "path": "inbox/odd.jsonl", "shape": "text_label", "family": "odd-1"}])
    (family,) = parsed(suggest("--source", "odd")[0]).families.items()
    assert family[0] == "odd-1"
    assert set(family[1].labels or ()) == set(odd)


@pytest.mark.parametrize(
    ("path", "shape", "columns", "most_refused"),
    [
        ("llamafactory/alpaca_en_demo.json", "alpaca", {}, 0.005),
        ("llamafactory/alpaca_zh_demo.json", "alpaca", {}, 0.005),
        ("banking77/train.csv", "text_label", {"label": "category"}, 0.005),
    ],
)
def test_real_data_are_accepted_by_the_contract_that_they_suggest(
    path: str, shape: str, columns: dict[str, str], most_refused: float, suggest: Any, collected: None
) -> None:
    collect([{"name": "real", "path": str(real(path)), "shape": shape, "family": "real", "columns": columns}])
    answer = json.loads(suggest("--source", "real", "--json")[0])
    counts = answer["refused"]["real"]
    assert counts["records"] >= 400
    assert counts["refused"] <= most_refused * counts["records"], counts
    if "banking" in path:
        assert len(answer["families"]["real"]["labels"]) == 77
