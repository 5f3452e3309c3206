"""The data of a registered version: pushed, and fetched in another clone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support import toyworld
from support.toyworld import git

from tasks import paths
from tasks.base.weights_digest import weights_digest
from tasks.config import load_config
from tasks.errors import VersioningError
from tasks.model_store.versions import commit_of, receipt_at
from tasks.register import stage
from tasks.register.pending import pending

pytestmark = pytest.mark.usefixtures("warm")


def test_the_data_is_pushed_and_a_failed_push_is_done_by_the_next_run(judged: Path, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    remote.write_text("a file where a folder should be")
    toyworld.set_remote(remote)
    with pytest.raises(VersioningError, match="the DVC remote cannot be used"):
        stage.run(load_config())
    assert pending(load_config())
    remote.unlink()
    assert stage.run(load_config()).version == 1
    assert any(remote.rglob("*.dir"))
    commit = commit_of("tiny", 1)
    assert commit is not None
    receipt = receipt_at(commit)
    assert receipt is not None
    assert receipt["remote"] == f"store {remote}"


def test_from_a_new_clone_of_the_tag_dvc_gets_the_data(judged: Path, tmp_path: Path) -> None:
    from dvc.repo import Repo

    toyworld.set_remote(tmp_path / "remote")
    stage.run(load_config())
    clone = tmp_path / "clone"
    git("clone", "-q", "--branch", "tiny@v1", str(judged), str(clone))
    Repo.get(str(clone), "data/raw", out=str(tmp_path / "raw"), rev="tiny@v1")
    command = ["dvc", "get", "-q", str(clone), "data/model", "--rev", "tiny@v1", "-o", str(tmp_path / "model")]
    subprocess.run([sys.executable, "-m", *command], check=True)
    assert weights_digest(tmp_path / "model") == weights_digest(paths.MODEL)
    raw = {p.name: p.read_bytes() for p in paths.RAW.rglob("*") if p.is_file()}
    assert {p.name: p.read_bytes() for p in (tmp_path / "raw").rglob("*") if p.is_file()} == raw
