"""A batch of any size is judged in chunks: the same bytes with one process or two, in the memory of a chunk."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.project import REPOSITORY
from support.toy_contract import alpaca, raw_of
from support.toy_rows import qa_records, write_jsonl

from tasks import paths
from tasks.errors import ConfigError, DataError
from tasks.ingest.settings import IngestSettings
from tasks.ingest.sources import ingest_sources
from tasks.runtime.files import file_digest, folder_digest, read_json, write_parquet
from tasks.runtime.spawned_workers import Workers
from tasks.state.manifest import Batch, read_manifest
from tasks.validate import chunks, stage
from tasks.validate.load_contract import load_contract
from tasks.validate.settings import ValidateSettings


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths.CONTRACT.parent.mkdir(parents=True)
    paths.CONTRACT.write_text((REPOSITORY / paths.CONTRACT).read_text(encoding="utf-8"), encoding="utf-8")


def collect(records: list[dict[str, Any]], columns: dict[str, str] | None = None) -> Batch:
    write_jsonl(Path("inbox/qa.jsonl"), records)
    source = {"name": "qa", "path": "inbox/*.jsonl", "shape": "alpaca", "family": "qa", "columns": columns or {}}
    ingest_sources(IngestSettings.model_validate_json(json.dumps({"sources": [source]})))
    return read_manifest()[0]


def validate(**settings: Any) -> tuple[dict[str, Any], str, str]:
    """The report, and the digests of the outputs, made anew."""
    import shutil

    shutil.rmtree(paths.VALIDATE_CACHE, ignore_errors=True)
    given = {"data_docs": False, "max_refused_share": 0.5} | settings
    stage.run(SimpleNamespace(validate_=ValidateSettings(**given)))  # type: ignore[arg-type]
    return read_json(paths.VALIDATE_REPORT), folder_digest(paths.VALIDATED), folder_digest(paths.QUARANTINE)


def quarantined() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(next((paths.QUARANTINE / "validate").iterdir())).to_pylist()
    return rows


RECORDS = [
    *qa_records(30),
    {"instruction": "", "output": "x"},
    {"instruction": "A?", "output": 3},
    *({**record, "key": number % 17} for number, record in enumerate(qa_records(30, start=50))),
]


def test_one_process_and_two_write_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "RECORDS", 7)
    collect(RECORDS, {"id": "key"})
    alone = validate(processes=1)
    assert alone == validate(processes=2)
    report = alone[0]
    assert report["reasons"] == {"duplicate_id": 13, "input_too_short": 1, "wrong_type": 1}
    assert (report["rows"], report["accepted"], report["refused"]) == (62, 47, 15)


def test_an_id_that_is_repeated_in_another_chunk_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    collect(RECORDS, {"id": "key"})
    whole = validate()[0]
    before = quarantined()
    monkeypatch.setattr(chunks, "RECORDS", 7)
    assert validate()[0] == whole
    assert quarantined() == before
    twice = [row for row in before if row["reason"] == "duplicate_id"]
    assert [row["index"] for row in twice] == list(range(32 + 17, 62))
    assert (twice[0]["field"], twice[0]["value"]) == ("id", "0")
    assert json.loads(twice[0]["record"])["key"] == 0


def test_a_large_batch_that_is_set_aside_is_in_quarantine_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "RECORDS", 7)
    batch = collect([*qa_records(20), *({"instruction": "A?", "output": 3} for _ in range(5))])
    with pytest.raises(DataError, match="none of 25 rows was accepted"):
        validate(max_refused_share=0.1)
    rows = quarantined()
    assert [row["index"] for row in rows] == list(range(batch.rows))
    assert [row["reason"] for row in rows] == ["batch_set_aside"] * 20 + ["wrong_type"] * 5
    assert json.loads(rows[0]["record"])["output"] == "City 0."


def test_great_expectations_sees_the_verdict_of_a_large_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "RECORDS", 7)
    collect(RECORDS, {"id": "key"})
    assert validate(data_docs=True)[0]["refused"] == 15
    assert list(paths.DATA_DOCS.glob("validations/**/*.html"))


def test_chunks_are_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = raw_of([alpaca("x" * (50_000 if number in (3, 4) else 10)) for number in range(40)])
    batch = Batch(1, "0" * 16, "s", raw.num_rows, "")
    write_parquet(batch.path, raw)
    monkeypatch.setattr(chunks, "BYTES", 10_000)
    read = list(chunks.read_chunks(batch))
    assert [first for first, _ in read] == [
        sum(part.num_rows for _, part in read[:place]) for place in range(len(read))
    ]
    assert pa.concat_tables([part for _, part in read]).equals(raw)
    assert all(part.num_rows == 1 or part.nbytes <= 2 * 10_000 for _, part in read)
    assert all(part.num_rows == 1 or len(pickle.dumps(part)) <= 3 * 10_000 for _, part in read)  # as it is sent


def test_results_are_in_order_and_an_error_of_a_worker_is_raised() -> None:
    workers = Workers(2, "validate")
    try:
        assert list(workers.map(pow, ((number, 2) for number in range(20)))) == [number**2 for number in range(20)]
        with pytest.raises(ZeroDivisionError):
            list(workers.map(divmod, [(1, 1), (1, 0), (2, 1)]))
        with pytest.raises(ConfigError, match=r"no/b: not found\. Restore it: git checkout"):
            list(workers.map(load_contract, [(Path("data/contract"),), (Path("no/b"),)]))
    finally:
        workers.close()


def test_a_killed_worker_process_is_reported_in_one_line() -> None:
    workers = Workers(2, "validate")
    with pytest.raises(
        DataError, match=r"a worker process of validate was killed.*Set validate\.processes: 1 in params\.yaml"
    ):
        list(workers.map(os._exit, [(9,), (9,)]))
    workers.close()


MEASURE = """
import sys
from tasks.state.manifest import Batch
from tasks.validate import chunks
from tasks.validate.contract.contract import FamilyContract
from tasks.validate.judge import merge_chunks
from tasks.validate.stage import check_chunk
chunks.BYTES = 4 << 20
batch = Batch(1, sys.argv[1], "s", 0, "")
merge_chunks([check_chunk(chunk, batch, first, FamilyContract()) for first, chunk in chunks.read_chunks(batch)], FamilyContract())
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_memory_does_not_grow_with_the_batch() -> None:
    peaks = {}
    for name, rows in (("small", 4_000), ("large", 40_000)):
        raw = raw_of([alpaca(f"{number} " * 500, f"Do {number}.") for number in range(rows)])
        batch = Batch(1, name, "s", rows, "")
        write_parquet(batch.path, raw)
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        result = subprocess.run(
            [sys.executable, "-c", MEASURE, name], env=environment, capture_output=True, text=True, check=True
        )
        peaks[name] = int(result.stdout) / 1024
        size = raw.nbytes / 2**20
        del raw
    assert size > 90, "the large batch is much larger than a chunk"
    assert peaks["large"] - peaks["small"] < size / 2, peaks
    assert file_digest(batch.path)
