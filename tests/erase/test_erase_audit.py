"""Old versions after an erasure: readable, and their gaps reported as lawful."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.erasing import SECRET, ids_of
from support.toyworld import git

from tasks import paths
from tasks.audit.digests import Digests
from tasks.audit.file_checks import erasure_note, is_intact_batch
from tasks.erase.stage import erase
from tasks.state.manifest import read_manifest
from tasks.vcs import dvc_outputs

pytestmark = pytest.mark.usefixtures("warm")


def test_an_audit_reports_lawfully_erased(world: Path) -> None:
    commit = git("rev-parse", "HEAD~1").strip()
    then = {batch.batch: batch for batch in read_manifest()}
    erase(ids_of(SECRET), why="asked to by the person")
    files = dvc_outputs.stored_files(commit, paths.RAW)
    assert "2 rows lawfully erased, not rebuildable" in erasure_note(files)
    assert "asked to by the person" in erasure_note(files)
    changed = [file for file in files if file.erasure]
    assert len(changed) == 1
    assert is_intact_batch(
        changed[0].path, then[Path(changed[0].relpath).stem].__dict__, changed[0].erasure, Digests(reads_all=True)
    )
    assert erasure_note(dvc_outputs.stored_files("HEAD", paths.CURATED)) == "", "no text of theirs stood there"


def test_an_empty_record_without_an_erasure_is_damage(world: Path) -> None:
    """Only records that data/erasures.jsonl names may lack their text."""
    from dataclasses import asdict, replace

    from tasks.runtime.files import file_digest

    erase(ids_of(SECRET), why="asked to")
    batch = next(batch for batch in read_manifest() if batch.source == "topic")
    table = pq.ParquetFile(batch.path).read()
    for name, value in (("record", None), ("error", "erased")):
        column = pa.array([value, *table[name].to_pylist()[1:]], pa.string())
        table = table.set_column(table.schema.get_field_index(name), name, column)
    batch.path.unlink()
    pq.write_table(table, batch.path)
    assert not is_intact_batch(
        batch.path, asdict(replace(batch, sha256=file_digest(batch.path))), None, Digests(reads_all=True)
    )


def test_an_old_version_can_still_be_read_except_for_the_erased_rows(world: Path, monkeypatch: Any) -> None:
    from tasks.lineage import version_data

    commit = git("rev-parse", "HEAD~1").strip()
    monkeypatch.setattr(version_data, "registered_versions", lambda model: [1])
    monkeypatch.setattr(version_data, "commit_of", lambda model, version: commit)
    erase(ids_of(SECRET), why="asked to")
    shutil.rmtree(".dvc/cache")  # as in another clone: all comes from the remote
    parts = version_data.parts_of("tiny", "v1")
    rows = sum(part.rows.num_rows for part in parts.values())
    assert rows > 60
    texts = [row["input"] for part in parts.values() for row in version_data.text_of(part, part.rows).to_pylist()]
    assert len(texts) == rows
