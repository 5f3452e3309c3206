"""Sources become batches: what is already held is never added twice, and never lost."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.toy_rows import topic_records, write_jsonl

from tasks import paths
from tasks.errors import DataError, SourceError
from tasks.ingest import batches, sources
from tasks.ingest.changes.scan import anything_new
from tasks.ingest.settings import IngestSettings
from tasks.ingest.sources import IngestResult, ingest_sources
from tasks.records.raw_batch import RAW_SCHEMA, batch_id_of, record_digest
from tasks.runtime.files import file_digest, new_file
from tasks.state.manifest import Batch, read_manifest

NEWS = {"name": "news", "path": "inbox/*.jsonl", "shape": "text_label", "family": "topic"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(*sources: dict[str, Any]) -> IngestSettings:
    return IngestSettings.model_validate_json(json.dumps({"sources": list(sources or [NEWS])}))


def ingest(*sources: dict[str, Any]) -> IngestResult:
    return ingest_sources(settings(*sources))


def raw_rows(source: str = "news") -> list[dict[str, Any]]:
    return [row for b in read_manifest() if b.source == source for row in pq.read_table(b.path).to_pylist()]


def test_a_file_becomes_one_batch_with_every_record_in_order() -> None:
    records = topic_records(20)
    write_jsonl(Path("inbox/a.jsonl"), records)
    with Path("inbox/a.jsonl").open("a") as file:
        file.write('{"text": "half')
    result = ingest()
    (batch,) = result.new
    table = pq.read_table(batch.path)
    assert table.schema.equals(RAW_SCHEMA)
    rows = table.to_pylist()
    assert [json.loads(row["record"]) for row in rows[:20]] == records
    assert rows[20]["record"] is None
    assert rows[20]["raw"] == b'{"text": "half'
    assert rows[20]["error"].startswith("not_json: ")
    assert [row["line"] for row in rows] == list(range(1, 22))
    assert {(row["file"], row["shape"], row["family"]) for row in rows} == {("inbox/a.jsonl", "text_label", "topic")}
    assert (batch.ordinal, batch.rows, batch.sha256) == (1, 21, file_digest(batch.path))
    assert batch.batch == batch_id_of("news", [record_digest(row["record"], row["raw"]) for row in rows])
    assert read_manifest() == [batch]
    assert result.sources[0].unreadable == 1


@pytest.mark.parametrize("bound", [{}, {"max_rows": 1000}])
def test_a_file_among_many_does_not_read_all_earlier_ones(
    monkeypatch: pytest.MonkeyPatch, bound: dict[str, int]
) -> None:
    gone_through = []

    class Watched(list[Batch]):
        def __iter__(self) -> Any:
            gone_through.append(len(self))
            return super().__iter__()

    monkeypatch.setattr(sources, "read_manifest", Watched)
    for number in range(30):
        write_jsonl(Path(f"inbox/{number}.jsonl"), topic_records(1, start=number))
    assert len(ingest(NEWS | bound).new) == 30
    assert len(gone_through) < 15


def test_the_same_file_twice_renamed_reordered_or_copied_adds_nothing() -> None:
    records = [*topic_records(12), topic_records(1)[0]]  # one stands in it twice
    path = write_jsonl(Path("inbox/a.jsonl"), records)
    ingest()
    before = file_digest(paths.MANIFEST)

    assert not ingest().new
    path.rename("inbox/b.jsonl")
    assert not ingest().new
    random.Random(0).shuffle(records)
    write_jsonl(Path("inbox/b.jsonl"), records)
    assert not ingest().new
    write_jsonl(Path("inbox/c.jsonl"), records)
    assert not ingest().new
    keys_swapped = [{"label": each["label"], "text": each["text"]} for each in records]
    Path("inbox/d.jsonl").write_text(
        "\n".join(json.dumps(each, indent=None) for each in keys_swapped), encoding="utf-8"
    )
    assert not ingest().new
    paths.SCAN.unlink()
    assert not ingest().new
    assert file_digest(paths.MANIFEST) == before
    assert len(raw_rows()) == 13


def test_an_appended_file_adds_what_was_appended() -> None:
    write_jsonl(Path("inbox/a.jsonl"), topic_records(10))
    ingest()
    write_jsonl(Path("inbox/a.jsonl"), topic_records(14))
    (batch,) = ingest().new
    assert (batch.ordinal, batch.rows) == (2, 4)
    assert [row["line"] for row in pq.read_table(batch.path).to_pylist()] == [11, 12, 13, 14]


def test_one_record_appended_again_and_again_is_a_batch_each_time() -> None:
    record = topic_records(1)
    for times in range(1, 5):
        write_jsonl(Path("inbox/a.jsonl"), record * times)
        assert [batch.rows for batch in ingest().new] == [1]
    assert len({batch.batch for batch in read_manifest()}) == 4


def test_raw_does_not_depend_on_when_or_how_often_it_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        write_jsonl(Path("inbox/b.jsonl"), topic_records(9, start=9))
        write_jsonl(Path("inbox/a.jsonl"), topic_records(9))
        ingest()
        digests.append(file_digest(paths.MANIFEST))
    assert digests[0] == digests[1]


def test_max_rows_bounds_the_whole_source_in_file_order() -> None:
    write_jsonl(Path("inbox/b.jsonl"), topic_records(10, start=10))
    write_jsonl(Path("inbox/a.jsonl"), topic_records(10))
    capped = NEWS | {"max_rows": 13}
    assert [batch.rows for batch in ingest(capped).new] == [10, 3]
    assert not ingest(capped).new
    assert not anything_new(settings(capped))
    assert [batch.rows for batch in ingest(NEWS | {"max_rows": 15}).new] == [2]
    assert [batch.rows for batch in ingest(NEWS).new] == [5]


def test_a_missing_source_does_not_keep_the_others_from_being_read() -> None:
    write_jsonl(Path("inbox/a.jsonl"), topic_records(5))
    missing = NEWS | {"name": "gone", "path": "nowhere/*.jsonl"}
    result = ingest(missing, NEWS)
    assert [batch.rows for batch in result.new] == [5]
    with pytest.raises(SourceError, match=r"source `gone`, path nowhere/\*\.jsonl: no such file\. Put the file there"):
        result.raise_errors()
    assert len(raw_rows()) == 5
    assert anything_new(settings(missing, NEWS))  # it is tried and reported again


def test_a_wrong_column_is_named_with_those_there_and_the_nearest() -> None:
    write_jsonl(Path("inbox/a.jsonl"), [{"body": "a", "section": "b"}])
    write_jsonl(Path("good.jsonl"), topic_records(3))
    result = ingest(
        NEWS | {"columns": {"text": "boddy", "label": "section"}}, NEWS | {"name": "good", "path": "good.jsonl"}
    )
    assert [batch.source for batch in result.new] == ["good"]
    with pytest.raises(SourceError) as caught:
        result.raise_errors()
    message = str(caught.value)
    assert "source `news`, inbox/a.jsonl: no record has a column `boddy`; there are `body`, `section`" in message
    assert "Did you mean `body`? Map the field to its column: `columns: {text: body}`" in message
    assert not list(paths.RAW.glob("news/*"))
    assert [batch.rows for batch in ingest(NEWS | {"columns": {"text": "body", "label": "section"}}).new] == [1]


def test_a_column_that_only_some_records_have_is_no_wrong_column() -> None:
    write_jsonl(Path("inbox/a.jsonl"), [{"text": "a"}, {"text": "b", "label": "c"}])
    assert not ingest().errors


def test_all_errors_of_sources_are_reported_at_once() -> None:
    write_jsonl(Path("inbox/a.jsonl"), [{"x": 1}])
    Path("inbox/b.parquet").write_bytes(b"no parquet")
    result = ingest(NEWS, NEWS | {"name": "p", "path": "inbox/b.parquet"}, NEWS | {"name": "f", "path": "inbox/*.gz"})
    with pytest.raises(SourceError, match="3 sources or files could not be read") as caught:
        result.raise_errors()
    assert "source `f`, path inbox/*.gz: no such file" in str(caught.value)
    assert "inbox/b.parquet: cannot be read as Parquet" in str(caught.value)


def test_an_empty_file_is_a_note_and_no_rows_at_all_an_error() -> None:
    write_jsonl(Path("inbox/a.jsonl"), [])
    write_jsonl(Path("inbox/b.jsonl"), topic_records(2))
    result = ingest()
    assert result.problems == ["inbox/a.jsonl: contains no records"]
    result.raise_errors()

    paths.MANIFEST.unlink()
    Path(f"data/raw/news/{result.new[0].batch}.parquet").unlink()
    Path("inbox/b.jsonl").unlink()
    with pytest.raises(SourceError, match=r"the sources contain no rows \(inbox/a\.jsonl: contains no records\)"):
        ingest().raise_errors()


def test_no_source_at_all_is_an_error() -> None:
    with pytest.raises(SourceError, match="declares no source"):
        ingest_sources(IngestSettings()).raise_errors()


def test_a_file_that_shrank_or_was_rewritten_is_named_and_its_rows_kept() -> None:
    path = write_jsonl(Path("inbox/a.jsonl"), topic_records(10))
    ingest()
    write_jsonl(path, topic_records(4))
    assert "inbox/a.jsonl: was edited or truncated" in ingest().problems[0]
    write_jsonl(path, topic_records(8, start=50))
    assert "inbox/a.jsonl: was rewritten" in ingest().problems[0]
    write_jsonl(path, topic_records(9, start=50))
    assert not ingest().problems
    assert len(raw_rows()) == 10 + 9


def test_a_changed_declaration_of_a_source_is_reported() -> None:
    path = write_jsonl(Path("inbox/a.jsonl"), topic_records(3))
    ingest()
    write_jsonl(path, topic_records(4))
    (problem,) = ingest(NEWS | {"family": "intent"}).problems
    assert "source `news`: its declaration changed after rows were collected (family topic → intent)" in problem


def test_a_crash_before_the_manifest_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.ingest import sources

    write_jsonl(Path("inbox/a.jsonl"), topic_records(6))
    write_jsonl(Path("inbox/b.jsonl"), topic_records(6, start=6))

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sources, "write_manifest", crash)
        with pytest.raises(KeyboardInterrupt):
            ingest()
    assert read_manifest() == []
    Path("inbox/a.jsonl").unlink()  # it is nowhere else any more
    Path("data/raw/news/.news.writing").write_bytes(b"half")
    Path("data/raw/news/0123456789abcdef.parquet").write_bytes(b"somebody's")
    result = ingest()
    assert [batch.ordinal for batch in result.new] == [1, 2]
    assert len(raw_rows()) == 12
    assert not Path("data/raw/news/.news.writing").exists()
    assert Path("data/raw/news/0123456789abcdef.parquet").exists()
    assert not ingest().new


def test_a_full_disk_leaves_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(Path("inbox/a.jsonl"), topic_records(6))
    ingest()
    before = file_digest(paths.MANIFEST)
    write_jsonl(Path("inbox/b.jsonl"), topic_records(6, start=6))

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(batches, "sync", full)
        with pytest.raises(OSError, match="No space left"):
            ingest()
    assert file_digest(paths.MANIFEST) == before
    assert not list(paths.RAW.rglob(".*"))
    assert [batch.rows for batch in ingest().new] == [6]


def test_raw_data_that_is_not_here_is_not_begun_anew() -> None:
    write_jsonl(Path("inbox/a.jsonl"), topic_records(2))
    paths.RAW_DVC.parent.mkdir()
    paths.RAW_DVC.write_text("outs: []\n")
    with pytest.raises(
        DataError, match=r"data/raw\.dvc: refers to raw data that is not on the disk\. Restore it: dvc checkout"
    ):
        ingest()


def test_half_a_surrogate_pair_is_kept() -> None:
    Path("inbox").mkdir()
    Path("inbox/a.jsonl").write_text('{"text": "\\ud83d", "label": "好"}\n', encoding="utf-8")
    ingest()
    (row,) = raw_rows()
    assert json.loads(row["record"]) == {"text": "\ud83d", "label": "好"}


def test_a_large_file_is_written_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "ROWS_AT_ONCE", 7)
    write_jsonl(Path("inbox/a.jsonl"), topic_records(50))
    (batch,) = ingest().new
    assert pq.read_metadata(batch.path).num_row_groups == 8
    assert [json.loads(row["record"]) for row in raw_rows()] == topic_records(50)


def test_the_quick_scan_sees_what_changed_and_nothing_else() -> None:
    path = write_jsonl(Path("inbox/a.jsonl"), topic_records(3))
    assert anything_new(settings())
    ingest()
    assert not anything_new(settings())
    os.utime(path, ns=(1, 1))
    assert anything_new(settings())
    assert not ingest().new  # its bytes are the same
    assert not anything_new(settings())
    assert anything_new(settings(NEWS | {"family": "intent"}))
    write_jsonl(Path("inbox/b.jsonl"), topic_records(1, start=7))
    assert anything_new(settings())
    ingest()
    path.unlink()
    assert anything_new(settings())
    ingest()
    assert not anything_new(settings())
    paths.SCAN.write_text("no json")
    assert anything_new(settings())


def test_the_quick_scan_imports_nothing_heavy_and_is_quick() -> None:
    import subprocess
    import sys
    import time

    Path("inbox").mkdir()
    for number in range(2000):
        Path(f"inbox/{number:05d}.jsonl").write_text(json.dumps(topic_records(1, start=number)[0]))
    ingest(NEWS | {"max_rows": 5})
    capped = settings(NEWS | {"max_rows": 5})
    anything_new(capped)
    started = time.monotonic()
    assert not anything_new(capped)
    assert time.monotonic() - started < 1  # 0.03 s alone on a quiet machine
    heavy = ["pyarrow", "pandas", "torch", "dvc", "mlflow", "prefect", "numpy", "great_expectations"]
    code = f"import sys, tasks.ingest.sources; print([m for m in {heavy} if m in sys.modules])"
    root = Path(__file__).resolve().parents[2]
    ran = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True)
    assert ran.stdout.strip() == b"[]", ran.stderr


def test_the_use_of_rows_is_stored_with_them_and_a_change_is_reported() -> None:
    path = write_jsonl(Path("inbox/a.jsonl"), topic_records(2))
    ingest(NEWS | {"use": "golden"}, NEWS | {"name": "plain"})
    assert {row["use"] for row in raw_rows("news")} == {"golden"}
    assert {row["use"] for row in raw_rows("plain")} == {"train"}
    write_jsonl(path, topic_records(3))
    (problem,) = ingest(NEWS | {"use": "benchmark"}).problems
    assert "(use golden → benchmark)" in problem


def test_an_old_batch_without_a_use_is_for_training() -> None:
    path = write_jsonl(Path("inbox/a.jsonl"), topic_records(2))
    (batch,) = ingest().new
    table = pq.read_table(batch.path).drop_columns(["use"])
    pq.write_table(table, batch.path)
    write_jsonl(path, topic_records(3))
    assert ingest().problems == []


def test_what_a_killed_run_left_half_written_is_no_file_of_the_next_dataset_version() -> None:
    write_jsonl(Path("inbox/a.jsonl"), topic_records(5))
    (batch,) = ingest().new
    left = [
        new_file(path.parent, f".{path.name}.") for path in (paths.MANIFEST, batch.path)
    ]  # as `replacing` makes them
    (own := paths.RAW / ".gitkeep").touch()
    assert not ingest().new
    assert not any(path.exists() for path in left)
    assert own.exists()
