"""The whole room in a project of its own: git, DVC and a tiny base model, and nothing collected is ever lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.project import params, write_params
from support.toy_rows import topic_records, write_jsonl

from tasks import paths
from tasks.config import load_config
from tasks.errors import BaseModelError, GitError, SourceError
from tasks.ingest import stage
from tasks.runtime.files import file_digest
from tasks.state.decisions import read_decisions
from tasks.state.manifest import read_manifest
from tasks.state.round import read_round

NEWS = {"name": "news", "path": "inbox/*.jsonl", "shape": "text_label", "family": "topic"}


def ingest(base: Path | str, *sources: dict[str, Any]) -> None:
    write_params(Path(), params(base, list(sources or [NEWS])))
    stage.run(load_config())


def test_ingest_brings_raw_base_decisions_and_the_round(
    project: Path, tiny_gpt2: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(project / "inbox/a.jsonl", topic_records(9))
    ingest(tiny_gpt2)
    assert "ingest: news: 9 new rows in 1 batch (9 rows in total)" in capsys.readouterr().err
    assert [batch.rows for batch in read_manifest()] == [9]
    assert paths.RAW_DVC.exists()
    assert json.loads(paths.BASE.read_text())["kind"] == "folder"
    assert read_decisions() == []
    assert read_round().champion is None

    before = {path: file_digest(path) for path in (paths.RAW_DVC, paths.BASE, paths.ROUND)}
    ingest(tiny_gpt2)
    assert "ingest: news: nothing new (9 rows in total)" in capsys.readouterr().err
    assert {path: file_digest(path) for path in before} == before

    write_jsonl(project / "inbox/a.jsonl", topic_records(12))
    ingest(tiny_gpt2)
    assert file_digest(paths.RAW_DVC) != before[paths.RAW_DVC]


def test_a_file_whose_name_is_not_utf_8_is_reported_on_any_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tasks.vcs.git.require_repository", lambda: None)
    write_jsonl(Path("inbox/a\udcd6.jsonl"), [])
    with pytest.raises(SourceError, match="the sources contain no rows"):
        ingest("no-base")
    assert "note: inbox/a\\udcd6.jsonl: contains no records" in capsys.readouterr().err


def test_what_was_collected_is_versioned_even_where_a_source_or_the_base_fails(project: Path, tiny_gpt2: Path) -> None:
    write_jsonl(project / "inbox/a.jsonl", topic_records(9))
    with pytest.raises(SourceError, match="source `gone`, path nowhere: no such file"):
        ingest(tiny_gpt2, NEWS, NEWS | {"name": "gone", "path": "nowhere"})
    first = file_digest(paths.RAW_DVC)
    assert len(read_manifest()) == 1

    write_jsonl(project / "inbox/b.jsonl", topic_records(3, start=9))
    with pytest.raises(BaseModelError):
        ingest("no-such-folder/model")
    assert file_digest(paths.RAW_DVC) != first
    assert len(read_manifest()) == 2


def test_an_ingestion_that_ended_before_dvc_is_completed_by_the_next(
    project: Path, tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.vcs import dvc_pipeline

    def killed() -> None:
        raise KeyboardInterrupt

    write_jsonl(project / "inbox/a.jsonl", topic_records(9))
    with monkeypatch.context() as patch:
        patch.setattr(dvc_pipeline, "add_raw", killed)
        with pytest.raises(KeyboardInterrupt):
            ingest(tiny_gpt2)
    assert not paths.RAW_DVC.exists()
    ingest(tiny_gpt2)
    assert paths.RAW_DVC.exists()
    assert dvc_pipeline.changed_stages().get(str(paths.RAW_DVC)) is None


def test_without_git_nothing_is_begun(project: Path, tiny_gpt2: Path) -> None:
    shutil.rmtree(project / ".git")
    write_jsonl(project / "inbox/a.jsonl", topic_records(9))
    with pytest.raises(GitError):
        ingest(tiny_gpt2)
    assert not paths.RAW.exists()
