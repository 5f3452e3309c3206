"""The stage: bad batches do not stop the run, decisions are applied, and an old batch costs nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.project import REPOSITORY
from support.toy_rows import qa_records, topic_records, write_jsonl

from tasks import paths
from tasks.errors import DataError
from tasks.ingest.settings import IngestSettings
from tasks.ingest.sources import ingest_sources
from tasks.records.parse import read_raw, to_rows
from tasks.runtime.files import folder_digest, read_json
from tasks.state.decisions import record_decision
from tasks.state.manifest import read_manifest, write_manifest
from tasks.validate import cache, stage
from tasks.validate.settings import ValidateSettings

SOURCES = [
    {"name": "news", "path": "inbox/news*.jsonl", "shape": "text_label", "family": "topic"},
    {"name": "qa", "path": "inbox/qa*.jsonl", "shape": "alpaca", "family": "qa"},
]
BAD = [{"text": "", "label": "sport"}, {"text": "a", "label": ""}, {"text": "a", "label": 1.5}]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths.CONTRACT.parent.mkdir(parents=True)
    shutil.copy(REPOSITORY / paths.CONTRACT, paths.CONTRACT)
    write_jsonl(Path("inbox/news1.jsonl"), [*topic_records(20), {"text": "", "label": "tech"}])
    write_jsonl(Path("inbox/news2.jsonl"), [*topic_records(4, start=20), *BAD])
    write_jsonl(Path("inbox/qa1.jsonl"), qa_records(10))
    ingest()


def ingest() -> None:
    ingest_sources(IngestSettings.model_validate_json(json.dumps({"sources": SOURCES})))


def validate(**settings: Any) -> dict[str, Any]:
    stage.run(SimpleNamespace(validate_=ValidateSettings(data_docs=False, **settings)))  # type: ignore[arg-type]
    report: dict[str, Any] = read_json(paths.VALIDATE_REPORT)
    return report


def accepted() -> list[dict[str, Any]]:
    rows = []
    for batch in read_manifest():
        part = paths.VALIDATED / batch.part
        if part.exists():
            rows += to_rows(read_raw(batch), batch).take(pq.read_table(part)["index"]).to_pylist()
    return rows


def quarantined() -> list[dict[str, Any]]:
    parts = sorted((paths.QUARANTINE / "validate").glob("*.parquet"))
    return [row for part in parts for row in pq.read_table(part).to_pylist()]


def test_a_bad_batch_is_set_aside_with_a_warning_and_the_run_continues(capsys: pytest.CaptureFixture[str]) -> None:
    report = validate()
    first, second, third = read_manifest()
    assert [line["state"] for line in report["batches"]] == ["accepted", "set_aside", "accepted"]
    assert (report["rows"], report["accepted"], report["refused"]) == (38, 30, 8)
    assert report["set_aside"] == [
        {
            "batch": second.batch,
            "source": "news",
            "rows": 7,
            "refused_share": 0.428571,
            "top_reasons": [["empty_field", 1], ["empty_output", 1], ["wrong_type", 1]],
        }
    ]
    assert sorted(path.name for path in paths.VALIDATED.iterdir()) == [first.part, third.part]
    assert {row["batch"] for row in quarantined()} == {first.batch, second.batch}
    message = capsys.readouterr().err
    assert (
        f"BATCH SET ASIDE: {second.batch} of source news: 42.9% of its 7 rows are refused, and the bound is 20.0%"
        in message
    )
    assert "empty_field 1, empty_output 1, wrong_type 1" in message


def test_a_batch_that_is_set_aside_for_too_few_rows_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    text = paths.CONTRACT.read_text(encoding="utf-8")
    paths.CONTRACT.write_text(text.replace("min_batch_rows: 1 ", "min_batch_rows: 11 "), encoding="utf-8")
    validate()
    bad, small = [line for line in capsys.readouterr().err.splitlines() if "SET ASIDE" in line]
    assert "of source qa: it has 10 rows, fewer than `min_batch_rows` of the contract. Most frequent: too_few" in small
    assert "bound" not in small
    assert "it has 7 rows, fewer than `min_batch_rows` of the contract; 42.9% of its 7 rows are refused" in bad


def test_cache_entries_of_removed_batches_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    def kept() -> set[str]:
        return {path.name for path in (paths.VALIDATE_CACHE / "batches").iterdir()}

    validate()
    before = kept()
    assert len(before) == 6  # the family and the row ids of three
    gone, *rest = read_manifest()
    gone.path.unlink()
    write_manifest(rest)
    validate()
    assert kept() == before, "a few are kept for when they come back"
    monkeypatch.setattr(cache, "MAX_UNUSED", 0)
    record_decision("exclude", rest[0].batch, "doubtful")
    validate()
    assert len(kept()) == 4, "an excluded batch may be included again"
    assert kept() < before
    assert gone.batch not in {batch.batch for batch in read_manifest()}


def test_the_bound_is_a_setting() -> None:
    assert not validate(max_refused_share=0.5)["set_aside"]
    assert len(accepted()) == 34


def test_an_excluded_batch_yields_nothing_until_it_is_included_again() -> None:
    validate()
    before = folder_digest(paths.VALIDATED)
    news = read_manifest()[0]
    record_decision("exclude", news.batch, "doubtful")
    report = validate()
    assert report["excluded"] == [news.batch]
    assert {row["source"] for row in accepted()} == {"qa"}
    assert news.batch not in {row["batch"] for row in quarantined()}
    record_decision("include", news.batch, "it was fine")
    assert validate()["excluded"] == []
    assert folder_digest(paths.VALIDATED) == before


def test_released_and_dropped_rows_follow_the_decision() -> None:
    validate()
    refused = next(row for row in quarantined() if row["reason"] == "empty_field")
    dropped = accepted()[0]
    record_decision("release", refused["row_id"], "an empty text may be classified")
    record_decision("drop", dropped["row_id"], "personal data")
    report = validate()
    assert report["released"] == 1
    assert refused["row_id"] in {row["row_id"] for row in accepted()}
    assert dropped["row_id"] not in {row["row_id"] for row in accepted()}
    assert [row["reason"] for row in quarantined() if row["row_id"] == dropped["row_id"]] == ["dropped_by_decision"]


def test_old_batches_are_not_judged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[str] = []
    real = stage.check_chunk

    def watch(chunk: Any, batch: Any, *more: Any) -> Any:
        judged.append(batch.source)
        return real(chunk, batch, *more)

    monkeypatch.setattr(stage, "check_chunk", watch)
    validate()
    before = folder_digest(paths.VALIDATED)
    assert judged == ["news", "news", "qa"]
    validate()
    assert len(judged) == 3
    assert folder_digest(paths.VALIDATED) == before

    write_jsonl(Path("inbox/qa2.jsonl"), qa_records(3, start=10))
    ingest()
    validate()
    assert judged[3:] == ["qa"]

    record_decision("drop", next(row["row_id"] for row in accepted() if row["source"] == "qa"), "wrong")
    validate()
    assert judged[4:] == ["qa"]  # only the batch that holds the row

    text = paths.CONTRACT.read_text(encoding="utf-8")
    paths.CONTRACT.write_text(text.replace("max_output_segments: 1000", "max_output_segments: 999"), encoding="utf-8")
    validate()
    assert judged[5:] == ["qa", "qa"]  # only the family whose rules changed

    shutil.rmtree(paths.CACHE)
    after = folder_digest(paths.VALIDATED)
    validate()
    assert len(judged) == 7 + 4
    assert folder_digest(paths.VALIDATED) == after


def test_another_code_is_another_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    validate()
    kept = {path.name for path in paths.VALIDATE_CACHE.iterdir()}
    monkeypatch.setattr(cache, "code_digest", lambda: "another")
    validate()
    assert len({path.name for path in paths.VALIDATE_CACHE.iterdir()} - kept) == 3


def test_a_batch_that_is_missing_or_changed_is_named() -> None:
    path = read_manifest()[0].path
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"x")
    with pytest.raises(DataError, match=rf"{path}: changed since it was collected\. Restore it: dvc checkout"):
        validate()
    path.unlink()
    with pytest.raises(DataError, match=rf"{path}: is in the manifest, but not on the disk"):
        validate()


def test_an_output_that_was_edited_in_place_does_not_come_back_from_the_cache() -> None:
    validate()
    for folder in (paths.VALIDATED, paths.QUARANTINE / "validate"):
        before = folder_digest(folder)
        part = next(folder.glob("*.parquet"))
        status = part.stat()
        part.chmod(0o644)
        part.write_bytes(part.read_bytes()[::-1])  # a hard link of what the cache keeps
        assert part.stat().st_ino == status.st_ino
        validate()
        assert folder_digest(folder) == before


def test_no_accepted_row_is_an_error_with_its_reasons() -> None:
    for batch in read_manifest()[::2]:
        record_decision("exclude", batch.batch, "test")
    with pytest.raises(
        DataError, match=r"none of 38 rows was accepted \(empty_field 1, empty_output 1, wrong_type 1\)"
    ):
        validate()
    assert quarantined()


def test_no_batch_is_an_error_with_a_fix() -> None:
    shutil.rmtree(paths.RAW)
    with pytest.raises(DataError, match=r"there is no batch\. Ingest one: python -m tasks ingest"):
        validate()
