"""The fast status before DVC's: every file is unchanged since DVC last reported all stages up to date."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tasks.vcs.dvc_fast_status import is_unchanged, save_clean_digest, stat_digest

DVC_YAML = """
stages:
  curate:
    cmd: "true"
    deps: [data/raw, tasks/curate]
    outs: [data/curated]
    metrics: [data/reports/curate.json]
"""


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    files = {"dvc.yaml": DVC_YAML, "params.yaml": "{}", "dvc.lock": "", "data/raw.dvc": "", "data/raw/a/1.parquet": "1"}
    files |= {"data/curated/1.parquet": "1", "data/reports/curate.json": "{}", "tasks/curate/stage.py": ""}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    save_clean_digest(stat_digest())
    return tmp_path


def test_unchanged_files_are_unchanged_and_files_of_no_stage_do_not_count(clean: Path) -> None:
    assert is_unchanged()
    (clean / "notes.txt").write_text("mine")
    (clean / "tasks/curate/__pycache__").mkdir()
    (clean / "tasks/curate/__pycache__/stage.pyc").write_text("x")
    assert is_unchanged()


@pytest.mark.parametrize(
    "name", ["params.yaml", "dvc.yaml", "dvc.lock", "data/raw.dvc", "data/raw/a/1.parquet", "data/reports/curate.json"]
)
def test_a_file_written_again_is_a_change_even_with_as_many_bytes(clean: Path, name: str) -> None:
    content = (clean / name).read_text()
    time.sleep(0.02)
    (clean / name).write_text(content if name == "dvc.yaml" else content[::-1])
    assert not is_unchanged()


def test_files_that_come_and_go_are_changes(clean: Path) -> None:
    (clean / "data/raw/a/2.parquet").write_text("2")
    assert not is_unchanged()
    save_clean_digest(stat_digest())
    (clean / "data/curated/1.parquet").unlink()
    assert not is_unchanged()


def test_another_file_in_its_place_is_a_change(clean: Path) -> None:
    path = clean / "data/curated/1.parquet"
    status = path.stat()
    (clean / "other").write_text("2")
    os.utime(clean / "other", ns=(status.st_atime_ns, status.st_mtime_ns))
    (clean / "other").replace(path)
    assert not is_unchanged()


def test_without_a_stored_digest_nothing_is_unchanged(clean: Path) -> None:
    (clean / ".strop/clean.json").unlink()
    assert not is_unchanged()
