"""Content is trusted, not the manifest: manual changes of data/raw are detected before a row is read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from support.project import params, write_params
from support.tiny_models import make_tiny_gpt2
from support.toy_rows import qa_records, write_jsonl

from tasks import paths
from tasks.config import load_config
from tasks.curate.stage import run as curate
from tasks.errors import DataError
from tasks.ingest.stage import collect
from tasks.records import raw_bytes
from tasks.records.raw_bytes import require_unchanged
from tasks.render.stage import run as render
from tasks.state.manifest import read_manifest
from tasks.validate.stage import run as validate

pytestmark = pytest.mark.usefixtures("warm")


@pytest.fixture
def collected(project: Path, tmp_path: Path) -> Path:
    """Two batches, under DVC."""
    write_jsonl(project / "inbox/a.jsonl", qa_records(20))
    write_jsonl(project / "inbox/b.jsonl", qa_records(10, start=50))
    sources = [{"name": "qa", "path": "inbox/*.jsonl", "shape": "alpaca", "family": "qa"}]
    write_params(project, params(make_tiny_gpt2(tmp_path / "base"), sources))
    collect(load_config())
    require_unchanged(read_manifest())
    return project


def batch(number: int = 0) -> Path:
    return read_manifest()[number].path


def with_swapped_answers(path: Path, target: Path) -> None:
    table = pq.read_table(path)
    records = pc.replace_substring(table["record"], "City", "Town")
    pq.write_table(table.set_column(table.schema.get_field_index("record"), "record", records), target)


def rewrite(path: Path) -> None:
    with_swapped_answers(path, path.with_name("new"))
    path.with_name("new").replace(path)


def write_in_place(path: Path) -> None:
    with_swapped_answers(path, Path("new"))
    path.chmod(0o644)
    path.write_bytes(Path("new").read_bytes())


def flip_a_bit_and_set_the_time_back(path: Path) -> None:
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def truncate(path: Path) -> None:
    rewritten = path.read_bytes()[:-100]
    path.unlink()
    path.write_bytes(rewritten)


def put_the_other_in_its_place(path: Path) -> None:
    path.unlink()
    shutil.copyfile(batch(1), path)


@pytest.mark.parametrize(
    "change",
    [rewrite, write_in_place, flip_a_bit_and_set_the_time_back, truncate, put_the_other_in_its_place, Path.unlink],
)
def test_a_batch_that_was_changed_by_hand_is_named_with_the_remedy(
    change: Callable[[Path], None], collected: Path
) -> None:
    path = batch()
    change(path)
    for stage in (validate, curate, render, collect):
        with pytest.raises(DataError) as raised:
            stage(load_config())
        assert raised.value.where == str(path)
        assert "data/raw.dvc" in str(raised.value.fix)
    assert not paths.VALIDATED.exists()


def test_the_remedy_brings_the_batch_back(collected: Path) -> None:
    before = batch().read_bytes()
    rewrite(batch())
    with pytest.raises(DataError) as raised:
        require_unchanged(read_manifest())
    command = str(raised.value.fix).removeprefix("Restore it: ").split(". ")[0].split()
    assert command[0] == "dvc"
    subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True)
    assert batch().read_bytes() == before
    require_unchanged(read_manifest())


def test_a_changed_copy_in_dvcs_cache_is_reported(collected: Path) -> None:
    content = batch().read_bytes()
    cached = next(p for p in Path(".dvc/cache/files/md5").rglob("*") if p.is_file() and p.read_bytes() == content)
    batch().unlink()
    batch().hardlink_to(cached)  # as DVC's checkout makes it
    write_in_place(batch())
    with pytest.raises(DataError, match=str(cached)):
        require_unchanged(read_manifest())


def test_rows_that_no_manifest_names_are_not_taken_in(collected: Path) -> None:
    extra = paths.RAW / "qa" / "extra.parquet"
    with_swapped_answers(batch(), extra)
    for stage in (validate, collect):
        with pytest.raises(DataError, match="is not in the manifest") as raised:
            stage(load_config())
        assert raised.value.where == str(extra)


@pytest.mark.parametrize("is_forged", [True, False])
def test_an_edited_manifest_is_detected(is_forged: bool, collected: Path) -> None:
    entries = json.loads(paths.MANIFEST.read_text())
    if is_forged:  # with the digest of what was put in the batch's place
        rewrite(batch())
        entries["batches"][0]["sha256"] = raw_bytes.digest_files()[f"qa/{batch().name}"][1]
    else:
        entries["batches"][0]["rows"] += 1
    paths.MANIFEST.unlink()
    paths.MANIFEST.write_text(json.dumps(entries))
    for stage in (validate, collect):
        with pytest.raises(DataError, match="it was edited"):
            stage(load_config())


def test_an_interrupted_ingestion_is_no_tampering(collected: Path) -> None:
    recorded = paths.RAW_DVC.read_bytes()
    write_jsonl(collected / "inbox/c.jsonl", qa_records(5, start=90))
    collect(load_config())
    paths.RAW_DVC.write_bytes(recorded)  # killed before DVC knew of the third batch
    with pytest.raises(DataError, match="ingest"):
        validate(load_config())
    collect(load_config())
    require_unchanged(read_manifest())


def test_only_changed_files_are_read_and_all_of_them_without_a_cache(
    collected: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_bytes, "FRESH_NANOSECONDS", 0)
    raw_bytes.digest_files()
    read: list[str] = []
    digests = raw_bytes._digests
    monkeypatch.setattr(raw_bytes, "_digests", lambda path: (read.append(path.name), digests(path))[1])
    require_unchanged(read_manifest())
    assert read == []
    batch().touch()
    require_unchanged(read_manifest())
    assert read == [batch().name]
    shutil.rmtree(paths.CACHE)
    require_unchanged(read_manifest())
    assert len(read) == 4


def test_rows_that_were_erased_are_no_tampering(collected: Path) -> None:
    from tasks.erase.stage import erase

    validate(load_config())
    with pq.ParquetFile(next(paths.VALIDATED.glob("*.parquet"))) as file:
        row = file.read(["row_id"])["row_id"][0].as_py()
    subprocess.run(["git", "init", "-q"], check=True)
    assert erase([row], "asked to") is not None
    require_unchanged(read_manifest())
    errors = [error for number in (0, 1) for error in pq.read_table(batch(number))["error"].to_pylist()]
    assert errors.count("erased") == 1
